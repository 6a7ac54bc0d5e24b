"""The heads that pretraining trained: pooler, sentence order, masked language model."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from bert4albert.backend import register
from bert4albert.layers.base import ConfiguredLayer, activation


@register
class Pooler(ConfiguredLayer):
    """Dense on the first position: [batch, length, hidden_size] -> [batch, hidden_size].

    Examples:
        >>> from bert4albert import build_model
        >>> from bert4albert.layers import Pooler
        >>> trunk = build_model("albert_tiny_zh")
        >>> Pooler(trunk.config)(trunk.output).shape
        (None, 312)
    """

    def __init__(self, config: Any, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.dense = self._dense(self.config.hidden_size, "dense")
        self.activation = activation(self.config.with_pool or "tanh")

    def parts(self) -> dict[str, keras.layers.Layer]:
        """Return the sub-layers that hold weights."""
        return {"dense": self.dense}

    def build(self, input_shape: Any) -> None:
        """Create the weights."""
        self.dense.build((None, self.config.hidden_size))
        self.built = True

    def call(self, hidden_states: Any) -> Any:
        """Pool the first position."""
        return self.activation(self.dense(hidden_states[:, 0]))

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return [batch, hidden_size]."""
        return (input_shape[0], self.config.hidden_size)


@register
class SentenceHead(ConfiguredLayer):
    """Two-way softmax on the pooled vector: ALBERT's sentence order (0 in order, 1 swapped), BERT's next sentence.

    Examples:
        >>> from bert4albert import build_model
        >>> model = build_model("albert_tiny_zh", with_nsp=True)
        >>> model.layers[-1].name, model.output.shape
        ('sentence', (None, 2))
    """

    def __init__(self, config: Any, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.dense = self._dense(2, "dense")

    def parts(self) -> dict[str, keras.layers.Layer]:
        """Return the sub-layers that hold weights."""
        return {"dense": self.dense}

    def build(self, input_shape: Any) -> None:
        """Create the weights."""
        self.dense.build((None, self.config.hidden_size))
        self.built = True

    def call(self, pooled: Any) -> Any:
        """Return probabilities [batch, 2]."""
        return ops.softmax(self.dense(pooled), axis=-1)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return [batch, 2]."""
        return (input_shape[0], 2)


@register
class MaskedLMTransform(ConfiguredLayer):
    """Bring hidden states back to the size of the word embeddings: dense, activation, norm.

    Call arguments:
        hidden_states: [batch, length, hidden_size].
        masked_positions: int [batch, count]: transform only these positions; None for all.

    Returns:
        [batch, length or count, size of the embedding sum].

    Examples:
        >>> import keras
        >>> from bert4albert import build_model
        >>> from bert4albert.layers import MaskedLMTransform
        >>> trunk = build_model("albert_tiny_zh")
        >>> MaskedLMTransform(trunk.config)(trunk.output, keras.Input((7,), dtype="int32")).shape
        (None, 7, 128)
    """

    def __init__(self, config: Any, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.dense = self._dense(self.config.embedding_sum_size, "dense")
        self.activation = activation(self.config.hidden_act)
        self.norm = self._norm("norm")

    def parts(self) -> dict[str, keras.layers.Layer]:
        """Return the sub-layers that hold weights."""
        return {"dense": self.dense, "norm": self.norm}

    def build(self, input_shape: Any) -> None:
        """Create the weights."""
        self.dense.build((None, None, self.config.hidden_size))
        self.norm.build((None, None, self.config.embedding_sum_size))
        self.built = True

    def call(self, hidden_states: Any, masked_positions: Any = None) -> Any:
        """Transform all positions, or only the given ones."""
        if masked_positions is not None:
            positions = ops.cast(masked_positions, "int32")[:, :, None]
            hidden_states = ops.take_along_axis(hidden_states, positions, axis=1)
        return self.norm(self.activation(self.dense(hidden_states)))

    def compute_output_spec(self, hidden_states: Any, masked_positions: Any = None) -> keras.KerasTensor:
        """Return the output's shape."""
        rows = hidden_states.shape[:2] if masked_positions is None else masked_positions.shape
        return keras.KerasTensor((*rows, self.config.embedding_sum_size), dtype=self.compute_dtype)


@register
class MaskedLMHead(ConfiguredLayer):
    """Add the bias of each word to its logit and apply the head's activation: [..., vocab_size] to the same.

    Call arguments:
        logits: [..., vocab_size].
        activate: False to leave the activation out, where logits are wanted whatever the model gives.

    Returns:
        [..., vocab_size].

    Examples:
        >>> import keras
        >>> import numpy as np
        >>> from bert4albert import build_model
        >>> model = build_model("albert_tiny_zh", with_mlm=True)
        >>> token_ids = np.array([[2, 4, 101, 3]])
        >>> probabilities = keras.ops.convert_to_numpy(model([token_ids, np.zeros_like(token_ids)]))
        >>> probabilities.shape, round(float(probabilities[0, 1].sum()), 3)
        ((1, 4, 8000), 1.0)
    """

    def __init__(self, config: Any, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.activation = activation(self.config.with_mlm or "softmax")

    def build(self, input_shape: Any) -> None:
        """Create the bias."""
        self.bias = self.add_weight(shape=(self.config.vocab_size,), initializer="zeros", name="bias")
        self.built = True

    def named_weights(self, prefix: str) -> Any:
        """Yield the bias."""
        yield f"{prefix}/bias", self.bias

    def call(self, logits: Any, activate: bool = True) -> Any:
        """Return the head's output for every word."""
        logits = logits + ops.cast(self.bias, self.compute_dtype)
        return self.activation(logits) if activate else logits

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return the input's shape."""
        return input_shape
