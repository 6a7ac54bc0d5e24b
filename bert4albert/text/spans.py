"""Spans: between characters of the original text and tokens, between spans and tags, and how well they were found."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from bert4albert.text.tokenizer import Tokenizer

SCHEMES = ("BIO", "BIOES")
_PREFIXES = ("O", "B", "I", "M", "E", "S")
_SENTENCE_ENDS = "。！？；!?;\n"


class Entity(NamedTuple):
    """A labelled span: `text` is the characters from `start` up to, not including, `end`."""

    start: int
    end: int
    label: str
    text: str


class TokenizedTexts:
    """Texts as rows of tokens that know which characters they are made of.

    A text with more tokens than a row may have becomes several rows, cut at the ends of sentences where possible,
    so that nothing in a long text is lost. `len` is the number of texts.

    Arguments:
        tokenizer: the tokenizer.
        texts: the texts.
        maxlen: the most tokens of a row, [CLS] and [SEP] included.

    Attributes:
        texts: the texts.
        inputs: token ids and segment ids, a list of lists each, one a row.
        text_of_row: for each row the index of its text.
    """

    def __init__(self, tokenizer: Tokenizer, texts: Sequence[str], maxlen: int) -> None:
        self.texts = list(texts)
        self.text_of_row: list[int] = []
        pieces: list[str] = []
        self._offsets: list[np.ndarray] = []  # For each row [tokens, 2]: the characters of each token in its text.
        for index, (text, whole) in enumerate(zip(self.texts, tokenizer.encode_many(self.texts)[0], strict=True)):
            cuts = [0, len(text)] if len(whole) <= maxlen else _cuts(text, tokenizer.offsets(text), maxlen - 2)
            for start, end in pairwise(cuts):
                piece = text[start:end]
                pieces.append(piece)
                self.text_of_row.append(index)
                self._offsets.append(np.array(tokenizer.offsets(piece, maxlen=maxlen)) + start)
        self.inputs = tokenizer.encode_many(pieces, maxlen=maxlen)

    def __len__(self) -> int:
        return len(self.texts)

    def batches(self, batch_size: int) -> Iterator[tuple[np.ndarray, tuple[Any, ...]]]:
        """Yield the indices and inputs of rows of similar length, until all rows were there."""
        token_ids, segment_ids = self.inputs
        order = np.argsort([len(row) for row in token_ids], kind="stable")
        for rows in np.split(order, range(batch_size, len(order), batch_size)):
            yield rows, ([token_ids[row] for row in rows], [segment_ids[row] for row in rows])

    def tokens(self, row: int, start: int, end: int) -> tuple[int, int] | None:
        """Return the first and last token of the characters [start, end) of the text; None if not all are in the row.

        A token that reaches beyond the span counts as part of it.
        """
        starts, ends = self._offsets[row][1:-1].T
        first = int(np.searchsorted(ends, start, "right"))
        last = int(np.searchsorted(starts, end, "left")) - 1
        if first > last:
            return None
        text = self.texts[self.text_of_row[row]]
        # Characters without a token, such as spaces, need none.
        if text[start : starts[first]].strip() or text[ends[last] : end].strip():
            return None
        return first + 1, last + 1

    def find(self, row: int, part: str) -> tuple[int, int] | None:
        """Return the first and last token of the first place where a row has this part of its text.

        A place that begins and ends with a token comes before others. None if the row does not have it.
        """
        text, found = self.texts[self.text_of_row[row]], None
        start = text.find(part)
        while part and start >= 0:
            tokens = self.tokens(row, start, start + len(part))
            if tokens is not None and self.characters(row, *tokens) == (start, start + len(part)):
                return tokens
            found = found or tokens
            start = text.find(part, start + 1)
        return found

    def characters(self, row: int, first: int, last: int) -> tuple[int, int]:
        """Return which characters [start, end) of its text the tokens from `first` to `last` are made of."""
        return int(self._offsets[row][first, 0]), int(self._offsets[row][last, 1])


def tags_of_spans(spans: Iterable[tuple[int, int, str]], length: int, scheme: str = "BIO") -> list[str]:
    """Return one tag for each position.

    Arguments:
        spans: (first, last, label), both positions inclusive. Where spans overlap, the one given first stays.
        length: how many positions there are.
        scheme: 'BIO', or 'BIOES' with E at the end of a span and S for one that has a single position.

    Returns:
        A list such as ['B-PER', 'I-PER', 'O'].
    """
    tags = ["O"] * length
    for first, last, label in spans:
        if any(tag != "O" for tag in tags[first : last + 1]):
            continue
        prefixes = ["B"] + ["I"] * (last - first)
        if scheme == "BIOES":
            prefixes[-1] = "S" if first == last else "E"
        tags[first : last + 1] = [_tag(prefix, label) for prefix in prefixes]
    return tags


def spans_of_tags(tags: Sequence[str]) -> list[tuple[int, int, str]]:
    """Return the spans (first, last, label) of tags in BIO, BIOES, BMES or IOB1, both positions inclusive.

    Tags that do not fit together are read as `conlleval` does: a span also begins where its B is missing. A tag
    without a prefix, such as transformers' LABEL_1, is a label: neighbours that have it are one span.
    """
    spans: list[tuple[int, int, str]] = []
    open_span = False
    for position, tag in enumerate(tags):
        prefix, label = split_tag(tag)
        if prefix == "O":
            open_span = False
            continue
        if open_span and prefix not in ("B", "S") and spans[-1][2] == label:
            spans[-1] = (spans[-1][0], position, label)
        else:
            spans.append((position, position, label))
        open_span = prefix not in ("E", "S")
    return spans


def split_tag(tag: str) -> tuple[str, str]:
    """Return the prefix and the label of a tag; 'O' has no label, and a tag without a prefix has I."""
    prefix, dash, label = tag.partition("-")
    return (prefix, label) if prefix in _PREFIXES and (dash or not label) else ("I", tag)


def tag_set(labels: Iterable[str], scheme: str = "BIO") -> list[str]:
    """Return all tags of a scheme for these labels, 'O' first."""
    return ["O", *(_tag(prefix, label) for label in labels for prefix in scheme if prefix != "O")]


def precision_recall_f1(expected: Iterable[set[Any]], found: Iterable[set[Any]]) -> dict[str, float]:
    """Return micro-averaged precision, recall and F1 of sets of answers; 0 where there is nothing to divide by."""
    right = wanted = given = 0
    for expected_set, found_set in zip(expected, found, strict=True):
        right += len(expected_set & found_set)
        wanted += len(expected_set)
        given += len(found_set)
    return {
        "precision": right / given if given else 0.0,
        "recall": right / wanted if wanted else 0.0,
        "f1": 2 * right / (wanted + given) if wanted + given else 0.0,
    }


def _tag(prefix: str, label: str) -> str:
    return f"{prefix}-{label}" if label else prefix


def _cuts(text: str, offsets: Sequence[tuple[int, int]], room: int) -> list[int]:
    """Return where to cut a text into pieces of at most `room` tokens, from 0 to its length."""
    tokens = offsets[1:-1]
    cuts, begin = [0], 0
    while len(tokens) - begin > room:
        # The last end of a sentence in the second half of the piece, or else its very end.
        ends = [i for i in range(begin + room // 2, begin + room) if text[tokens[i][0]] in _SENTENCE_ENDS]
        begin = ends[-1] + 1 if ends else begin + room
        cuts.append(tokens[begin][0])
    return [*cuts, len(text)]
