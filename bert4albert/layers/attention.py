"""Who may look at whom, and multi-head self-attention."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import keras
from keras import ops

from bert4albert.backend import register
from bert4albert.config import ModelConfig
from bert4albert.layers.adapters import DepthAdapter, apply_dense
from bert4albert.layers.base import ConfiguredLayer, Tensor

KeysAndValues: TypeAlias = tuple[Tensor, Tensor]


def padding_mask(token_ids: Tensor) -> Tensor:
    """Return which positions hold text: bool [batch, length]; what is padding is said here and nowhere else.

    Padding has token id 0, wherever it stands; the first position is never masked, so that no row is empty.

    Arguments:
        token_ids: [batch, length].

    Examples:
        >>> import keras
        >>> import numpy as np
        >>> from bert4albert.layers import padding_mask
        >>> keras.ops.convert_to_numpy(padding_mask(np.array([[2, 5, 3, 0], [0, 5, 0, 3]]))).tolist()
        [[True, True, True, False], [True, True, False, True]]
    """
    position = ops.cumsum(ops.ones_like(token_ids, dtype="int32"), axis=1)
    return ops.logical_or(ops.not_equal(token_ids, 0), position == 1)


@register
class AttentionMask(ConfiguredLayer):
    """Compute once, from the ids alone, which positions each position may attend to.

    All see what `padding_mask` leaves. `lm` adds j <= i; `unilm` adds c[j] <= c[i] with c the running sum of the
    segment ids (arXiv:1905.03197; bert4keras).

    Call arguments:
        token_ids: [batch, length].
        segment_ids: [batch, length].

    Returns:
        bool [batch, 1, length] for an encoder, else [batch, length, length].

    Examples:
        >>> import keras
        >>> import numpy as np
        >>> from bert4albert import ModelConfig
        >>> from bert4albert.layers import AttentionMask
        >>> sizes = {"vocab_size": 99, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2}
        >>> layer = AttentionMask(ModelConfig.from_dict(sizes, application="lm"))
        >>> token_ids = np.array([[2, 5, 3, 0]])
        >>> mask = keras.ops.convert_to_numpy(layer(token_ids, np.zeros_like(token_ids)))
        >>> mask[0].astype(int).tolist()
        [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 0]]
    """

    def call(self, token_ids: Any, segment_ids: Any) -> Any:
        """Return the mask, True where attention is allowed."""
        visible = ops.expand_dims(padding_mask(token_ids), 1)  # [batch, 1, length]
        if self.config.application == "encoder":
            return visible
        steps = ops.ones_like(token_ids, dtype="int32")
        if self.config.application == "unilm":
            steps = ops.cast(segment_ids, "int32")
        order = ops.cumsum(steps, axis=1)
        return ops.logical_and(visible, ops.expand_dims(order, 1) <= ops.expand_dims(order, 2))

    def compute_output_spec(self, token_ids: Any, segment_ids: Any) -> keras.KerasTensor:
        """Return the mask's shape."""
        batch, length = token_ids.shape
        rows = 1 if self.config.application == "encoder" else length
        return keras.KerasTensor((batch, rows, length), dtype="bool")


@register
class Attention(ConfiguredLayer):
    """Multi-head self-attention (arXiv:1706.03762), with its output projection.

    Call arguments:
        hidden_states: [batch, length, hidden_size].
        attention_bias: what to add to the scores, broadcast to [batch, heads, length, attended length]; None
            for nothing. Attended are the positions of `prefix`, then of `cache`, else of `hidden_states`.
        cache: keys and values of earlier calls, each [batch, heads, cache length, head_size].
        index: int, where in `cache` the keys and values of this call are written.
        prefix: a pair like `cache` that is only read.
        adapter: what the depth adds to the weights.

    Returns:
        ([batch, length, hidden_size], a list of the updated cache, empty where there is none).
    """

    def __init__(self, config: ModelConfig | Mapping[str, Any], **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        hidden_size = self.config.hidden_size
        self.query = self._dense(hidden_size, "query")
        self.key = self._dense(hidden_size, "key")
        self.value = self._dense(hidden_size, "value")
        self.output_dense = self._dense(hidden_size, "output")
        self.dropout = self._dropout(self.config.attention_probs_dropout_prob, "dropout")

    def parts(self) -> dict[str, keras.layers.Layer]:
        """Return the sub-layers that hold weights."""
        return {"query": self.query, "key": self.key, "value": self.value, "output": self.output_dense}

    def build(self, input_shape: Any) -> None:
        """Create the weights."""
        for dense in self.parts().values():
            dense.build((None, None, self.config.hidden_size))
        self.built = True

    def call(
        self,
        hidden_states: Tensor,
        attention_bias: Tensor | None = None,
        cache: KeysAndValues | None = None,
        index: Any = None,
        prefix: KeysAndValues | None = None,
        adapter: DepthAdapter | None = None,
    ) -> tuple[Tensor, list[KeysAndValues]]:
        """Attend from every position to all that the bias allows."""
        head_size = self.config.hidden_size // self.config.num_attention_heads
        query, key, value = (
            apply_dense(dense, hidden_states, adapter, f"attention/{name}")
            for name, dense in (("query", self.query), ("key", self.key), ("value", self.value))
        )
        query = self._split_heads(query * head_size**-0.5)  # [batch, heads, length, head_size]
        key, value = self._split_heads(key), self._split_heads(value)
        if cache is not None:
            start = (0, 0, index, 0)
            key, value = ops.slice_update(cache[0], start, key), ops.slice_update(cache[1], start, value)
        scores = ops.matmul(query, ops.transpose(key, (0, 1, 3, 2)))  # [batch, heads, length, attended length]
        if prefix is not None:
            # Two products, not one with joined keys: joining would copy the prefix at every call.
            before = ops.matmul(query, ops.transpose(prefix[0], (0, 1, 3, 2)))
            scores = ops.concatenate([before, scores], axis=-1)
        if attention_bias is not None:
            scores = scores + attention_bias
        weights = self.dropout(ops.softmax(scores, axis=-1))
        if prefix is None:
            context = ops.matmul(weights, value)  # [batch, heads, length, head_size]
        else:
            length = ops.shape(prefix[1])[2]
            context = ops.matmul(weights[..., :length], prefix[1]) + ops.matmul(weights[..., length:], value)
        output = apply_dense(self.output_dense, self._merge_heads(context), adapter, "attention/output")
        return output, [] if cache is None else [(key, value)]

    def compute_output_spec(
        self, hidden_states: keras.KerasTensor, *_: Any, **__: Any
    ) -> tuple[keras.KerasTensor, list[KeysAndValues]]:
        """Return the input's shape, and no cache."""
        return keras.KerasTensor(hidden_states.shape, dtype=self.compute_dtype), []

    def _split_heads(self, x: Any) -> Any:
        batch, length, size = ops.shape(x)
        heads = self.config.num_attention_heads
        return ops.transpose(ops.reshape(x, (batch, length, heads, size // heads)), (0, 2, 1, 3))

    def _merge_heads(self, x: Any) -> Any:
        batch, heads, length, head_size = ops.shape(x)
        return ops.reshape(ops.transpose(x, (0, 2, 1, 3)), (batch, length, heads * head_size))


def attention_bias(attention_mask: Any, dtype: str) -> Any:
    """Return what to add to attention scores so that masked positions get no weight.

    Arguments:
        attention_mask: bool or 0/1, [batch, length], [batch, 1, length] or [batch, length, length].
        dtype: dtype of the scores.

    Returns:
        [batch, 1, 1 or length, length], 0 where allowed. Finite: half the dtype's range, so that a row
        with everything masked is uniform and not NaN.
    """
    while len(attention_mask.shape) < 4:
        attention_mask = ops.expand_dims(attention_mask, 1)
    low = {"float16": -3e4, "bfloat16": -1e38, "float32": -1e38, "float64": -1e38}[dtype]
    return ops.where(ops.cast(attention_mask, "bool"), ops.cast(0.0, dtype), ops.cast(low, dtype))
