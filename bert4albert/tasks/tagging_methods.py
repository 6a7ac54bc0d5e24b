"""How a tagger finds spans: by a tag for each token, alone or in a CRF, or by a score for each span."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

from bert4albert.backend import register
from bert4albert.batches import pad
from bert4albert.heads import CRF, EfficientGlobalPointer, GlobalPointer, span_loss
from bert4albert.layers import padding_of
from bert4albert.text.spans import spans_of_tags, tags_of_spans

if TYPE_CHECKING:
    from bert4albert.tasks.tagging import Tagger

Span = tuple[int, int, str]  # first token, last token, label


class TaggingMethod(ABC):
    """One way to find spans; it belongs to a tagger, whose labels and settings it reads.

    Arguments:
        task: the tagger.
    """

    loss: Any

    def __init__(self, task: Tagger) -> None:
        self.task = task

    @abstractmethod
    def build(self, hidden_states: keras.KerasTensor) -> keras.Model:
        """Return the model to train, from the hidden states after dropout."""

    @abstractmethod
    def targets(self, spans: Sequence[Sequence[Span]], lengths: Sequence[int]) -> Any:
        """Return the column of targets of rows with these spans and so many tokens each."""

    @abstractmethod
    def spans(self, inputs: tuple[Any, ...], batch_size: int) -> list[list[Span]]:
        """Return the spans of each row of a batch."""

    @property
    def dtype(self) -> Any:
        """What heads compute in: full precision, whatever the trunk computes in."""
        return self.task.backbone.encoder.variable_dtype


class Softmax(TaggingMethod):
    """A tag for each token, each for itself."""

    def __init__(self, task: Tagger) -> None:
        super().__init__(task)
        self.loss = _tag_loss

    def build(self, hidden_states: keras.KerasTensor) -> keras.Model:
        """Return a model that gives logits [batch, length, tags]."""
        return keras.Model(self.task.backbone.inputs, self._logits(hidden_states))

    def targets(self, spans: Sequence[Sequence[Span]], lengths: Sequence[int]) -> Any:
        """Return the index of each token's tag, a list for each row."""
        index = {tag: i for i, tag in enumerate(self._tags())}
        return [
            [index[tag] for tag in tags_of_spans(of_row, length, self.task.scheme)]
            for of_row, length in zip(spans, lengths, strict=True)
        ]

    def spans(self, inputs: tuple[Any, ...], batch_size: int) -> list[list[Span]]:
        """Return the spans of the best tags."""
        tags, result = self._tags(), []
        for row, token_ids in zip(self._best(inputs, batch_size), inputs[0], strict=True):
            found = spans_of_tags([tags[i] for i in row[1 : len(token_ids) - 1]])
            result.append([(first + 1, last + 1, label) for first, last, label in found])
        return result

    def _best(self, inputs: tuple[Any, ...], batch_size: int) -> np.ndarray:
        """Return the index of the best tag of each token, [rows, length]."""
        return self.task.run(self.task.model, inputs, batch_size).argmax(axis=-1)

    def _logits(self, hidden_states: keras.KerasTensor) -> keras.KerasTensor:
        return keras.layers.Dense(
            len(self._tags()), kernel_initializer=self.task.initializer(), dtype=self.dtype, name="logits"
        )(hidden_states)

    def _tags(self) -> list[str]:
        return self.task.all_tags


class ConditionalRandomField(Softmax):
    """The best sequence of tags: each tag has a score, and each step from one to the next."""

    def __init__(self, task: Tagger) -> None:
        super().__init__(task)
        self._crf = CRF(dtype=self.dtype, name="crf")
        self.loss = lambda targets, emissions: self._crf.loss(targets, emissions)

    def build(self, hidden_states: keras.KerasTensor) -> keras.Model:
        """Return a model that gives emissions [batch, length, tags]."""
        trunk, logits = self.task.backbone, self._logits(hidden_states)
        # A new one for each model, as all of the head.
        self._crf = CRF(dtype=self.dtype, name="crf")
        emissions = self._crf(logits)
        # To predict, the same layers with the search for the best sequence behind them.
        self._tagging_model = keras.Model(trunk.inputs, self._crf(logits, padding_of(trunk), decode=True))
        return keras.Model(trunk.inputs, emissions)

    def _best(self, inputs: tuple[Any, ...], batch_size: int) -> np.ndarray:
        self.task.model  # noqa: B018  (builds the tagging model)
        return self.task.run(self._tagging_model, inputs, batch_size)


class Pointers(TaggingMethod):
    """A score for each span and label, so that spans may be nested and overlap."""

    head: type[GlobalPointer] = GlobalPointer

    def __init__(self, task: Tagger) -> None:
        super().__init__(task)
        self.loss = span_loss

    def build(self, hidden_states: keras.KerasTensor) -> keras.Model:
        """Return a model that gives scores [batch, labels, length, length]."""
        task = self.task
        # Of the layers' own spread: products of two small numbers would hardly learn. Seeded as all of the head.
        spread = keras.initializers.LecunNormal(seed=task.initializer().seed)
        pointer = self.head(
            len(task.labels or []), task.head_size, kernel_initializer=spread, dtype=self.dtype, name="pointer"
        )
        return keras.Model(task.backbone.inputs, pointer(hidden_states, padding_of(task.backbone)))

    def targets(self, spans: Sequence[Sequence[Span]], lengths: Sequence[int]) -> Any:
        """Return (label, first, last) of each span, [rows, most spans, 3]; the rest is -1."""
        index = {label: i for i, label in enumerate(self.task.labels or [])}
        rows = [[(index[label], first, last) for first, last, label in of_row] for of_row in spans]
        # Of one width of its own: a text may have more spans than the model has positions.
        return pad([row or [(-1, -1, -1)] for row in rows], value=-1)

    def spans(self, inputs: tuple[Any, ...], batch_size: int) -> list[list[Span]]:
        """Return the spans with a score above 0."""
        labels = self.task.labels or []
        found: list[list[Span]] = [[] for _ in inputs[0]]
        for row, label, first, last in np.argwhere(self.task.run(self.task.model, inputs, batch_size) > 0):
            if first > 0 and last < len(inputs[0][row]) - 1:
                found[row].append((first, last, labels[label]))
        return found


class EfficientPointers(Pointers):
    """The same with far fewer weights."""

    head = EfficientGlobalPointer


METHODS: dict[str, type[TaggingMethod]] = {
    "softmax": Softmax,
    "crf": ConditionalRandomField,
    "global_pointer": Pointers,
    "efficient_global_pointer": EfficientPointers,
}


@register
def _tag_loss(targets: Any, logits: Any) -> Any:
    """Return the cross-entropy [batch] of tags, summed over the tokens whose target is not negative."""
    targets = ops.cast(targets, "int32")
    given = targets >= 0
    losses = ops.sparse_categorical_crossentropy(ops.where(given, targets, 0), logits, from_logits=True)
    return ops.sum(ops.where(given, losses, 0), axis=1)
