"""The transformer block, and the stack of block applications that a sharing schedule drives."""

from __future__ import annotations

from typing import Any

import keras

from bert4albert.layers.attention import Attention, attention_bias
from bert4albert.layers.base import ConfiguredLayer, activation, register


@register
class Block(ConfiguredLayer):
    """One post-norm transformer block: attention, norm, feed-forward, norm.

    Call arguments:
        hidden_states: [batch, length, hidden_size].
        attention_bias: what to add to the attention scores.

    Returns:
        (output, the same before the final norm), each [batch, length, hidden_size].
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

    def call(self, hidden_states: Any, attention_bias: Any = None) -> Any:
        """Run the block."""
        attended = self.dropout(self.attention(hidden_states, attention_bias))
        hidden_states = self.attention_norm(hidden_states + attended)
        fed = self.output_dense(self.activation(self.intermediate(hidden_states)))
        before_norm = hidden_states + self.dropout(fed)
        return self.output_norm(before_norm), before_norm

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
        attention_mask: bool, [batch, length], [batch, 1, length] or [batch, length, length]; None for no mask.

    Returns:
        A list: the hidden state after each block application, then the last one before its final norm.
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

    def call(self, hidden_states: Any, attention_mask: Any = None) -> Any:
        """Run every block application."""
        bias = None if attention_mask is None else attention_bias(attention_mask, self.compute_dtype)
        outputs, before_norm = [], hidden_states
        for block in self.config.sharing:
            hidden_states, before_norm = self.blocks[block](hidden_states, bias)
            outputs.append(hidden_states)
        return [*outputs, before_norm]

    def compute_output_shape(self, input_shape: Any, *_: Any) -> Any:
        """Return the input's shape for every depth and once more."""
        return [tuple(input_shape)] * (len(self.config.sharing) + 1)
