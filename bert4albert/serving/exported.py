"""The answers of an exported task: raw texts in, what the task itself would say out, by NumPy alone."""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bert4albert.errors import ConfigError, DataError, ExportError
from bert4albert.serving.programs import Program, open_program, outputs_in_order
from bert4albert.text import Tokenizer
from bert4albert.text.spans import Entity, TokenizedTexts, spans_of_tags, tag_set

EXPORT_FILE = "export.json"


class Exported(ABC):
    """A task that was exported; it may be asked from several threads at once.

    Arguments:
        about: what `export.json` says.
        tokenizer: the task's tokenizer.
        program: what computes.

    Attributes:
        task: the name of the task's class.
        labels: its labels.
        settings: its settings.
        maxlen: the most tokens of an input.
    """

    def __init__(self, about: dict[str, Any], tokenizer: Tokenizer, program: Program) -> None:
        self.about = about
        self.task: str = about["task"]
        self.settings: dict[str, Any] = about["settings"]
        self.labels: list[Any] = self.settings.get("labels") or []
        self.maxlen: int = self.settings["maxlen"]
        self.tokenizer = tokenizer
        self.program = program

    @abstractmethod
    def encode(self, texts: Sequence[Any]) -> Any:
        """Tokenise texts."""

    @abstractmethod
    def decode(self, encoded: Any, batch_size: int) -> list[Any]:
        """Return one answer for each encoded text."""

    def predict(self, texts: Sequence[Any], batch_size: int = 32) -> list[Any]:
        """Return one answer for each text, in order, as the task's `predict` does.

        Arguments:
            texts: a list of texts.
            batch_size: texts a batch.

        Returns:
            A list as long as `texts`. Raises `DataError` or `TokenizerError` for texts that cannot be used.
        """
        texts = _listed(texts, "predict")
        return self.decode(self.encode(texts), batch_size) if texts else []

    def predict_proba(self, texts: Sequence[Any], batch_size: int = 32) -> np.ndarray:
        """Return probabilities, as the task's `predict_proba` does. Raises `ConfigError` where it has none."""
        raise ConfigError(f"A {self.task} has no predict_proba: use predict.")

    def run(self, inputs: Any, batch_size: int) -> list[np.ndarray]:
        """Return what the program computes for each row of token ids and segment ids."""
        return outputs_in_order(self.program, inputs, batch_size, self.tokenizer.pad_id)


class ExportedClassifier(Exported):
    """A `TextClassifier`: the label of each text, several, or a number."""

    def encode(self, texts: Sequence[Any]) -> Any:
        """Return token ids and segment ids of texts, or of pairs of them."""
        pairs = [not isinstance(text, str) for text in texts]
        if not any(pairs):
            return self.tokenizer.encode_many(texts, maxlen=self.maxlen)
        if not all(pairs) or not all(isinstance(text, list | tuple) and len(text) == 2 for text in texts):
            raise DataError("Some texts are pairs and others are not: give pairs of texts, or single ones.")
        first, second = zip(*texts, strict=True)
        return self.tokenizer.encode_many(first, second, maxlen=self.maxlen)

    def decode(self, encoded: Any, batch_size: int) -> list[Any]:
        """Return the label of each text, the list of its labels, or its number."""
        logits = self._logits(encoded, batch_size)
        if self.settings.get("regression"):
            return logits[:, 0].tolist()
        if not self.settings.get("multi_label"):
            return [self.labels[best] for best in logits.argmax(axis=1)]
        threshold = self.settings["threshold"]
        return [[self.labels[i] for i in np.flatnonzero(row >= threshold)] for row in _sigmoid(logits)]

    def predict_proba(self, texts: Sequence[Any], batch_size: int = 32) -> np.ndarray:
        """Return the probability of each label for each text, float32 [texts, labels]."""
        if self.settings.get("regression"):
            raise ConfigError("With regression=True there are no probabilities: use predict.")
        texts = _listed(texts, "predict_proba")
        if not texts:
            return np.zeros((0, len(self.labels)), "float32")
        logits = self._logits(self.encode(texts), batch_size)
        return _sigmoid(logits) if self.settings.get("multi_label") else _softmax(logits)

    def _logits(self, encoded: Any, batch_size: int) -> np.ndarray:
        outputs = np.stack(self.run(encoded, batch_size))
        # With exits there are those of every depth.
        return outputs[:, -1] if self.settings.get("exits") else outputs


class ExportedTagger(Exported):
    """A `Tagger`: the labelled spans of each text."""

    def encode(self, texts: Sequence[Any]) -> TokenizedTexts:
        """Return the tokenised texts."""
        return TokenizedTexts(self.tokenizer, texts, self.maxlen)

    def decode(self, encoded: TokenizedTexts, batch_size: int) -> list[Any]:
        """Return the spans found in each text, in order of their start."""
        find = self._of_tags if self.settings["method"] in ("softmax", "crf") else self._of_scores
        found: list[list[Any]] = [[] for _ in range(len(encoded))]
        for row, output in enumerate(self.run(encoded.inputs, batch_size)):
            text = encoded.text_of_row[row]
            for first, last, label in find(output, len(encoded.inputs[0][row])):
                start, end = encoded.characters(row, first, last)
                found[text].append(Entity(start, end, label, encoded.texts[text][start:end]))
        return [sorted(entities) for entities in found]

    def _of_tags(self, scores: np.ndarray, length: int) -> list[tuple[int, int, str]]:
        """Return the spans of the best tags of scores [length of the batch, tags]."""
        tags = self.settings.get("tags") or tag_set(self.labels, self.settings["scheme"])
        if self.settings["method"] == "crf":
            best = viterbi(scores[:length], np.asarray(self.about["transitions"], "float32"))
        else:
            best = scores[:length].argmax(axis=-1)
        spans = spans_of_tags([tags[tag] for tag in best[1 : length - 1]])
        return [(first + 1, last + 1, label) for first, last, label in spans]

    def _of_scores(self, scores: np.ndarray, length: int) -> list[tuple[int, int, str]]:
        """Return the spans with a score above 0, of scores [labels, length of the batch, length of the batch]."""
        inside = scores[:, 1 : length - 1, 1 : length - 1]
        return [(first + 1, last + 1, self.labels[label]) for label, first, last in np.argwhere(inside > 0).tolist()]


KINDS: dict[str, type[Exported]] = {"TextClassifier": ExportedClassifier, "Tagger": ExportedTagger}


def load(path: str | os.PathLike[str], threads: int | None = None) -> Exported:
    """Open an export, without Keras and without TensorFlow.

    Arguments:
        path: the folder that `task.export(path, format="onnx")` or `"litert"` wrote.
        threads: how many threads one batch uses; None for as many as there are cores.

    Returns:
        An object with the `predict` of the task, and its `predict_proba` where it has one. Raises `ExportError` where
        the folder holds no such export, or a package is missing.

    Examples:
        >>> from bert4albert import Tokenizer, build_model, serving
        >>> from bert4albert.tasks import TextClassifier
        >>> backbone, tokenizer = build_model("albert_tiny_zh"), Tokenizer("albert_tiny_zh")
        >>> task = TextClassifier(backbone, tokenizer, labels=["bad", "good"])
        >>> agreement = task.export("exported", texts=["很好", "不好"])
        wrote exported ...
        >>> served = serving.load("exported")
        >>> served.predict(["很好", "不好"]) == task.predict(["很好", "不好"])
        True
    """
    folder = Path(path)
    about = read_about(folder)
    return KINDS[about["task"]](about, Tokenizer(folder), open_program(folder, threads))


def read_about(folder: Path) -> dict[str, Any]:
    """Return what `export.json` of an export says. Raises `ExportError` where there is none."""
    path = folder / EXPORT_FILE
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise ExportError(
            f"{folder} holds no export ({EXPORT_FILE} is not there): write one with task.export."
        ) from None
    except ValueError as error:
        raise ExportError(f"{path} is not JSON ({error}): export the task again.") from None
    if not isinstance(about, dict) or about.get("task") not in KINDS or "settings" not in about:
        raise ExportError(f"{path} describes no task that can be served, which are {', '.join(KINDS)}.")
    return about


def viterbi(emissions: np.ndarray, transitions: np.ndarray) -> np.ndarray:
    """Return the tags of the highest score, int [length].

    Arguments:
        emissions: [length, tags].
        transitions: [tags, tags], from row to column.
    """
    best, came_from = emissions[0], []
    for emission in emissions[1:]:
        scores = best[:, None] + transitions
        came_from.append(scores.argmax(axis=0))
        best = scores.max(axis=0) + emission
    tags = [int(best.argmax())]
    for back in reversed(came_from):
        tags.append(int(back[tags[-1]]))
    return np.array(tags[::-1])


def _listed(texts: Any, method: str) -> list[Any]:
    if isinstance(texts, str):
        raise DataError(f"{method} takes a list of texts, not one: use {method}([{texts[:20]!r}]).")
    return list(texts)


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    # Without exp of a large number, which would warn.
    small = np.exp(-np.abs(logits))
    return np.where(logits >= 0, 1 / (1 + small), small / (1 + small)).astype("float32")


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (powers / powers.sum(axis=1, keepdims=True)).astype("float32")
