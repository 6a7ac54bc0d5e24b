"""The answers of an exported task: raw texts in, what the task itself would say out, by NumPy alone."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bert4albert.errors import ConfigError, DataError, ExportError, require_choice, require_whole
from bert4albert.plain_files import read_json
from bert4albert.serving.programs import Program, open_program, outputs_in_order
from bert4albert.text import Tokenizer
from bert4albert.text.spans import SCHEMES, Entity, TokenizedTexts, spans_of_tags, tag_set

EXPORT_FILE = "export.json"
_BY_TAGS, _BY_SCORES = ("softmax", "crf"), ("global_pointer", "efficient_global_pointer")
_LARGEST = 50_000_000  # bytes of it, of which the transitions of many tags take most


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

    @abstractmethod
    def shape(self, length: int) -> tuple[int | None, ...]:
        """Return the shape of what the program gives for a row of so many tokens; None for any size."""

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

    def shape(self, length: int) -> tuple[int | None, ...]:
        """Return the shape of the logits of a text, with exits of every depth."""
        answers = 1 if self.settings.get("regression") else len(self.labels)
        return (None, answers) if self.settings.get("exits") else (answers,)

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
        if not all(isinstance(text, str) for text in texts):
            raise DataError("A Tagger takes single texts: give a list of strings.")
        return TokenizedTexts(self.tokenizer, texts, self.maxlen)

    def shape(self, length: int) -> tuple[int | None, ...]:
        """Return the shape of the scores of tags, or of spans."""
        return (length, len(self._tags)) if self._has_tags else (len(self.labels), length, length)

    @property
    def _has_tags(self) -> bool:
        return self.settings["method"] in _BY_TAGS

    @property
    def _tags(self) -> list[str]:
        return self.settings.get("tags") or tag_set(self.labels, self.settings["scheme"])

    def decode(self, encoded: TokenizedTexts, batch_size: int) -> list[Any]:
        """Return the spans found in each text, in order of their start."""
        find = self._of_tags if self._has_tags else self._of_scores
        found: list[list[Any]] = [[] for _ in range(len(encoded))]
        for row, output in enumerate(self.run(encoded.inputs, batch_size)):
            text = encoded.text_of_row[row]
            for first, last, label in find(output, len(encoded.inputs[0][row])):
                start, end = encoded.characters(row, first, last)
                found[text].append(Entity(start, end, label, encoded.texts[text][start:end]))
        return [sorted(entities) for entities in found]

    def _of_tags(self, scores: np.ndarray, length: int) -> list[tuple[int, int, str]]:
        """Return the spans of the best tags of scores [length of the batch, tags]."""
        tags = self._tags
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
        the folder holds no such export, a damaged one, or files that do not fit each other, or a package is missing,
        and `TokenizerError` for a vocabulary that cannot be read.

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
    exported = KINDS[about["task"]](about, Tokenizer(folder), open_program(folder, threads))
    # The last word of the vocabulary and a length unlike other sizes show what does not fit.
    ids = [exported.tokenizer.vocab_size - 1, *[0] * 4]
    try:
        found = exported.run(([ids], [[0] * len(ids)]), 1)[0].shape
    except Exception as error:  # the programs' libraries raise whatever they meet
        raise ExportError(f"The program in {folder} does not run ({error!s:.200}): export the task again.") from None
    expected = exported.shape(len(ids))
    if len(found) != len(expected) or any(b not in (a, None) for a, b in zip(found, expected, strict=True)):
        raise ExportError(
            f"The program in {folder} gives {found} for a row of {len(ids)} tokens, and {EXPORT_FILE} describes a task "
            f"that needs {expected}: they are not of one export, export the task again."
        )
    return exported


def read_about(folder: Path) -> dict[str, Any]:
    """Return what `export.json` of an export says. Raises `ExportError` where there is none, or a damaged one."""
    path = folder / EXPORT_FILE
    try:
        about = read_json(path, _LARGEST)
    except FileNotFoundError:
        raise ExportError(
            f"{folder} holds no export ({EXPORT_FILE} is not there): write one with task.export."
        ) from None
    except (OSError, ValueError) as error:
        raise ExportError(f"{path} cannot be read or describes no task ({error!s:.200}): export it again.") from None
    if not isinstance(about.get("settings"), dict):
        raise ExportError(f"{path} describes no task that can be served: export the task again.")
    _check(about, str(path))
    return about


def _check(about: dict[str, Any], source: str) -> None:
    """Raise `ExportError` for what `export.json` cannot have said when it was written."""
    settings = about["settings"]
    require_choice("task", about.get("task"), KINDS, source, ExportError)
    require_whole("max_length", about.get("max_length"), 1, source=source, error=ExportError)
    require_whole("maxlen", settings.get("maxlen"), 3, about["max_length"], source, ExportError)
    if not (about["task"] == "TextClassifier" and settings.get("regression")):
        _check_names("labels", settings.get("labels"), source)
    if settings.get("multi_label") and not isinstance(settings.get("threshold"), int | float):
        raise ExportError(f"{source} gives the threshold {settings.get('threshold')!r:.80}: export the task again.")
    if about["task"] != "Tagger":
        return
    require_choice("method", settings.get("method"), _BY_TAGS + _BY_SCORES, source, ExportError)
    if settings.get("tags") is None:
        require_choice("scheme", settings.get("scheme"), SCHEMES, source, ExportError)
    tags = settings.get("tags") or tag_set(settings["labels"], settings["scheme"])
    _check_names("tags", tags, source)
    if settings["method"] == "crf":
        try:
            shape = np.asarray(about.get("transitions"), "float32").shape
        except (TypeError, ValueError):
            shape = ()
        if shape != (len(tags), len(tags)):
            raise ExportError(f"{source} has no number for each pair of {len(tags)} tags: export the task again.")


def _check_names(what: str, names: Any, source: str) -> None:
    known = names if isinstance(names, list) else []
    if not known or not all(isinstance(name, str | int) for name in known) or len(set(known)) < len(known):
        raise ExportError(f"{source} gives the {what} {names!r:.80}, not different names: export the task again.")


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
    texts = list(texts)
    for number, text in enumerate(texts):
        for part in text if isinstance(text, list | tuple) else [text]:
            try:
                part.encode()
            except UnicodeEncodeError:
                raise DataError(f"Text {number} holds half of a character (a lone surrogate): {part!r:.60}.") from None
            except AttributeError:
                raise DataError(f"Text {number} is {part!r:.60}, not a string.") from None
    return texts


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    # Without exp of a large number, which would warn.
    small = np.exp(-np.abs(logits))
    return np.where(logits >= 0, 1 / (1 + small), small / (1 + small)).astype("float32")


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (powers / powers.sum(axis=1, keepdims=True)).astype("float32")
