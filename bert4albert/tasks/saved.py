"""What a saved task's folder says, checked before anything is built from it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

from bert4albert import tasks
from bert4albert.checkpoint.export import require_finite
from bert4albert.checkpoint.formats.h5_weights import count_numbers
from bert4albert.checkpoint.names import count_parameters, weight_shapes
from bert4albert.config import ModelConfig
from bert4albert.errors import DataError, did_you_mean, require_choice
from bert4albert.files import reading, writing
from bert4albert.model import Trunk
from bert4albert.plain_files import read_json
from bert4albert.tasks.task_card import CARD_FILE, card, is_own
from bert4albert.text import Tokenizer

if TYPE_CHECKING:
    from bert4albert.tasks.task import Task

TASK_FILE, CONFIG_FILE, WEIGHTS_FILE = "task.json", "config.json", "model.weights.h5"
VOCABULARIES = ("vocab.txt", "spiece.model", "tokenizer.json")

_MOST_BYTES = 2**24
_DTYPES = ("float32", "float16", "bfloat16", "float64", "mixed_float16", "mixed_bfloat16")


@dataclass(frozen=True)
class Saved:
    """A saved task.

    Attributes:
        task: the name of its class.
        settings: the arguments of its constructor.
        dtype: the name of its dtype policy.
        vocabulary: its tokenizer's `digest`; None for a task saved before there was one.
        config: its trunk's config.
        count: how many numbers its weights have.
    """

    folder: Path
    task: str
    settings: dict[str, Any]
    dtype: str
    vocabulary: str | None
    config: ModelConfig
    count: int

    def tokenizer(self) -> Tokenizer:
        """Return its tokenizer. Raises `DataError` for another one than that of the save."""
        tokenizer = Tokenizer(self.folder)
        if self.vocabulary is not None and tokenizer.digest != self.vocabulary:
            raise DataError(
                f"The vocabulary in {self.folder} is not the one that the task was saved with: it was cut short or "
                "changed since; copy the folder again, or save the task again."
            )
        return tokenizer

    def refuse_larger(self, model: Callable[[], keras.Model]) -> None:
        """Raise `DataError` if a model, made here without memory for new weights, has more than were saved."""
        try:
            with keras.StatelessScope(initialize_variables=False):
                shapes = [tuple(variable.shape) for variable in model().weights]
        except (TypeError, ValueError, OverflowError) as error:
            raise self.unusable(error) from error
        if count_parameters(shapes) > self.count:
            raise DataError(
                f"{self.folder / TASK_FILE} describes a model of {count_parameters(shapes):,} numbers, and "
                f"{WEIGHTS_FILE} holds {self.count:,}; the files do not belong together, save the task again."
            )

    def unusable(self, error: Exception) -> DataError:
        """Return the error for settings from which no task can be made."""
        return DataError(f"{self.folder / TASK_FILE} has settings that cannot be used ({error}): save the task again.")


def task_json(task: str, settings: dict[str, Any], policy: Any, tokenizer: Tokenizer) -> str:
    """Return the content of a task's own file."""
    values = {
        "task": task,
        "settings": settings,
        "dtype": keras.dtype_policies.serialize(policy),
        "vocabulary": tokenizer.digest,
    }
    return as_json(values)


def load_saved(folder: Path, task_class: type[Any] | None, dtype: Any) -> Any:
    """Return the task in a folder; arguments as in `Task.load`, without a class it is that of the folder."""
    with reading(folder):
        saved = read_saved(folder)
        if task_class is not None and saved.task != task_class.__name__:
            raise DataError(f"{folder} holds a {saved.task}, not a {task_class.__name__}: use load_task(folder).")
        task_class = task_class or _task_class(saved.task, folder)
        tokenizer = saved.tokenizer()
        trunk = Trunk(saved.config, dtype=saved.dtype if dtype is None else dtype)
        try:
            task = task_class(trunk, tokenizer, **saved.settings)
        except (TypeError, ValueError) as error:
            raise saved.unusable(error) from error
        saved.refuse_larger(task.build_model)
        try:
            task.model.load_weights(folder / WEIGHTS_FILE)
        except (OSError, ValueError, KeyError) as error:
            raise DataError(f"{folder / WEIGHTS_FILE} does not hold this task's weights: {error}") from error
    return task


def _task_class(name: str, folder: Path) -> type[Any]:
    """Return the class of a task of this package by its name. Raises `DataError` where there is none."""
    found = getattr(tasks, name, None)
    if isinstance(found, type) and issubclass(found, tasks.Task):
        return found
    hint = did_you_mean(name, tasks.__all__)
    raise DataError(f"{folder} holds a task {name!r} that this version does not have.{hint} Use the class's own load.")


def as_json(values: dict[str, Any]) -> str:
    """Return JSON for people to read."""
    return json.dumps(values, ensure_ascii=False, indent=2) + "\n"


def read_saved(folder: Path) -> Saved:
    """Read a saved task, weights looked through. Raises `DataError` or `ConfigError` where it is no whole one."""
    values = _read(folder / TASK_FILE)
    task, settings, vocabulary = values.get("task"), values.get("settings"), values.get("vocabulary")
    if not isinstance(task, str) or not isinstance(settings, dict) or not isinstance(vocabulary, str | None):
        raise DataError(f"{folder / TASK_FILE} does not say which task it is of: save the task again.")
    config = ModelConfig.from_dict(_read(folder / CONFIG_FILE), str(folder / CONFIG_FILE))
    count = count_numbers(folder / WEIGHTS_FILE)
    needed = count_parameters(weight_shapes(config).values())
    if needed > count:
        raise DataError(
            f"{folder / CONFIG_FILE} describes a model of {needed:,} numbers, and {WEIGHTS_FILE} holds {count:,}; "
            "the files do not belong together, save the task again."
        )
    return Saved(folder, task, settings, _policy(values.get("dtype"), folder), vocabulary, config, count)


def _policy(saved: Any, folder: Path) -> str:
    """Return the name in a serialised dtype policy; Keras' own reader would import what a file names."""
    name: Any = saved
    if isinstance(saved, dict) and saved.get("class_name") == "DTypePolicy" and isinstance(saved.get("config"), dict):
        name = saved["config"].get("name")
    require_choice("dtype", name, _DTYPES, str(folder / TASK_FILE), DataError)
    return name


def _read(path: Path) -> dict[str, Any]:
    try:
        return read_json(path, _MOST_BYTES)
    except FileNotFoundError:
        raise DataError(f"{path.parent} is no folder of a saved task: it has no {path.name}.") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is not JSON ({error}): save the task again.") from None


def save_task(task: Task, folder: str | os.PathLike[str], allow_nonfinite: bool) -> None:
    """Write what `Task.save` writes; see there."""
    model = task.model
    task.backbone.get_config()  # Refuses what no config can say.
    if not allow_nonfinite:
        for weight in model.weights:
            require_finite(weight.path, np.asarray(ops.convert_to_numpy(weight)), DataError)
    policy = task.backbone.encoder.dtype_policy
    description = task_json(type(task).__name__, task.settings(), policy, task.tokenizer)
    with writing(folder, outdated=VOCABULARIES) as new:
        (new / TASK_FILE).write_text(description, encoding="utf-8")
        (new / CONFIG_FILE).write_text(as_json(task.backbone.config.to_dict()), encoding="utf-8")
        task.tokenizer.write_files(new)
        model.save_weights(new / WEIGHTS_FILE)
        if is_own(Path(folder)):
            (new / CARD_FILE).write_text(card(task), encoding="utf-8")


def load_task(folder: str | os.PathLike[str], dtype: Any = None) -> Any:
    """Return the task, of whatever class, that `Task.save` wrote to a folder.

    Arguments:
        folder: the folder.
        dtype: a dtype policy in place of that of the saved task.

    Returns:
        The task. Raises `DataError` as `Task.load` does.

    Examples:
        >>> from bert4albert import Tokenizer, build_model
        >>> from bert4albert.tasks import TextClassifier, load_task
        >>> backbone, tokenizer = build_model("albert_tiny_zh"), Tokenizer("albert_tiny_zh")
        >>> task = TextClassifier(backbone, tokenizer, labels=["bad", "good"])
        >>> task.save("classifier")
        >>> load_task("classifier").labels
        ['bad', 'good']
    """
    return load_saved(Path(folder), None, dtype)
