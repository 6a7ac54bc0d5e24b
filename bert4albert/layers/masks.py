"""The mask of padding as a layer, for heads that stand on a trunk."""

from __future__ import annotations

from typing import Any

import keras

from bert4albert.backend import register
from bert4albert.layers.attention import padding_mask


@register
class PaddingMask(keras.layers.Layer):
    """Say which positions hold text: token ids [batch, length] to bool [batch, length], as `padding_mask` does."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)

    def get_config(self) -> dict[str, Any]:
        """Return Keras' own settings."""
        return super().get_config()

    def call(self, token_ids: Any) -> Any:
        """Return the mask."""
        return padding_mask(token_ids)

    def compute_output_spec(self, token_ids: keras.KerasTensor) -> keras.KerasTensor:
        """Return the mask's shape."""
        return keras.KerasTensor(token_ids.shape, dtype="bool")


def padding_of(trunk: keras.Model) -> keras.KerasTensor:
    """Return the symbolic mask, bool [batch, length], of a trunk's input, for heads to be given."""
    return PaddingMask(name="padding_mask")(trunk.inputs[0])
