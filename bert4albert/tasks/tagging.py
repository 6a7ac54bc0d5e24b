"""Tagger: named entities and words, as spans of the original text."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Self

import keras
import numpy as np

from bert4albert.checkpoint.task_head import TaskHead
from bert4albert.errors import ConfigError, DataError, require_choice
from bert4albert.model import Trunk
from bert4albert.tasks.data_files import Row, json_cell, read_lines
from bert4albert.tasks.example import Fields, plain
from bert4albert.tasks.hugging_face_tasks import tagger_from_hf, tagger_head
from bert4albert.tasks.tagging_methods import METHODS
from bert4albert.tasks.task import Task
from bert4albert.text import Tokenizer
from bert4albert.text.spans import SCHEMES, Entity, TokenizedTexts, precision_recall_f1, spans_of_tags, tag_set


class Tagger(Task):
    """Find labelled spans: named entities, or with one label the words of a text.

    An example is `(text, [(start, end, label), ...])` in character positions, `end` not included, or a row with
    'text', 'spans' and perhaps 'weight'; a span may also be `{"start": ..., "end": ..., "label": ...}`. Files that are
    no tables have a character (or word) and its tag on each line, in BIO, BIOES or BMES, and a blank line after each
    sentence, compressed with gzip (.gz) or not; `read_words` reads segmented text. Answers are lists of `Entity`.

    Arguments:
        backbone: a trunk from `build_model`.
        tokenizer: its `Tokenizer`.
        labels: the labels of spans; by default those of the training set, sorted.
        method: 'softmax' or 'crf', which tag each token, or 'global_pointer' or 'efficient_global_pointer', which
            score each span, so that spans may be nested and overlap.
        scheme: the tags of softmax and CRF: 'BIO', or 'BIOES', the better one for words.
        tags: these tags in the order of the logits, where it is not the scheme's, as in a tagger of `transformers`.
        head_size: of the pointers' queries and keys.
        dropout: on the hidden states, in training.
        maxlen: the most tokens that are read at once; longer texts are read in pieces, cut between sentences.

    Examples:
        >>> from bert4albert import Tokenizer, build_model
        >>> from bert4albert.tasks import Tagger
        >>> backbone, tokenizer = build_model("albert_tiny_zh"), Tokenizer("albert_tiny_zh")
        >>> tagger = Tagger(backbone, tokenizer, method="global_pointer", maxlen=32)
        >>> train = [("鲁迅生于绍兴", [(0, 2, "人"), (4, 6, "地")])]
        >>> history = tagger.fit(train, epochs=1, verbose=0)
        >>> tagger.labels
        ['人', '地']
        >>> len(tagger.predict(["老舍生于北京"]))
        1
    """

    metric = "f1"
    target_padding = -1
    fields = Fields({"text": ("text",)}, "spans", "An example must be (text, [(start, end, label), ...]).")

    def __init__(
        self,
        backbone: Trunk,
        tokenizer: Tokenizer,
        labels: Sequence[str] | None = None,
        *,
        method: str = "crf",
        scheme: str = "BIO",
        tags: Sequence[str] | None = None,
        head_size: int = 64,
        dropout: float = 0.1,
        maxlen: int = 128,
    ) -> None:
        super().__init__(backbone, tokenizer, maxlen=maxlen)
        require_choice("method", method, METHODS)
        require_choice("scheme", scheme, SCHEMES)
        self.labels = None if labels is None else [plain(label) for label in labels]
        self.method = method
        self.scheme = scheme
        self.tags = None if tags is None else list(tags)
        self.head_size = head_size
        self.dropout = dropout
        self._head = METHODS[method](self)

    def settings(self) -> dict[str, Any]:
        """Return the constructor's keyword arguments as JSON values."""
        return {
            **super().settings(),
            "labels": self.labels,
            "method": self.method,
            "scheme": self.scheme,
            "tags": self.tags,
            "head_size": self.head_size,
            "dropout": self.dropout,
        }

    @property
    def loss(self) -> Any:
        """What suits the method; each is summed over a text."""
        return self._head.loss

    def read_file(self, path: str | os.PathLike[str]) -> list[Row]:
        """Return the rows of a file with a character and its tag a line."""
        return [Row(example, f"{path}, sentence {number}") for number, example in enumerate(read_tagged(path), 1)]

    def cell(self, part: str, text: str, place: str) -> Any:
        """Return the spans, which a table has as JSON."""
        return json_cell(text, place) if part == "spans" else text

    def answer(self, value: Any, text: str, place: str) -> list[tuple[int, int, str]]:
        """Return the spans as (start, end, label)."""
        if not isinstance(value, list | tuple):
            raise DataError(f"{place} has the spans {value!r:.80}. {self.fields.expected}")
        return [_span(plain(span), text, place) for span in value]

    def learn(self, examples: Sequence[Any]) -> None:
        """Take the labels from the training set, if none were given."""
        if self.labels is None:
            self.labels = sorted({label for example in map(self.example, examples) for _, _, label in example.answer})

    def check(self, examples: Sequence[Any]) -> None:
        """Raise `DataError` for labels that the tagger does not have."""
        known = set(self.labels or [])
        for example in map(self.example, examples):
            for _, _, label in example.answer:
                if label not in known:
                    raise DataError(
                        f"{example.place} has the label {label!r}, which is none of the labels of this tagger: "
                        f"{', '.join(map(repr, self.labels or []))!s:.200}."
                    )

    def build_model(self) -> keras.Model:
        """Return the trunk under tag logits [batch, length, tags], or span scores [batch, labels, length, length]."""
        if not self.labels:
            raise ConfigError("The tagger has no labels yet: give labels=[...], or fit it first.")
        hidden_states, dtype = self.backbone.hidden_states[-1], self.backbone.encoder.variable_dtype
        return self._head.build(keras.layers.Dropout(self.dropout, dtype=dtype, name="head_dropout")(hidden_states))

    def encode(self, texts: Sequence[str]) -> TokenizedTexts:
        """Return the tokenised texts."""
        return TokenizedTexts(self.tokenizer, texts, self.maxlen)

    def columns(self, examples: Sequence[Any], encoded: TokenizedTexts) -> tuple[Any, ...]:
        """Return ids, and for each token the index of its tag, or for each text its spans (label, first, last)."""
        spans_of_row = []
        for row, text in enumerate(encoded.text_of_row):
            spans = []
            for start, end, label in self.example(examples[text]).answer:
                tokens = encoded.tokens(row, start, end)
                if tokens is not None:
                    spans.append((*tokens, label))
            spans_of_row.append(spans)
        return encoded.inputs, self._head.targets(spans_of_row, [len(row) for row in encoded.inputs[0]])

    def example_of_row(self, encoded: TokenizedTexts) -> Sequence[int]:
        """Return which text each row is a piece of."""
        return encoded.text_of_row

    def decode(self, encoded: TokenizedTexts, batch_size: int = 32) -> list[list[Entity]]:
        """Return the spans found in each text, in order of their start."""
        found: list[list[Entity]] = [[] for _ in range(len(encoded))]
        for rows, inputs in encoded.batches(batch_size):
            for row, spans in zip(rows, self._head.spans(inputs, batch_size), strict=True):
                text = encoded.text_of_row[row]
                for first, last, label in spans:
                    start, end = encoded.characters(row, first, last)
                    found[text].append(Entity(start, end, label, encoded.texts[text][start:end]))
        return [sorted(entities) for entities in found]

    def score(self, examples: Sequence[Any], answers: Sequence[Any]) -> dict[str, float]:
        """Return precision, recall and F1 of whole spans with their labels, over all texts together."""
        expected = [set(example.answer) for example in map(self.example, examples)]
        return precision_recall_f1(expected, [{entity[:3] for entity in answer} for answer in answers])

    @classmethod
    def from_hf(cls, folder: str | os.PathLike[str], *, maxlen: int = 128) -> Self:
        """Return the tagger in a folder of `transformers`, ready to predict.

        Arguments:
            folder: what `save_pretrained` wrote of an Albert- or BertForTokenClassification and its tokenizer.
            maxlen: the most tokens that are read at once; fewer where the model has fewer positions.

        Returns:
            A softmax tagger with the tags of `id2label`, in their order. Raises `CheckpointError` for no head or two.
        """
        return tagger_from_hf(cls, folder, maxlen)

    def hugging_face_head(self) -> TaskHead:
        """Return the head as `save_hf` writes it. Raises `CheckpointError` for one that cannot leave."""
        return tagger_head(self)

    @property
    def all_tags(self) -> list[str]:
        """The tags of softmax and CRF, in the order of the logits."""
        return self.tags or tag_set(self.labels or [], self.scheme)

    def segment(self, texts: Sequence[str], batch_size: int = 32) -> list[list[str]]:
        """Return each text cut into the spans found and what lies between them, without spaces around.

        Arguments:
            texts: a list of texts.
            batch_size: texts a batch.

        Returns:
            For each text a list of words.
        """
        words = []
        texts = self.texts(texts)
        for text, entities in zip(texts, self.predict(texts, batch_size), strict=True):
            cuts = sorted({0, len(text), *(cut for entity in entities for cut in entity[:2])})
            pieces = (text[start:end].strip() for start, end in pairwise(cuts))
            words.append([piece for piece in pieces if piece])
        return words


def _span(span: Any, text: str, place: str) -> tuple[int, int, str]:
    """Return (start, end, label) of one span of a text; `DataError` for anything else."""
    parts = [span.get(key) for key in ("start", "end", "label")] if isinstance(span, Mapping) else span
    if not isinstance(parts, list | tuple) or len(parts) < 3:
        raise DataError(f"{place} has the span {span!r:.80}. {Tagger.fields.expected}")
    start, end, label = map(plain, parts[:3])
    whole = all(isinstance(cut, int) and not isinstance(cut, bool) for cut in (start, end))
    if not whole or not isinstance(label, str):
        raise DataError(f"{place} has the span {span!r:.80}; expected two whole numbers and a label that is a string.")
    if not 0 <= start < end <= len(text):
        raise DataError(
            f"{place} has the span ({start}, {end}, {label!r}), but its text is {len(text)} characters long; "
            "expected 0 <= start < end <= length."
        )
    return start, end, label


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
