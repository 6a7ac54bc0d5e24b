"""`Embedding` with a dense mode, and embeddings of positions."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import keras
from keras import ops

from bert4albert.bert4keras.backend import sinusoidal_embeddings
from bert4albert.bert4keras.registration import Layer, register
from bert4albert.layers import padding_mask
from bert4albert.layers.embeddings import rows_of_positions


@register
class Embedding(keras.layers.Embedding):
    """Keras' `Embedding`, whose mask never hides the first position, and which can be run backwards.

    Call arguments:
        inputs: ids [batch, length]; with `mode='dense'` vectors [batch, length, output_dim].
        mode: 'embedding', or 'dense' for the product with the transposed table.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"autocast": False, **kwargs})

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """Return what is not padding, the first position always; the mask as it is for vectors."""
        if len(inputs.shape) != 2:
            return mask
        return padding_mask(inputs) if self.mask_zero else None

    def call(self, inputs: Any, mode: str = "embedding") -> Any:
        """Look ids up, or compare vectors with the table."""
        if mode == "embedding":
            return super().call(ops.cast(inputs, "int32"))
        return ops.matmul(inputs, ops.transpose(ops.cast(self.embeddings, inputs.dtype)))

    def compute_output_spec(self, inputs: Any, mode: str = "embedding") -> keras.KerasTensor:
        """Return the shape."""
        shape = (*inputs.shape, self.output_dim) if mode == "embedding" else (*inputs.shape[:2], self.input_dim)
        return keras.KerasTensor(shape, dtype=self.compute_dtype)


class _Positions(Layer):
    """What embeddings of positions share: how they are merged with the input."""

    def __init__(
        self, output_dim: int, merge_mode: str = "add", custom_position_ids: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.output_dim, self.merge_mode, self.custom_position_ids = output_dim, merge_mode, custom_position_ids

    def get_config(self) -> dict[str, Any]:
        """Return Keras' own settings and the arguments."""
        own = {name: getattr(self, name) for name in ("output_dim", "merge_mode", "custom_position_ids")}
        return {**super().get_config(), **own}

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """Return the mask of the first input."""
        return mask[0] if self.custom_position_ids and mask is not None else mask

    def call(self, inputs: Any) -> Any:
        """Merge the input with the embeddings of its positions; the list [input, ids] for ids of one's own."""
        inputs, position_ids = inputs if self.custom_position_ids else (inputs, None)
        embeddings = self._embeddings(position_ids, ops.shape(inputs)[1])
        if self.merge_mode == "add":
            return inputs + embeddings
        if self.merge_mode == "mul":
            return inputs * (embeddings + 1.0)
        if self.merge_mode == "zero":
            return embeddings
        shape = (*ops.shape(inputs)[:2], self.output_dim)
        return ops.concatenate([inputs, ops.broadcast_to(embeddings, shape)], axis=-1)

    @abstractmethod
    def _embeddings(self, position_ids: Any, length: Any) -> Any:
        """Return the embeddings of positions [batch, length], or if None of 0 to before `length` [1, length]."""


@register
class PositionEmbedding(_Positions):
    """Embeddings of positions that are trained.

    Arguments:
        input_dim, output_dim: how many positions, and the size of their embeddings.
        merge_mode: 'add', 'mul', 'zero' (the embeddings alone), or anything else to join them to the input.
        hierarchical: True (0.4) or alpha: cover input_dim**2 positions (kexue.fm/archives/7947).
        custom_position_ids: whether the input is the list [tensor, position ids].
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        merge_mode: str = "add",
        hierarchical: Any = None,
        embeddings_initializer: Any = "zeros",
        custom_position_ids: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(output_dim, merge_mode, custom_position_ids, **kwargs)
        self.input_dim, self.hierarchical = input_dim, hierarchical
        self.embeddings_initializer = keras.initializers.get(embeddings_initializer)

    def get_config(self) -> dict[str, Any]:
        """Return Keras' own settings and the arguments."""
        initializer = keras.initializers.serialize(self.embeddings_initializer)
        own = {"input_dim": self.input_dim, "hierarchical": self.hierarchical, "embeddings_initializer": initializer}
        return {**super().get_config(), **own}

    def build(self, shape: Any) -> None:
        """Create the table."""
        self.embeddings = self.add_weight(
            shape=(self.input_dim, self.output_dim), initializer=self.embeddings_initializer, name="embeddings"
        )
        self.built = True

    def _embeddings(self, position_ids: Any, length: Any) -> Any:
        table = ops.cast(self.embeddings, self.compute_dtype)
        if position_ids is None and not self.hierarchical:
            return table[None, :length]  # an input that is too long then fails on every backend
        ids = ops.arange(length)[None] if position_ids is None else position_ids
        alpha = 0.4 if self.hierarchical is True else self.hierarchical
        return rows_of_positions(table, ops.cast(ids, "int32"), alpha or None)


@register
class SinusoidalPositionEmbedding(_Positions):
    """Sines and cosines of positions (arXiv:1706.03762); ids of one's own may lie between whole numbers.

    Arguments:
        output_dim, merge_mode, custom_position_ids: as in `PositionEmbedding`.
    """

    def _embeddings(self, position_ids: Any, length: Any) -> Any:
        position_ids = ops.arange(length)[None] if position_ids is None else position_ids
        return ops.cast(sinusoidal_embeddings(position_ids, self.output_dim), self.compute_dtype)
