"""One vector for a text."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from bert4albert.backend import register


@register
class MeanPooling(keras.layers.Layer):
    """Average the hidden states of a text, padding left out.

    Call arguments:
        hidden_states: [batch, length, hidden_size].
        attention_mask: bool or 0/1 [batch, length], false on padding.

    Returns:
        [batch, hidden_size].

    Examples:
        >>> import keras
        >>> import numpy as np
        >>> from bert4albert.heads import MeanPooling
        >>> hidden_states = np.array([[[1.0, 2.0], [3.0, 4.0], [9.0, 9.0]]], "float32")
        >>> keras.ops.convert_to_numpy(MeanPooling()(hidden_states, np.array([[1, 1, 0]]))).tolist()
        [[2.0, 3.0]]
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)

    def get_config(self) -> dict[str, Any]:
        """Return Keras' own settings."""
        return super().get_config()

    def call(self, hidden_states: Any, attention_mask: Any) -> Any:
        """Return the mean over the positions that are not padding."""
        inside = ops.cast(ops.cast(attention_mask, "bool"), hidden_states.dtype)
        # Indexing with None instead would need more than plain LiteRT has.
        weights = ops.expand_dims(inside, 2)  # [batch, length, 1]
        return ops.sum(hidden_states * weights, axis=1) / ops.maximum(ops.sum(weights, axis=1), 1)

    def compute_output_shape(self, hidden_states_shape: Any, attention_mask_shape: Any = None) -> Any:
        """Return [batch, hidden_size]."""
        return (hidden_states_shape[0], hidden_states_shape[-1])


@register
class FirstToken(keras.layers.Layer):
    """Take the hidden state of [CLS]: [batch, length, hidden_size] to [batch, hidden_size].

    Examples:
        >>> import keras
        >>> import numpy as np
        >>> from bert4albert.heads import FirstToken
        >>> hidden_states = np.array([[[1.0, 2.0], [3.0, 4.0]]], "float32")
        >>> keras.ops.convert_to_numpy(FirstToken()(hidden_states)).tolist()
        [[1.0, 2.0]]
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)

    def get_config(self) -> dict[str, Any]:
        """Return Keras' own settings."""
        return super().get_config()

    def call(self, hidden_states: Any) -> Any:
        """Return the first position."""
        return hidden_states[:, 0]

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return [batch, hidden_size]."""
        return (input_shape[0], input_shape[-1])
