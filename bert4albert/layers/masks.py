"""The mask of padding as a layer, for heads that stand on a trunk."""

from __future__ import annotations

from typing import Any

import keras

from bert4albert.backend import register
from bert4albert.layers.attention import padding_mask


@register
class PaddingMask(keras.layers.Layer):
    """Say which positions hold text: token ids [batch, length] to bool [batch, length], as `padding_mask` does.

    Examples:
        >>> import keras
        >>> import numpy as np
        >>> from bert4albert.layers import PaddingMask
        >>> keras.ops.convert_to_numpy(PaddingMask()(np.array([[2, 5, 3, 0]]))).tolist()
        [[True, True, True, False]]
    """

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
    """Return the symbolic mask, bool [batch, length], of a trunk's input, for heads to be given.

    Arguments:
        trunk: a trunk, or a model on its inputs.

    Examples:
        >>> from bert4albert import build_model
        >>> from bert4albert.layers import padding_of
        >>> padding_of(build_model("albert_tiny_zh")).shape
        (None, None)
    """
    return PaddingMask(name="padding_mask")(trunk.inputs[0])
