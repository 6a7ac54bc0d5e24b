"""Tagger: named entities and words, as spans of the original text."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import keras
import numpy as np
from keras import ops

from bert4albert.batches import make_dataset
from bert4albert.errors import ConfigError, DataError
from bert4albert.heads.crf import CRF
from bert4albert.heads.pointers import EfficientGlobalPointer, GlobalPointer, span_loss
from bert4albert.model import Trunk
from bert4albert.tasks.data_files import read_lines
from bert4albert.tasks.task import Task
from bert4albert.text import Tokenizer
from bert4albert.text.spans import (
    Entity,
    TokenizedTexts,
    check_choice,
    precision_recall_f1,
    spans_of_tags,
    tag_set,
    tags_of_spans,
)

SCHEMES = ("BIO", "BIOES")
_POINTERS = {"global_pointer": GlobalPointer, "efficient_global_pointer": EfficientGlobalPointer}
METHODS = ("softmax", "crf", *_POINTERS)


class Tagger(Task):
    """Find labelled spans: named entities, or with one label the words of a text.

    An example is `(text, [(start, end, label), ...])` in character positions, `end` not included. Files have a
    character (or word) and its tag on each line, in BIO, BIOES or BMES, and a blank line after each sentence,
    compressed with gzip (.gz) or not; `read_words` reads segmented text. Answers are lists of `Entity`.

    Arguments:
        backbone: a trunk from `build_model`.
        tokenizer: its `Tokenizer`.
        labels: the labels of spans; by default those of the training set, sorted.
        method: 'softmax' or 'crf', which tag each token, or 'global_pointer' or 'efficient_global_pointer', which
            score each span, so that spans may be nested and overlap.
        scheme: the tags of softmax and CRF: 'BIO', or 'BIOES', the better one for words.
        head_size: of the pointers' queries and keys.
        dropout: on the hidden states, in training.
        maxlen: the most tokens that are read at once; longer texts are read in pieces, cut between sentences.
    """

    metric = "f1"

    def __init__(
        self,
        backbone: Trunk,
        tokenizer: Tokenizer,
        labels: Sequence[str] | None = None,
        *,
        method: str = "crf",
        scheme: str = "BIO",
        head_size: int = 64,
        dropout: float = 0.1,
        maxlen: int = 128,
    ) -> None:
        super().__init__(backbone, tokenizer, maxlen=maxlen)
        check_choice("method", method, METHODS)
        check_choice("scheme", scheme, SCHEMES)
        self.labels = None if labels is None else list(labels)
        self.method = method
        self.scheme = scheme
        self.head_size = head_size
        self.dropout = dropout

    def settings(self) -> dict[str, Any]:
        """Return the constructor's keyword arguments as JSON values."""
        return {
            **super().settings(),
            "labels": self.labels,
            "method": self.method,
            "scheme": self.scheme,
            "head_size": self.head_size,
            "dropout": self.dropout,
        }

    @property
    def loss(self) -> Any:
        """What suits the method; each is summed over a text."""
        if self.method in _POINTERS:
            return span_loss
        return self._crf.loss if self.method == "crf" else _tag_loss

    def read_file(self, path: str | os.PathLike[str]) -> list[Any]:
        """Return the examples of a file with a character and its tag a line."""
        return read_tagged(path)

    def learn(self, examples: Sequence[Any]) -> None:
        """Take the labels from the training set, if none were given."""
        if self.labels is None:
            self.labels = sorted({label for example in examples for _, _, label in _split(example)[1]})

    def check(self, examples: Sequence[Any]) -> None:
        """Raise `DataError` for spans outside of their text and for labels that the tagger does not have."""
        for number, example in enumerate(examples):
            text, spans = _split(example)
            for start, end, label in spans:
                if not 0 <= start < end <= len(text):
                    raise DataError(
                        f"Example {number} has the span ({start}, {end}, {label!r}), but its text is {len(text)} "
                        "characters long; expected 0 <= start < end <= length."
                    )
                if label not in (self.labels or []):
                    raise DataError(
                        f"Example {number} has the label {label!r}, which is none of the labels of this tagger: "
                        f"{', '.join(map(repr, self.labels or []))}."
                    )

    def build_model(self) -> keras.Model:
        """Return the trunk under tag logits [batch, length, tags], or span scores [batch, labels, length, length]."""
        if not self.labels:
            raise ConfigError("The tagger has no labels yet: give labels=[...], or fit it first.")
        trunk, dtype = self.backbone, self.backbone.encoder.variable_dtype
        hidden = keras.layers.Dropout(self.dropout, dtype=dtype, name="head_dropout")(trunk.hidden_states[-1])
        if self.method in _POINTERS:
            # Of the layers' own spread: products of two small numbers would hardly learn. Seeded as all of the head.
            spread = keras.initializers.LecunNormal(seed=self.initializer().seed)
            pointer = _POINTERS[self.method](
                len(self.labels), self.head_size, kernel_initializer=spread, dtype=dtype, name="pointer"
            )
            return keras.Model(trunk.inputs, pointer(hidden, trunk.inputs[0]))
        dense = keras.layers.Dense(len(self._tags()), kernel_initializer=self.initializer(), dtype=dtype, name="logits")
        logits = dense(hidden)
        if self.method == "softmax":
            return keras.Model(trunk.inputs, logits)
        self._crf = CRF(dtype=dtype, name="crf")
        emissions = self._crf(logits)
        self._tagging_model = keras.Model(trunk.inputs, self._crf(logits, trunk.inputs[0], decode=True))
        return keras.Model(trunk.inputs, emissions)

    def text_of(self, example: Any) -> str:
        """Return the text of an example."""
        return _split(example)[0]

    def encode(self, texts: Sequence[str]) -> TokenizedTexts:
        """Return the tokenised texts."""
        return TokenizedTexts(self.tokenizer, texts, self.maxlen)

    def columns(self, examples: Sequence[Any], encoded: TokenizedTexts) -> tuple:
        """Return ids, and for each token the index of its tag, or for each text its spans (label, first, last)."""
        make_targets = self._span_targets if self.method in _POINTERS else self._tag_targets
        targets = []
        for row, text in enumerate(encoded.text_of_row):
            spans = []
            for start, end, label in _split(examples[text])[1]:
                tokens = encoded.tokens(row, start, end)
                if tokens is not None:
                    spans.append((*tokens, label))
            targets.append(make_targets(spans, len(encoded.inputs[0][row])))
        return encoded.inputs, targets

    def dataset(self, examples: Sequence[Any], encoded: TokenizedTexts, batch_size: int, seed: int) -> Any:
        """Return what `keras.Model.fit` trains on; padding has the target -1."""
        return make_dataset(*self.columns(examples, encoded), batch_size=batch_size, target_padding=-1, seed=seed)

    def decode(self, encoded: TokenizedTexts, batch_size: int = 32) -> list[list[Entity]]:
        """Return the spans found in each text, in order of their start."""
        found: list[list[Entity]] = [[] for _ in range(len(encoded))]
        for rows, inputs in encoded.batches(batch_size):
            for row, spans in zip(rows, self._spans_of_batch(inputs, batch_size), strict=True):
                text = encoded.text_of_row[row]
                for first, last, label in spans:
                    start, end = encoded.characters(row, first, last)
                    found[text].append(Entity(start, end, label, encoded.texts[text][start:end]))
        return [sorted(entities) for entities in found]

    def score(self, examples: Sequence[Any], answers: Sequence[Any]) -> dict[str, float]:
        """Return precision, recall and F1 of whole spans with their labels, over all texts together."""
        expected = [{(start, end, label) for start, end, label in _split(example)[1]} for example in examples]
        return precision_recall_f1(expected, [{entity[:3] for entity in answer} for answer in answers])

    def segment(self, texts: Sequence[str], batch_size: int = 32) -> list[list[str]]:
        """Return each text cut into the spans found and what lies between them, without spaces around.

        Arguments:
            texts: a list of texts.
            batch_size: texts a batch.

        Returns:
            For each text a list of words.
        """
        words = []
        for text, entities in zip(texts, self.predict(texts, batch_size), strict=True):
            cuts = sorted({0, len(text), *(cut for entity in entities for cut in entity[:2])})
            pieces = (text[start:end].strip() for start, end in pairwise(cuts))
            words.append([piece for piece in pieces if piece])
        return words

    def _tags(self) -> list[str]:
        return tag_set(self.labels or [], self.scheme)

    def _tag_targets(self, spans: Sequence[tuple[int, int, str]], length: int) -> list[int]:
        index = {tag: i for i, tag in enumerate(self._tags())}
        return [index[tag] for tag in tags_of_spans(spans, length, self.scheme)]

    def _span_targets(self, spans: Sequence[tuple[int, int, str]], length: int) -> list[list[int]]:
        labels = self.labels or []
        # Never empty, so that the column has vectors of three numbers.
        return [[labels.index(label), first, last] for first, last, label in spans] or [[-1, -1, -1]]

    def _spans_of_batch(self, inputs: Any, batch_size: int) -> list[list[tuple[int, int, str]]]:
        """Return the spans (first token, last token, label) of each row."""
        model, lengths = self.model, [len(row) for row in inputs[0]]
        if self.method not in _POINTERS:
            best = self.run(self._tagging_model if self.method == "crf" else model, inputs, batch_size)
            if self.method == "softmax":
                best = best.argmax(axis=-1)
            tags = self._tags()
            return [
                [(first + 1, last + 1, label) for first, last, label in spans_of_tags([tags[i] for i in row[1:end]])]
                for row, end in zip(best, (length - 1 for length in lengths), strict=True)
            ]
        spans: list[list[tuple[int, int, str]]] = [[] for _ in lengths]
        for row, label, first, last in np.argwhere(self.run(model, inputs, batch_size) > 0):
            if first > 0 and last < lengths[row] - 1:
                spans[row].append((first, last, (self.labels or [])[label]))
        return spans


def read_tagged(path: str | os.PathLike[str]) -> list[tuple[str, list[tuple[int, int, str]]]]:
    """Return the examples of a file with a character and its tag a line and a blank line after each sentence.

    Words of several letters, as in English files, are joined by spaces.

    Arguments:
        path: the file, compressed with gzip (.gz) or not.

    Returns:
        `(text, [(start, end, label), ...])` for each sentence. Raises `DataError`.
    """
    examples: list[tuple[str, list[tuple[int, int, str]]]] = []
    units: list[str] = []
    tags: list[str] = []
    for number, line in enumerate([*read_lines(path), ""], 1):
        if not line.strip():
            if units:
                examples.append(_joined(units, tags))
            units, tags = [], []
            continue
        match = re.fullmatch(r"(.+?)[ \t]+(\S+)\s*", line)
        if match is None or not re.fullmatch(r"O|[BIMES](-.+)?", match[2]):
            raise DataError(
                f"{path}, line {number}: expected a character and its tag, such as '北 B-LOC', not {line!r:.60}."
            )
        units.append(match[1])
        tags.append(match[2])
    return examples


def read_words(path: str | os.PathLike[str], label: str = "word") -> list[tuple[str, list[tuple[int, int, str]]]]:
    """Return the examples of a file of segmented text: a sentence a line, spaces between its words.

    Arguments:
        path: the file, compressed with gzip (.gz) or not.
        label: the label that every word gets.

    Returns:
        `(text without spaces, [(start, end, label), ...])` for each line that is not empty. Raises `DataError`.
    """
    examples = []
    for line in read_lines(path):
        words = line.split()
        ends = np.cumsum([len(word) for word in words]).tolist()
        if words:
            examples.append(("".join(words), [(end - len(w), end, label) for w, end in zip(words, ends, strict=True)]))
    return examples


def _joined(units: Sequence[str], tags: Sequence[str]) -> tuple[str, list[tuple[int, int, str]]]:
    text, starts = "", []
    for unit in units:
        letters = text[-1:] + unit[:1]
        if len(unit) > 1 and len(letters) == 2 and letters.isascii() and letters.isalnum():
            text += " "
        starts.append(len(text))
        text += unit
    spans = [(starts[a], starts[b] + len(units[b]), label) for a, b, label in spans_of_tags(tags)]
    return text, spans


def _split(example: Any) -> tuple[str, Sequence[Any]]:
    """Return the text and the spans of an example."""
    parts = [] if isinstance(example, str) else list(example)
    if len(parts) != 2 or not isinstance(parts[0], str) or not all(len(span) >= 3 for span in parts[1]):
        raise DataError(f"An example must be (text, [(start, end, label), ...]), not {example!r:.80}.")
    return parts[0], [span[:3] for span in parts[1]]


def _tag_loss(targets: Any, logits: Any) -> Any:
    """Return the cross-entropy [batch] of tags, summed over the tokens whose target is not negative."""
    targets = ops.cast(targets, "int32")
    given = targets >= 0
    losses = ops.sparse_categorical_crossentropy(ops.where(given, targets, 0), logits, from_logits=True)
    return ops.sum(ops.where(given, losses, 0), axis=1)
