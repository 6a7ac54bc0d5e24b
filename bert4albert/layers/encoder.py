"""The transformer block, and the stack of block applications that a sharing schedule drives."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from bert4albert.backend import register
from bert4albert.layers.attention import Attention, attention_bias
from bert4albert.layers.base import ConfiguredLayer, activation


@register
class Block(ConfiguredLayer):
    """One post-norm transformer block: attention, norm, feed-forward, norm.

    Call arguments:
        hidden_states: [batch, length, hidden_size].
        attention_bias: what to add to the attention scores.
        cache, cache_index, prefix: as in `Attention`.

    Returns:
        (output, the same before the final norm), each [batch, length, hidden_size]; with a cache also the
        updated cache.
    """

    def __init__(self, config: Any, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.attention = Attention(self.config, dtype=self.dtype_policy, name="attention")
        self.attention_norm = self._norm("attention_norm")
        self.intermediate = self._dense(self.config.intermediate_size, "intermediate")
        self.activation = activation(self.config.hidden_act)
        self.output_dense = self._dense(self.config.hidden_size, "output")
        self.output_norm = self._norm("output_norm")
        self.dropout = self._dropout(self.config.hidden_dropout_prob, "dropout")

    def parts(self) -> dict[str, keras.layers.Layer]:
        """Return the sub-layers that hold weights."""
        return {
            "attention": self.attention,
            "attention_norm": self.attention_norm,
            "intermediate": self.intermediate,
            "output": self.output_dense,
            "output_norm": self.output_norm,
        }

    def build(self, input_shape: Any) -> None:
        """Create the weights."""
        for name, part in self.parts().items():
            size = self.config.intermediate_size if name == "output" else self.config.hidden_size
            part.build((None, None, size))
        self.built = True

    def call(
        self,
        hidden_states: Any,
        attention_bias: Any = None,
        cache: Any = None,
        cache_index: Any = None,
        prefix: Any = None,
    ) -> Any:
        """Run the block."""
        attended = self.attention(hidden_states, attention_bias, cache=cache, cache_index=cache_index, prefix=prefix)
        if cache is not None:
            attended, cache = attended
        hidden_states = self.attention_norm(hidden_states + self.dropout(attended))
        fed = self.output_dense(self.activation(self.intermediate(hidden_states)))
        before_norm = hidden_states + self.dropout(fed)
        outputs = self.output_norm(before_norm), before_norm
        return outputs if cache is None else (*outputs, cache)

    def compute_output_shape(self, input_shape: Any, *_: Any) -> Any:
        """Return the input's shape, twice."""
        return input_shape, input_shape


@register
class Encoder(ConfiguredLayer):
    """Apply blocks in the order of the config's sharing schedule.

    Depth and weights are separate: `config.sharing[d]` is the block used at depth d, so ALBERT, unshared
    ALBERT, ALBERT with groups and BERT are the same layer with different schedules.

    Call arguments:
        hidden_states: [batch, length, hidden_size].
        attention_mask: bool, [batch, attended length], or [batch, 1 or length, attended length]; None for no mask.
        cache: keys and values of earlier positions: `new_cache()`, or what an earlier call returned.
        cache_index: int, where in the cache the keys and values of `hidden_states` are written.
        prefix: a cache that is only read; its positions come before those of `cache`.

    Returns:
        A list: the hidden state after each block application, then the last one before its final norm. With a
        cache, the pair (that list, the updated cache). The attended length is that of `hidden_states`, or with
        a cache that of `prefix` and `cache` together.
    """

    def __init__(self, config: Any, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.blocks = [
            Block(self.config, dtype=self.dtype_policy, name=f"block_{b}") for b in range(self.config.num_blocks)
        ]

    def parts(self) -> dict[str, keras.layers.Layer]:
        """Return the blocks."""
        return {f"block_{b}": block for b, block in enumerate(self.blocks)}

    def build(self, input_shape: Any) -> None:
        """Create the weights."""
        for block in self.blocks:
            block.build((None, None, self.config.hidden_size))
        self.built = True

    def call(
        self,
        hidden_states: Any,
        attention_mask: Any = None,
        cache: Any = None,
        cache_index: Any = None,
        prefix: Any = None,
    ) -> Any:
        """Run every block application."""
        bias = None if attention_mask is None else attention_bias(attention_mask, self.compute_dtype)
        outputs, before_norm, new_cache = [], hidden_states, []
        for depth, block in enumerate(self.config.sharing):
            # One cache a depth: a shared block has other keys and values at each of its depths.
            memory = cache and {"cache": cache[depth], "cache_index": cache_index, "prefix": prefix and prefix[depth]}
            hidden_states, before_norm, *updated = self.blocks[block](hidden_states, bias, **(memory or {}))
            outputs.append(hidden_states)
            new_cache += updated
        outputs.append(before_norm)
        return outputs if cache is None else (outputs, new_cache)

    def new_cache(self, batch: int, length: int) -> list[tuple[Any, Any]]:
        """Return room for the keys and values of `length` positions at every depth, filled with zeros."""
        heads = self.config.num_attention_heads
        shape = (batch, heads, length, self.config.hidden_size // heads)
        zeros = ops.zeros(shape, dtype=self.compute_dtype)
        return [(zeros, zeros) for _ in self.config.sharing]

    def compute_output_shape(self, input_shape: Any, *_: Any) -> Any:
        """Return the input's shape for every depth and once more."""
        return [tuple(input_shape)] * (len(self.config.sharing) + 1)
