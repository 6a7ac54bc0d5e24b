"""`GlobalPointer` and `EfficientGlobalPointer`, as bert4keras spells and fills them."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from bert4albert import heads
from bert4albert.bert4keras.registration import register


class _Spelling(heads.GlobalPointer):
    """The arguments of bert4keras, the implicit mask, and -inf where there can be no span.

    Arguments:
        heads: how many labels there are.
        head_size: size of queries and keys.
        RoPE: whether a score depends on how far the end is from the start.
        use_bias: whether the Dense layers have one.
        tril_mask: whether spans whose end is before their start are ruled out.
    """

    def __init__(
        self,
        heads: int,
        head_size: int,
        RoPE: bool = True,  # noqa: N803
        use_bias: bool = True,
        tril_mask: bool = True,
        kernel_initializer: Any = "lecun_normal",
        **kwargs: Any,
    ) -> None:
        self.use_bias = use_bias
        super().__init__(heads, head_size, RoPE, tril_mask, kernel_initializer, **kwargs)
        self.supports_masking = True

    def get_config(self) -> dict[str, Any]:
        """Return Keras' own settings and the arguments."""
        config = super().get_config()
        return {**config, "RoPE": config.pop("rotary"), "tril_mask": config.pop("ordered"), "use_bias": self.use_bias}

    def build(self, inputs_shape: Any) -> None:  # type: ignore[override]  # Keras goes by the names in `call`
        """Create the weights."""
        super().build(inputs_shape)

    def compute_mask(self, *_: Any) -> None:
        """Return None: the mask is in the output."""

    def call(self, inputs: Any, mask: Any = None) -> Any:
        """Return the scores [batch, heads, length, length], -inf where there can be no span."""
        scores = super().call(inputs, mask)
        return ops.where(scores > -1e11, scores, ops.cast(-np.inf, scores.dtype))

    def compute_output_spec(self, inputs: Any, mask: Any = None) -> keras.KerasTensor:
        """Return the shape."""
        return super().compute_output_spec(inputs)

    def _dense(self, units: int, name: str) -> keras.layers.Dense:
        dense = super()._dense(units, name)
        dense.use_bias = self.use_bias
        return dense


@register
class GlobalPointer(_Spelling):
    """A score for every span under every label (kexue.fm/archives/8373); arguments as in `_Spelling`."""


@register
class EfficientGlobalPointer(_Spelling, heads.EfficientGlobalPointer):  # type: ignore[misc]
    """A global pointer with few weights (kexue.fm/archives/8877); the input is its implicit mask's."""

    def _scores(self, hidden_states: Any) -> Any:
        # bert4keras has queries and keys, and starts and ends, by turns; the head has one after another.
        pairs = self.pairs(hidden_states)
        labels = ops.transpose(self.labels(pairs), (0, 2, 1)) * 0.5
        products = self._products(ops.concatenate([pairs[..., ::2], pairs[..., 1::2]], axis=-1))
        return products + labels[:, 1::2, :, None] + labels[:, ::2, None, :]
