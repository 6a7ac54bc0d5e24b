"""`MultiHeadAttention` and `FeedForward` for graphs that scripts build themselves; the trunk has its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from bert4albert.bert4keras.backend import (
    activation_of,
    align,
    apply_rotary_position_embeddings,
    as_saved,
    attention_normalize,
)
from bert4albert.bert4keras.registration import Layer, register
from bert4albert.errors import ConfigError


@register
class MultiHeadAttention(Layer):
    """Multi-head attention (arXiv:1706.03762).

    The input is the list [query, key, value], then a bias of the scores where the call has `a_bias=True`, then sine and
    cosine embeddings of positions where it has `p_bias='rotary'`.

    Arguments:
        heads, head_size: how many heads, and the size of their values.
        out_dim: size of the output; None for heads * head_size.
        key_size: size of queries and keys; None for `head_size`.
        use_bias: whether the Dense layers have one.
        normalization: how scores become weights, as in `attention_normalize`.
        attention_scale: whether scores are divided by the root of `key_size`.
        attention_dropout: dropout of the weights; None for none.
        return_attention_scores: whether to return [output, scores].
    """

    def __init__(
        self,
        heads: int,
        head_size: int,
        out_dim: int | None = None,
        key_size: int | None = None,
        use_bias: bool = True,
        normalization: str = "softmax",
        attention_scale: bool = True,
        attention_dropout: float | None = None,
        return_attention_scores: bool = False,
        kernel_initializer: Any = "glorot_uniform",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.heads, self.head_size = heads, head_size
        self.out_dim, self.key_size = out_dim or heads * head_size, key_size or head_size
        self.use_bias, self.normalization, self.attention_scale = use_bias, normalization, attention_scale
        self.attention_dropout, self.return_attention_scores = attention_dropout, return_attention_scores
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.q_dense, self.k_dense, self.v_dense, self.o_dense = (
            keras.layers.Dense(
                units, use_bias=use_bias, kernel_initializer=kernel_initializer, dtype=self.dtype_policy, name=name
            )
            for units, name in (
                (self.key_size * heads, "q_dense"),
                (self.key_size * heads, "k_dense"),
                (head_size * heads, "v_dense"),
                (self.out_dim, "o_dense"),
            )
        )
        self.dropout = keras.layers.Dropout(attention_dropout or 0.0, dtype=self.dtype_policy)

    def get_config(self) -> dict[str, Any]:
        """Return Keras' own settings and the arguments."""
        names = """heads head_size out_dim key_size use_bias normalization attention_scale attention_dropout
        return_attention_scores"""
        own = {name: getattr(self, name) for name in names.split()}
        own["kernel_initializer"] = keras.initializers.serialize(self.kernel_initializer)
        return {**super().get_config(), **own}

    def build(self, shapes: Any) -> None:
        """Create the weights."""
        for dense, shape in zip((self.q_dense, self.k_dense, self.v_dense), shapes, strict=False):
            dense.build(shape)
        self.o_dense.build((*shapes[0][:-1], self.heads * self.head_size))
        self.built = True

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """Return the mask of the queries."""
        first = mask[0] if mask is not None else None
        return [first, None] if self.return_attention_scores else first

    def call(self, inputs: Sequence[Any], mask: Any = None, a_bias: Any = None, p_bias: Any = None) -> Any:
        """Attend; padding in the values' mask gets no weight."""
        if p_bias not in (None, "rotary"):
            raise ConfigError(f"p_bias={p_bias!r} is of models that are not built here; use 'rotary' or None.")
        query, key, value, *rest = inputs
        query, key, value = (
            self._heads(dense(x)) for dense, x in ((self.q_dense, query), (self.k_dense, key), (self.v_dense, value))
        )
        bias = rest.pop(0) if a_bias else None
        if p_bias == "rotary":
            query, key = apply_rotary_position_embeddings(rest.pop(0), query, key)
        scores = ops.einsum("bjhd,bkhd->bhjk", query, key)
        if self.attention_scale:
            scores = scores * self.key_size**-0.5
        if bias is not None and len(bias.shape) == 3:
            bias = align(bias, [0, -2, -1], 4)
        value_mask = None if mask is None else mask[2]
        weights = self.dropout(attention_normalize(scores, value_mask, -1, self.normalization, bias))
        context = ops.einsum("bhjk,bkhd->bjhd", weights, value)
        batch, length, heads, size = ops.shape(context)
        output = self.o_dense(ops.reshape(context, (batch, length, heads * size)))
        return [output, scores] if self.return_attention_scores else output

    def compute_output_spec(self, inputs: Any, *_: Any, **__: Any) -> Any:
        """Return the shapes."""
        batch, length = inputs[0].shape[:2]
        output = keras.KerasTensor((batch, length, self.out_dim), dtype=self.compute_dtype)
        if not self.return_attention_scores:
            return output
        scores = (batch, self.heads, length, inputs[1].shape[1])
        return [output, keras.KerasTensor(scores, dtype=self.compute_dtype)]

    def _heads(self, x: Any) -> Any:
        batch, length, size = ops.shape(x)
        return ops.reshape(x, (batch, length, self.heads, size // self.heads))


@register
class FeedForward(Layer):
    """Two Dense layers; with a list of activations the first is a gated one (arXiv:2002.05202).

    Arguments:
        units: size of the inner layer.
        activation: its activation, or a list.
        use_bias: whether the Dense layers have one.
    """

    def __init__(
        self,
        units: int,
        activation: Any = "relu",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.units, self.use_bias = units, use_bias
        activations = activation if isinstance(activation, list) else [activation]
        self.activation = [activation_of(one) for one in activations]
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.i_dense = [self._dense(units, f"i{i}_dense", one) for i, one in enumerate(self.activation)]

    def get_config(self) -> dict[str, Any]:
        """Return Keras' own settings and the arguments."""
        return {
            **super().get_config(),
            "units": self.units,
            "activation": [keras.activations.serialize(one) for one in self.activation],
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> FeedForward:
        """Return the layer of a config, as of a file."""
        return super().from_config(as_saved(config, "activation"))

    def build(self, shape: Any) -> None:
        """Create the weights."""
        self.o_dense = self._dense(shape[-1], "o_dense", None)
        for dense in self.i_dense:
            dense.build(shape)
        self.o_dense.build((*shape[:-1], self.units))
        self.built = True

    def call(self, inputs: Any) -> Any:
        """Feed each position through both layers."""
        x = self.i_dense[0](inputs)
        for dense in self.i_dense[1:]:
            x = x * dense(inputs)
        return self.o_dense(x)

    def compute_output_shape(self, shape: Any) -> Any:
        """Return the input's shape."""
        return shape

    def _dense(self, units: int, name: str, activation: Any) -> keras.layers.Dense:
        return keras.layers.Dense(
            units,
            activation,
            use_bias=self.use_bias,
            kernel_initializer=self.kernel_initializer,
            dtype=self.dtype_policy,
            name=name,
        )
