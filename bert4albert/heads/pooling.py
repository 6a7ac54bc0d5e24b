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
        token_ids: [batch, length]; 0 is padding.

    Returns:
        [batch, hidden_size].
    """

    def call(self, hidden_states: Any, token_ids: Any) -> Any:
        """Return the mean over the positions that are not padding."""
        # Indexing with None instead would need more than plain LiteRT has.
        weights = ops.expand_dims(ops.cast(ops.not_equal(token_ids, 0), hidden_states.dtype), 2)
        return ops.sum(hidden_states * weights, axis=1) / ops.maximum(ops.sum(weights, axis=1), 1)

    def compute_output_shape(self, hidden_states_shape: Any, token_ids_shape: Any = None) -> Any:
        """Return [batch, hidden_size]."""
        return (hidden_states_shape[0], hidden_states_shape[-1])


@register
class FirstToken(keras.layers.Layer):
    """Take the hidden state of [CLS]: [batch, length, hidden_size] to [batch, hidden_size]."""

    def call(self, hidden_states: Any) -> Any:
        """Return the first position."""
        return hidden_states[:, 0]

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return [batch, hidden_size]."""
        return (input_shape[0], input_shape[-1])
