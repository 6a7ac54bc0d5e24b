"""`GlobalMaxPooling1D`, which knows of padding; `GlobalAveragePooling1D` of Keras 3 does."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from bert4albert.bert4keras.backend import sequence_masking
from bert4albert.bert4keras.registration import register


@register
class GlobalMaxPooling1D(keras.layers.GlobalMaxPooling1D):
    """Keras' layer, whose maximum leaves masked positions out."""

    def compute_mask(self, inputs: Any, mask: Any = None) -> None:
        """Return None: no positions are left."""

    def call(self, inputs: Any, mask: Any = None) -> Any:
        """Return the maximum."""
        return super().call(sequence_masking(inputs, mask, -np.inf, 1 if self.data_format == "channels_last" else 2))
