"""Word, segment and position embeddings, factorised or not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
from keras import ops

from bert4albert.backend import concrete, register
from bert4albert.errors import ConfigError, DataError
from bert4albert.layers.base import ConfiguredLayer, initializer


@register
class PositionEmbedding(ConfiguredLayer):
    """The embeddings of positions, plain or hierarchical.

    Call arguments:
        token_ids: [batch, length], of which only the length matters.
        position_ids: [batch, length]; None for 0, 1, 2, ...

    Returns:
        [length, size], or [batch, length, size] for position ids. Raises `ConfigError` for a sequence longer
        than the positions.
    """

    def build(self, input_shape: Any = None) -> None:
        """Create the table."""
        shape = (self.config.max_position_embeddings, self.config.embedding_sum_size)
        self.embeddings = self.add_weight(shape=shape, initializer=initializer(self.config), name="embeddings")
        self.built = True

    def named_weights(self, prefix: str) -> Iterator[tuple[str, Any]]:
        """Yield the table."""
        yield f"{prefix}/embeddings", self.embeddings

    def call(self, token_ids: Any, position_ids: Any = None) -> Any:
        """Return the embedding of each position."""
        if position_ids is not None:
            return self._rows_at(_inside("position id", position_ids, self.config.max_length))
        length = ops.shape(token_ids)[1]
        if isinstance(length, int) and length > self.config.max_length:
            raise ConfigError(
                f"The input is {length} tokens long, but this model has {self.config.max_length} positions; "
                "cut the text (maxlen=...), or build the model with hierarchical_position=True."
            )
        if self.config.hierarchical_position is not None:
            return self._rows_at(ops.arange(length, dtype="int32"))
        # A slice, not a lookup: where the length is unknown until the step runs, a sequence that is too long
        # then fails to add up on every device, where a lookup on a GPU would return zeros.
        return ops.cast(self.embeddings, self.compute_dtype)[:length]

    def _rows_at(self, position_ids: Any) -> Any:
        table = ops.cast(self.embeddings, self.compute_dtype)
        return rows_of_positions(table, position_ids, self.config.hierarchical_position)


@register
class Embeddings(ConfiguredLayer):
    """Add word, segment and position embeddings, normalise, and bring them to the hidden size.

    ALBERT's order is sum, norm, dropout, mapping E -> H; the early brightmart models project the words
    E -> H first and add, normalise at H. BERT has E = H and neither.

    Call arguments:
        inputs: token ids [batch, length]; with `reverse=True` vectors [..., E] (or H for projected words).
        segment_ids: [batch, length].
        position_ids: [batch, length]; needed when the config has `custom_position_ids`.
        reverse: give the logits of every word, the product with the transposed word embeddings.

    Returns:
        [batch, length, hidden_size], or [..., vocab_size] logits without bias for `reverse=True`.
        Raises `ConfigError` for a sequence longer than the positions.

    Examples:
        >>> import numpy as np
        >>> from bert4albert import build_model
        >>> embeddings = build_model("albert_tiny_zh").embeddings
        >>> token_ids = np.array([[2, 100, 101, 3]])
        >>> tuple(embeddings(token_ids, np.zeros_like(token_ids)).shape)
        (1, 4, 312)
        >>> tuple(embeddings(np.zeros((1, 4, 128), "float32"), reverse=True).shape)
        (1, 4, 8000)
    """

    def __init__(self, config: Any, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        config, size = self.config, self.config.embedding_sum_size
        self.word = self._embedding(keras.layers.ReversibleEmbedding, config.vocab_size, config.embedding_size, "word")
        self.projection = self._dense(size, "projection", use_bias=False) if config.projected_words else None
        self.segment = self._embedding(keras.layers.Embedding, config.type_vocab_size, size, "segment")
        self.position = PositionEmbedding(config, dtype=self.dtype_policy, name="position")
        self.norm = self._norm("norm")
        self.dropout = self._dropout(config.hidden_dropout_prob, "dropout")
        self.mapping = self._dense(config.hidden_size, "mapping") if config.embedding_mapping else None

    def build(self, input_shape: Any) -> None:
        """Create the weights."""
        for name, part in self.parts().items():
            size = self.config.embedding_size if name == "projection" else self.config.embedding_sum_size
            part.build((None, None, size))
        self.built = True

    def parts(self) -> dict[str, keras.layers.Layer]:
        """Return the sub-layers that hold weights."""
        names = ("word", "segment", "position", "norm", "projection", "mapping")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    def call(self, inputs: Any, segment_ids: Any = None, position_ids: Any = None, reverse: bool = False) -> Any:
        """Embed token ids, or with `reverse` turn vectors into logits of the words."""
        if reverse:
            return self._logits(inputs)
        normed = self.dropout(self.normalised(inputs, segment_ids, position_ids))
        return normed if self.mapping is None else self.mapping(normed)

    def normalised(self, token_ids: Any, segment_ids: Any, position_ids: Any = None) -> Any:
        """Return the sum of the three embeddings after its norm, before any mapping to the hidden size."""
        words = self.word(_inside("token id", token_ids, self.config.vocab_size))
        if self.projection is not None:
            words = self.projection(words)
        segments = self.segment(_inside("segment id", segment_ids, self.config.type_vocab_size))
        positions = self.position(token_ids, position_ids)
        # Where the length is unknown until the step runs (TensorFlow), this name is what the error shows.
        with keras.name_scope("input_longer_than_the_positions_of_the_model"):
            return self.norm(words + segments + positions)

    def compute_output_spec(
        self, inputs: Any, segment_ids: Any = None, position_ids: Any = None, reverse: bool = False
    ) -> keras.KerasTensor:
        """Return the shape without running the layer, whose positions not every length fits."""
        size = self.config.vocab_size if reverse else self.config.hidden_size
        leading = inputs.shape[:-1] if reverse else inputs.shape
        return keras.KerasTensor((*leading, size), dtype=self.compute_dtype)

    def _logits(self, vectors: Any) -> Any:
        if self.projection is not None:
            vectors = ops.matmul(vectors, ops.transpose(ops.cast(self.projection.kernel, self.compute_dtype)))
        return self.word(vectors, reverse=True)


def rows_of_positions(table: Any, position_ids: Any, alpha: float | None) -> Any:
    """Return the rows of a table of P positions at int positions [...], below P; or with `alpha` below P * P.

    Source: Su Jianlin, kexue.fm/archives/7947: position q is alpha e'[q // P] + (1 - alpha) e'[q % P]
    with e' = (e - alpha e[0]) / (1 - alpha).
    """
    if alpha is None:
        return ops.take(table, position_ids, axis=0)
    base, count = (table - alpha * table[:1]) / (1 - alpha), table.shape[0]
    outer, inner = (ops.take(base, ids, axis=0) for ids in (position_ids // count, position_ids % count))
    return alpha * outer + (1 - alpha) * inner


def _inside(name: str, ids: Any, count: int) -> Any:
    """Return ids that each have a row in a table.

    An id without one is a `DataError` where ids are known before the step runs. Where they are not, it is never looked
    up from the end of the table, and never becomes NaN: on JAX, which cannot raise there, it is the nearest row.
    """
    ids = ops.cast(ids, "int32")
    values = concrete(ids)
    if values is not None and values.size and not (values.min() >= 0 and values.max() < count):
        wrong = values.min() if values.min() < 0 else values.max()
        raise DataError(f"There is no {name} {wrong}: this model has {count}, from 0 on.")
    if values is not None:
        return ids
    if keras.backend.backend() == "jax":
        return ops.clip(ids, 0, count - 1)
    return ops.where(ids < 0, count, ids)
