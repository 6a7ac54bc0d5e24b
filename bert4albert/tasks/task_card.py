"""The README.md of a saved task: what it is, how good it is, how to load it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras

import bert4albert

if TYPE_CHECKING:
    from bert4albert.tasks.task import Task

CARD_FILE = "README.md"
_MARK = "<!-- written by bert4albert; a file without this line is left alone -->"
_MOST_LABELS = 50


def is_own(folder: Path) -> bool:
    """Return whether a folder's card may be replaced: there is none, or it is one of ours."""
    path = folder / CARD_FILE
    return not path.exists() or (path.is_file() and path.read_text("utf-8", errors="replace").startswith(_MARK))


def card(task: Task) -> str:
    """Return the card of a task."""
    name, config = type(task).__name__, task.backbone.config
    settings = task.settings()
    labels = next((settings[key] for key in ("labels", "predicates") if settings.get(key)), None)
    others = {key: value for key, value in settings.items() if key not in ("labels", "predicates")}
    lines = [_MARK, f"# {name}", "", "```python", "from bert4albert.tasks import load_task", ""]
    lines += ["task = load_task('.')  # this folder", "task.predict([...])", "```", ""]
    lines += ["| | |", "|---|---|", f"| parameters | {task.model.count_params():,} |"]
    lines += [f"| depth | {config.sharing.depth} |", f"| sharing | {_cell(config.sharing)} |"]
    lines += [f"| {key} | {_cell(value)} |" for key, value in others.items()]
    if labels:
        shown = ", ".join(map(str, labels[:_MOST_LABELS])) + (", ..." if len(labels) > _MOST_LABELS else "")
        lines.append(f"| {len(labels)} {'labels' if 'labels' in settings else 'predicates'} | {_cell(shown)} |")
    lines += [f"| {key} | {_cell(value)} |" for key, value in task.training_facts.items()]
    versions = f"bert4albert {bert4albert.__version__}, Keras {keras.__version__} on {keras.backend.backend()}"
    return "\n".join([*lines, f"| written by | {versions} |", ""])


def training_facts(
    train: Sequence[Any], valid: Sequence[Any] | None, history: Mapping[str, Sequence[float]], metric: str
) -> dict[str, Any]:
    """Return what a card says of a training.

    Arguments:
        train, valid: the examples.
        history: the logs of each epoch, by name.
        metric: what picked the weights.
    """
    facts: dict[str, Any] = {"training examples": len(train), "epochs": len(history.get("loss", ()))}
    values = history.get(f"val_{metric}")
    if valid is None or not values:
        return facts
    best = max(range(len(values)), key=lambda epoch: (values[epoch] == values[epoch], values[epoch], -epoch))
    facts |= {"validation examples": len(valid), "weights of epoch": best + 1}
    scores = {name: of_epoch[best] for name, of_epoch in history.items() if f"val_{name}" in history and name != "loss"}
    return {**facts, **{f"{name} on the validation examples": f"{value:.4f}" for name, value in scores.items()}}


def _cell(value: Any) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")
