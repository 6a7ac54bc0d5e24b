"""Layer normalisation whose scale and shift depend on a condition."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from bert4albert.backend import register


@register
class ConditionalLayerNormalization(keras.layers.Layer):
    """Normalise with gamma + Dense(condition) and beta + Dense(condition), the Dense without bias and zero at first.

    Made new, it is a plain layer normalisation. Source: Su Jianlin, kexue.fm/archives/7124; bert4keras.

    Arguments:
        epsilon: what to add to the variance.

    Call arguments:
        hidden_states: [batch, length, size].
        condition: [batch, condition_size], one for all positions.

    Returns:
        [batch, length, size].

    Examples:
        >>> import keras
        >>> import numpy as np
        >>> from bert4albert.heads import ConditionalLayerNormalization
        >>> hidden_states, condition = np.array([[[1.0, 3.0]]], "float32"), np.ones((1, 5), "float32")
        >>> normed = keras.ops.convert_to_numpy(ConditionalLayerNormalization()(hidden_states, condition))
        >>> normed.round(3).tolist()
        [[[-1.0, 1.0]]]
    """

    def __init__(self, epsilon: float = 1e-12, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.epsilon = epsilon
        self.norm = keras.layers.LayerNormalization(
            epsilon=epsilon, center=False, scale=False, dtype=self.dtype_policy, name="norm"
        )

    def get_config(self) -> dict[str, Any]:
        """Return Keras' own settings and epsilon."""
        return {**super().get_config(), "epsilon": self.epsilon}

    def build(self, hidden_states_shape: Any, condition_shape: Any) -> None:
        """Create the weights."""
        size, condition_size = hidden_states_shape[-1], condition_shape[-1]
        self.norm.build(hidden_states_shape)
        self.gamma = self.add_weight(shape=(size,), initializer="ones", name="gamma")
        self.beta = self.add_weight(shape=(size,), initializer="zeros", name="beta")
        self.to_gamma = self.add_weight(shape=(condition_size, size), initializer="zeros", name="to_gamma")
        self.to_beta = self.add_weight(shape=(condition_size, size), initializer="zeros", name="to_beta")
        self.built = True

    def call(self, hidden_states: Any, condition: Any) -> Any:
        """Normalise under the condition."""
        gamma = self.gamma + ops.matmul(condition, self.to_gamma)
        beta = self.beta + ops.matmul(condition, self.to_beta)
        return self.norm(hidden_states) * gamma[:, None] + beta[:, None]

    def compute_output_shape(self, hidden_states_shape: Any, condition_shape: Any) -> Any:
        """Return the shape of the hidden states."""
        return hidden_states_shape
