"""A classifier on every depth, so that answers can leave early."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from bert4albert.backend import register


@register
class ExitHeads(keras.layers.Layer):
    """One dense layer for each depth, from that depth's vector of a text to logits.

    Source: PABEE, arXiv:2006.04152.

    Arguments:
        units: logits of each depth.
        depth: how many depths there are.
        kernel_initializer: of the Dense layers inside.
        bias_initializer: likewise.

    Call arguments:
        vectors: a list of [batch, size], one for each depth.

    Returns:
        [batch, depth, units].

    Examples:
        >>> import numpy as np
        >>> from bert4albert.heads import ExitHeads
        >>> vectors = [np.zeros((2, 8), "float32") for _ in range(4)]
        >>> tuple(ExitHeads(units=3, depth=4)(vectors).shape)
        (2, 4, 3)
    """

    def __init__(
        self,
        units: int,
        depth: int,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.units, self.depth = units, depth
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.exits = [
            keras.layers.Dense(
                units,
                kernel_initializer=self.kernel_initializer,
                bias_initializer=self.bias_initializer,
                dtype=self.dtype_policy,
                name=f"exit_{index}",
            )
            for index in range(depth)
        ]

    def get_config(self) -> dict[str, Any]:
        """Return Keras' own settings and the arguments."""
        return {
            **super().get_config(),
            "units": self.units,
            "depth": self.depth,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
        }

    def build(self, vectors_shape: Sequence[Any]) -> None:
        """Create the weights."""
        for dense, shape in zip(self.exits, vectors_shape, strict=True):
            dense.build(shape)
        self.built = True

    def call(self, vectors: Sequence[Any]) -> Any:
        """Return the logits of every depth."""
        return ops.stack([dense(vector) for dense, vector in zip(self.exits, vectors, strict=True)], axis=1)

    def compute_output_spec(self, vectors: Sequence[Any]) -> keras.KerasTensor:
        """Return [batch, depth, units]."""
        return keras.KerasTensor((vectors[0].shape[0], self.depth, self.units), dtype=self.compute_dtype)


def exits_loss(loss: Callable[[Any, Any], Any], targets: Any, outputs: Any) -> Any:
    """Return the mean of a loss over all depths, in which depth d weighs d: the deepest most (arXiv:2006.04152).

    Arguments:
        loss: takes targets and the outputs of one depth, [batch, units].
        targets: what `loss` takes.
        outputs: [batch, depth, units].

    Examples:
        >>> import numpy as np
        >>> from bert4albert.heads import exits_loss
        >>> outputs = np.array([[[1.0], [4.0]]])
        >>> float(exits_loss(lambda targets, outputs: outputs[0, 0], None, outputs))  # (1 * 1 + 2 * 4) / 3
        3.0
    """
    depth = outputs.shape[1]
    return sum((d + 1) * loss(targets, outputs[:, d]) for d in range(depth)) / (depth * (depth + 1) / 2)
