"""The stack of block applications that a sharing schedule drives."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import keras
from keras import ops

from bert4albert.backend import register
from bert4albert.checkpoint.names import PART_OF_LAYER
from bert4albert.config import ModelConfig
from bert4albert.layers.adapters import DepthAdapter, apply_dense, apply_norm
from bert4albert.layers.attention import Attention, KeysAndValues, attention_bias
from bert4albert.layers.base import ConfiguredLayer, Tensor, activation
from bert4albert.sharing import PARTS


class EncoderOutput(NamedTuple):
    """What the encoder computes.

    Attributes:
        hidden_states: the output of every block application, first to last, each [batch, length, hidden_size].
        before_norm: the last of them before its final norm.
        cache: the updated keys and values of every depth; empty where no cache was given.

    Examples:
        >>> import numpy as np
        >>> from bert4albert import build_model
        >>> encoder = build_model("albert_tiny_zh").encoder
        >>> cache = encoder.new_cache(batch=1, length=8)
        >>> output = encoder(np.zeros((1, 8, 312), "float32"), cache=cache, cache_index=0)
        >>> len(output.hidden_states), tuple(output.last.shape)
        (4, (1, 8, 312))
        >>> keys, values = output.cache[0]
        >>> tuple(keys.shape)
        (1, 6, 8, 52)
    """

    hidden_states: list[Tensor]
    before_norm: Tensor
    cache: list[KeysAndValues]

    @property
    def last(self) -> Tensor:
        """The output of the last block application."""
        return self.hidden_states[-1]


class Step(NamedTuple):
    """What changes from depth to depth, beside the weights.

    Attributes:
        cache: keys and values of earlier calls, as `Attention` takes them.
        index: where in `cache` the keys and values of this call are written.
        prefix: keys and values that are only read, of the positions before those of `cache`.
        adapter: what this depth adds to the weights of its block.

    Examples:
        >>> from bert4albert.layers import Step
        >>> Step(index=3)
        Step(cache=None, index=3, prefix=None, adapter=None)
    """

    cache: KeysAndValues | None = None
    index: Any = None
    prefix: KeysAndValues | None = None
    adapter: DepthAdapter | None = None


@register
class Block(ConfiguredLayer):
    """The copies of one number of all parts of a post-norm transformer block: attention, norm, feed-forward, norm.

    Block i has copy i of each part that has so many copies; the `Encoder` takes the parts it needs from its blocks.

    Arguments:
        config: the `ModelConfig`.
        index: the number of the copies.

    Examples:
        >>> from bert4albert import build_model
        >>> model = build_model("albert_tiny_zh", sharing={"feed_forward": "unshared"})
        >>> [list(block.parts()) for block in model.encoder.blocks[:2]]
        [['attention', 'attention_norm', 'intermediate', 'output', 'output_norm'], ['intermediate', 'output']]
    """

    def __init__(self, config: ModelConfig | Mapping[str, Any], index: int = 0, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.index = index
        held = [part for part in PARTS if index < self.config.sharing.num_copies(part)]
        if "attention" in held:
            self.attention = Attention(self.config, dtype=self.dtype_policy, name="attention")
        if "attention_norm" in held:
            self.attention_norm = self._norm("attention_norm")
        if "feed_forward" in held:
            self.intermediate = self._dense(self.config.intermediate_size, "intermediate")
            self.output_dense = self._dense(self.config.hidden_size, "output")
        if "output_norm" in held:
            self.output_norm = self._norm("output_norm")
        self.dropout = self._dropout(self.config.hidden_dropout_prob, "dropout")

    def get_config(self) -> dict[str, Any]:
        """Return Keras' own settings, the `ModelConfig` and the index."""
        return {**super().get_config(), "index": self.index}

    def parts(self) -> dict[str, keras.layers.Layer]:
        """Return the sub-layers that hold weights."""
        attributes = {name: "output_dense" if name == "output" else name for name in PART_OF_LAYER}
        return {name: getattr(self, key) for name, key in attributes.items() if hasattr(self, key)}

    def build(self, input_shape: Any = None) -> None:
        """Create the weights."""
        for name, part in self.parts().items():
            size = self.config.intermediate_size if name == "output" else self.config.hidden_size
            part.build((None, None, size))
        self.built = True


@register
class Encoder(ConfiguredLayer):
    """Apply blocks in the order of the config's sharing schedule.

    Depth and weights are separate: `config.sharing.attention[d]` is the copy of the attention used at depth d, and so
    on for the other parts. ALBERT, unshared ALBERT, ALBERT with groups, BERT, and everything between are the same
    layer with different schedules.

    Arguments:
        config: the `ModelConfig`.
        frozen: whether the blocks do not train, only what the depths add to them.

    Call arguments:
        hidden_states: [batch, length, hidden_size].
        attention_mask: bool, [batch, attended length], or [batch, 1 or length, attended length]; None for no mask.
        cache: keys and values of earlier positions: `new_cache()`, or that of an earlier output.
        cache_index: int, where in the cache the keys and values of `hidden_states` are written.
        prefix: a cache that is only read; its positions come before those of `cache`.

    Returns:
        An `EncoderOutput`. The attended length is that of `hidden_states`, or with a cache that of `prefix` and
        `cache` together.

    Examples:
        >>> import numpy as np
        >>> from bert4albert import build_model
        >>> encoder = build_model("albert_tiny_zh", model="albert_unshared").encoder
        >>> [block.name for block in encoder.blocks]
        ['block_0', 'block_1', 'block_2', 'block_3']
        >>> output = encoder(np.zeros((2, 5, 312), "float32"))
        >>> tuple(output.last.shape)
        (2, 5, 312)
    """

    def __init__(self, config: ModelConfig | Mapping[str, Any], frozen: bool = False, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        config = self.config
        self.blocks = [Block(config, b, dtype=self.dtype_policy, name=f"block_{b}") for b in range(config.num_blocks)]
        self.adapters = [
            DepthAdapter(config, dtype=self.dtype_policy, name=f"depth_{depth}")
            for depth in range(config.sharing.depth if config.has_adapters else 0)
        ]
        self.activation = activation(config.hidden_act)
        if frozen:
            self.freeze_blocks()

    @property
    def frozen(self) -> bool:
        """Whether no block trains."""
        return not any(block.trainable for block in self.blocks)

    def freeze_blocks(self) -> None:
        """Keep all blocks as they are in training."""
        for block in self.blocks:
            block.trainable = False

    def get_config(self) -> dict[str, Any]:
        """Return Keras' own settings, the `ModelConfig`, and whether the blocks are frozen."""
        return {**super().get_config(), "frozen": self.frozen}

    def parts(self) -> dict[str, keras.layers.Layer]:
        """Return the blocks, and what the depths add to them."""
        return {layer.name: layer for layer in (*self.blocks, *self.adapters)}

    def build(self, input_shape: Any = None) -> None:
        """Create the weights."""
        for layer in self.parts().values():
            layer.build((None, None, self.config.hidden_size))
        self.built = True

    def call(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        cache: list[KeysAndValues] | None = None,
        cache_index: Any = None,
        prefix: list[KeysAndValues] | None = None,
    ) -> EncoderOutput:
        """Run every block application."""
        bias = None if attention_mask is None else attention_bias(attention_mask, self.compute_dtype)
        output = EncoderOutput([], hidden_states, [])
        for depth in range(self.config.sharing.depth):
            # One cache a depth: a shared block has other keys and values at each of its depths.
            step = Step(
                cache[depth] if cache else None,
                cache_index,
                prefix[depth] if prefix else None,
                self.adapters[depth] if self.adapters else None,
            )
            run = partial(self._apply, depth, step)
            if self.config.remat and cache is None:
                run = keras.remat(run)
            hidden_states, before_norm, updated = run(output.last if depth else hidden_states, bias)
            output = EncoderOutput([*output.hidden_states, hidden_states], before_norm, [*output.cache, *updated])
        return output

    def at_depth(self, depth: int, hidden_states: Tensor, bias: Tensor | None = None) -> Tensor:
        """Run one block application alone.

        Arguments:
            depth: which one, counted from 0.
            hidden_states: [batch, length, hidden_size], the output of the one before.
            bias: as `attention_bias` gives it.

        Returns:
            [batch, length, hidden_size].
        """
        step = Step(adapter=self.adapters[depth] if self.adapters else None)
        return self._apply(depth, step, hidden_states, bias)[0]

    def _apply(
        self, depth: int, step: Step, hidden_states: Tensor, bias: Tensor | None
    ) -> tuple[Tensor, Tensor, list[KeysAndValues]]:
        """Run one block application; return its output, the same before the final norm, and the updated cache."""
        schedule, adapter = self.config.sharing, step.adapter
        attend = self.blocks[schedule.attention[depth]]
        attended, cache = attend.attention(hidden_states, bias, **step._asdict())
        norm = self.blocks[schedule.attention_norm[depth]].attention_norm
        hidden_states = apply_norm(norm, hidden_states + attend.dropout(attended), adapter, "attention_norm")
        feed = self.blocks[schedule.feed_forward[depth]]
        inner = self.activation(apply_dense(feed.intermediate, hidden_states, adapter, "intermediate"))
        fed = apply_dense(feed.output_dense, inner, adapter, "output")
        before_norm = hidden_states + feed.dropout(fed)
        norm = self.blocks[schedule.output_norm[depth]].output_norm
        return apply_norm(norm, before_norm, adapter, "output_norm"), before_norm, cache

    def new_cache(self, batch: int, length: int) -> list[KeysAndValues]:
        """Return room for the keys and values of `length` positions at every depth, filled with zeros."""
        heads = self.config.num_attention_heads
        shape = (batch, heads, length, self.config.hidden_size // heads)
        zeros = ops.zeros(shape, dtype=self.compute_dtype)
        return [(zeros, zeros) for _ in range(self.config.sharing.depth)]

    def compute_output_spec(self, hidden_states: keras.KerasTensor, *_: Any, **__: Any) -> EncoderOutput:
        """Return the shapes, all those of the input."""
        state = partial(keras.KerasTensor, hidden_states.shape, dtype=self.compute_dtype)
        return EncoderOutput([state() for _ in range(self.config.sharing.depth)], state(), [])
