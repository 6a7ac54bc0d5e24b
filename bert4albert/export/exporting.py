"""A trained task as a folder that answers raw texts where there is no Keras."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from bert4albert import __version__
from bert4albert.errors import ConfigError, ExportError, require_choice
from bert4albert.heads import CRF
from bert4albert.serving.exported import EXPORT_FILE, KINDS, Exported
from bert4albert.serving.programs import LITERT_FILE, ONNX_FILE, LiteRTProgram, OnnxProgram, Program
from bert4albert.text import Tokenizer

if TYPE_CHECKING:
    from bert4albert.tasks.task import Task

FORMATS = ("saved_model", "onnx", "litert")
_REVIEWS = Path(__file__).resolve().parents[1] / "data" / "reviews" / "test.tsv"
_SENTENCES = 64

_REASONS = {
    "RelationExtractor": "since its second program is asked about what the first found",
    "Seq2Seq": "since it writes token by token, with kept keys and values",
    "ReadingComprehension": "since it writes token by token, with kept keys and values",
    "TextEmbedder": "since its answers are vectors, which have no form in an export yet",
}


def refusal(kind: str, why: str) -> ExportError:
    """Return the error for a task of this kind, which cannot be exported, and say what can."""
    return ExportError(
        f"A {kind} cannot be exported, {why}: save what it is made of, and answer with Keras. What can be exported: "
        f"{', '.join(KINDS)}."
    )


def export_task(
    task: Task,
    path: str | os.PathLike[str],
    format: str = "onnx",
    quantize: str | None = None,
    texts: Sequence[Any] | None = None,
    min_agreement: float = 0.99,
) -> float:
    """Write a task as a program that runs without Keras, run it, and say how well it agrees; see `Task.export`.

    Arguments:
        task: the task.
        path: as for `Task.export`.
        format: as for `Task.export`.
        quantize: as for `Task.export`.
        texts: as for `Task.export`.
        min_agreement: as for `Task.export`.

    Returns:
        The part of the texts that have the task's own answer. Raises as `Task.export` does.

    Examples:
        >>> from bert4albert import Tokenizer, build_model
        >>> from bert4albert.export import export_task
        >>> from bert4albert.tasks import TextClassifier
        >>> backbone, tokenizer = build_model("albert_tiny_zh"), Tokenizer("albert_tiny_zh")
        >>> task = TextClassifier(backbone, tokenizer, labels=["bad", "good"])
        >>> agreement = export_task(task, "exported", texts=["很好", "不好"])
        wrote exported (onnx): 100.00% of 2 texts have the same answer (outputs differ by at most ...)
    """
    require_choice("format", format, FORMATS)
    require_choice("quantize", quantize, (None, "int8"))
    if isinstance(min_agreement, bool) or not isinstance(min_agreement, int | float) or not 0 <= min_agreement <= 1:
        raise ConfigError(f"min_agreement must be a number from 0 to 1, not {min_agreement!r:.80}.")
    kind = type(task).__name__
    if kind not in KINDS:
        why = _REASONS.get(kind, "since a class of your own may answer in ways that an export does not know")
        raise refusal(kind, why)
    backend = keras.backend.backend()
    if (format == "litert" and backend != "tensorflow") or (format == "saved_model" and backend == "torch"):
        raise ExportError(
            f"{format!r} cannot be written from the Keras backend {backend!r}: save the task, load it under "
            "KERAS_BACKEND=tensorflow and export it there, or use format='onnx', which every backend writes."
        )
    texts = sample_texts() if texts is None else list(texts)
    with _whole_folder(Path(path)) as new:
        about = _about(task, kind, format, quantize)
        program = _write_program(task.model, new, format, quantize)
        task.tokenizer.save(new)
        agreement, difference = _compare(task, KINDS[kind](about, Tokenizer(new), program), texts)
        about["agreement"] = {"texts": len(texts), "same_answers": agreement}
        _write_json(new / EXPORT_FILE, about)
        said = (
            f"{agreement:.2%} of {len(texts)} texts have the same answer (outputs differ by at most {difference:.1e})"
        )
        if agreement < min_agreement:
            raise ExportError(
                f"The exported program does not agree with the task: {said}, and min_agreement is {min_agreement:.2%}; "
                f"nothing was written. {'Try quantize=None.' if quantize else 'Give other texts, or another format.'}"
            )
    print(f"wrote {path} ({format}{', ' + quantize if quantize else ''}): {said}", flush=True)
    return agreement


def sample_texts() -> list[str]:
    """Return sentences that come with the package."""
    lines = _REVIEWS.read_text(encoding="utf-8").splitlines()
    return [line.rpartition("\t")[0] for line in lines[:_SENTENCES]]


def _about(task: Task, kind: str, format: str, quantize: str | None) -> dict[str, Any]:
    """Return what the answers need beside the program."""
    about: dict[str, Any] = {
        "task": kind,
        "format": format,
        "quantize": quantize,
        "settings": task.settings(),
        "max_length": task.backbone.config.max_length,
        "bert4albert": __version__,
        "keras": keras.__version__,
    }
    for layer in task.model.layers:
        if isinstance(layer, CRF):
            # The search for the best tags is no part of the program.
            about["transitions"] = keras.ops.convert_to_numpy(layer.transitions).tolist()
    return about


def _write_program(model: keras.Model, folder: Path, format: str, quantize: str | None) -> Program:
    if format == "onnx":
        return _write_onnx(model, folder, quantize)
    from bert4albert.export.tensorflow_formats import SavedModelProgram, write_litert, write_saved_model

    if format == "saved_model":
        write_saved_model(model, folder, quantize)
        return SavedModelProgram(folder)
    with tempfile.TemporaryDirectory() as scratch:
        write_litert(model, folder / LITERT_FILE, Path(scratch) / "saved_model", quantize)
    return LiteRTProgram(folder / LITERT_FILE)


def _write_onnx(model: keras.Model, folder: Path, quantize: str | None) -> Program:
    try:
        import onnx

        from bert4albert.export.onnx_model import onnx_model
    except ImportError:
        raise ExportError("The package onnx is not installed: pip install 'bert4albert[export]'.") from None
    onnx.save_model(onnx_model(model, quantize), folder / ONNX_FILE)
    return OnnxProgram(folder / ONNX_FILE)


def _compare(task: Task, exported: Exported, texts: Sequence[Any]) -> tuple[float, float]:
    """Return the share of texts with the same answer, and the largest difference of the first output."""
    if not texts:
        raise ExportError("There are no texts to try the exported program on: leave texts out, or give some.")
    expected, found = task.predict(texts), exported.predict(texts)
    same = [_same(a, b) for a, b in zip(expected, found, strict=True)]
    encoded = task.tokenizer.encode_batch(
        [text if isinstance(text, str) else text[0] for text in texts[:8]], maxlen=task.maxlen
    )
    first = keras.ops.convert_to_numpy(keras.tree.flatten(task.model.predict_on_batch([*encoded]))[0])
    difference = np.abs(first - exported.program(*encoded)[0])
    return float(np.mean(same)), float(difference[first > -1e11].max())


def _same(expected: Any, found: Any) -> bool:
    if isinstance(expected, float):
        return bool(np.isclose(expected, found, rtol=0.01, atol=0.01))
    return bool(expected == found)


@contextmanager
def _whole_folder(folder: Path) -> Iterator[Path]:
    """Give a folder to write to that takes the place of `folder` when all went well."""
    if folder.exists() and not (folder.is_dir() and (not any(folder.iterdir()) or (folder / EXPORT_FILE).is_file())):
        raise ExportError(f"{folder} is there already and holds no export: give the name of a new folder.")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as scratch:
            new, old = Path(scratch) / "new", Path(scratch) / "old"
            new.mkdir()
            yield new
            if folder.exists():
                folder.rename(old)
            try:
                new.rename(folder)
            except OSError:
                if old.exists():
                    old.rename(folder)
                raise
    except OSError as error:
        raise ExportError(
            f"{folder} could not be written ({error.strerror or error}): choose another folder."
        ) from error


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
