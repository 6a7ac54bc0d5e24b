"""`ScaleOffset` and `LayerNormalization`, on a condition or not."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from bert4albert.bert4keras.backend import activation_of, align, as_saved
from bert4albert.bert4keras.registration import Layer, register


class Condition(Layer):
    """What a condition adds to the scale and the offset of a norm: at first nothing (kexue.fm/archives/7124).

    Arguments:
        size: features of what is scaled.
        hidden_units: size of the layer that the condition goes through first; None for no such layer.
        hidden_activation, hidden_initializer: of that layer.
        scale, offset: whether there is one.
    """

    def __init__(
        self,
        size: int,
        hidden_units: int | None = None,
        hidden_activation: Any = "linear",
        hidden_initializer: Any = "glorot_uniform",
        scale: bool = True,
        offset: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)

        def zeros(name: str) -> keras.layers.Dense:
            return keras.layers.Dense(
                size, use_bias=False, kernel_initializer="zeros", dtype=self.dtype_policy, name=name
            )

        self.hidden_dense = None
        if hidden_units is not None:
            self.hidden_dense = keras.layers.Dense(
                hidden_units,
                activation=activation_of(hidden_activation),
                use_bias=False,
                kernel_initializer=hidden_initializer,
                dtype=self.dtype_policy,
                name="hidden_dense",
            )
        self.beta_dense = zeros("beta_dense") if offset else None
        self.gamma_dense = zeros("gamma_dense") if scale else None

    def build(self, shape: Any) -> None:
        """Create the weights."""
        if self.hidden_dense is not None:
            self.hidden_dense.build(shape)
            shape = (*shape[:-1], self.hidden_dense.units)
        for dense in (self.beta_dense, self.gamma_dense):
            if dense is not None:
                dense.build(shape)
        self.built = True

    def call(self, condition: Any, ndim: int = 3) -> tuple[Any, Any]:
        """Return what to add to scale and offset, with axes so that they broadcast to `ndim` ones."""
        if self.hidden_dense is not None:
            condition = self.hidden_dense(condition)
        condition = align(condition, [0, -1], ndim)
        gamma, beta = (0.0 if dense is None else dense(condition) for dense in (self.gamma_dense, self.beta_dense))
        return gamma, beta


@register
class ScaleOffset(Layer):
    """Multiply the last axis by gamma and add beta.

    Arguments:
        scale, offset: True for a weight, False or None for none, a number for a constant.
        conditional: whether a condition moves both; the input then is the list [tensor, condition].
        hidden_units, hidden_activation, hidden_initializer: of the layer that the condition goes through first.
    """

    def __init__(
        self,
        scale: Any = True,
        offset: Any = True,
        conditional: bool = False,
        hidden_units: int | None = None,
        hidden_activation: Any = "linear",
        hidden_initializer: Any = "glorot_uniform",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.scale, self.offset = scale, offset
        self.conditional = conditional
        self.hidden_units = hidden_units
        self.hidden_activation = activation_of(hidden_activation)
        self.hidden_initializer = keras.initializers.get(hidden_initializer)

    def get_config(self) -> dict[str, Any]:
        """Return Keras' own settings and the arguments."""
        return {
            **super().get_config(),
            "scale": self.scale,
            "offset": self.offset,
            "conditional": self.conditional,
            "hidden_units": self.hidden_units,
            "hidden_activation": keras.activations.serialize(self.hidden_activation),
            "hidden_initializer": keras.initializers.serialize(self.hidden_initializer),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> ScaleOffset:
        """Return the layer of a config, as of a file."""
        return super().from_config(as_saved(config, "hidden_activation"))

    def build(self, shape: Any) -> None:
        """Create the weights."""
        size = shape[0][-1] if self.conditional else shape[-1]
        if self.offset is True:
            self.beta = self.add_weight(shape=(size,), initializer="zeros", name="beta")
        if self.scale is True:
            self.gamma = self.add_weight(shape=(size,), initializer="ones", name="gamma")
        if self.conditional:
            self.condition = Condition(
                size,
                self.hidden_units,
                self.hidden_activation,
                self.hidden_initializer,
                scale=self.scale not in (None, False),
                offset=self.offset not in (None, False),
                dtype=self.dtype_policy,
            )
            self.condition.build(shape[1])
        self.built = True

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """Return the mask of what is scaled."""
        return mask[0] if self.conditional and mask is not None else mask

    def call(self, inputs: Any) -> Any:
        """Scale and add."""
        gamma, beta = (
            self.gamma if self.scale is True else self.scale,
            self.beta if self.offset is True else self.offset,
        )
        if not self.conditional:
            return scaled(inputs, gamma, beta)
        inputs, condition = inputs
        return scaled(inputs, gamma, beta, self.condition(condition, ndim=len(inputs.shape)))

    def compute_output_shape(self, shape: Any) -> Any:
        """Return the shape of what is scaled."""
        return shape[0] if self.conditional else shape


@register
class LayerNormalization(ScaleOffset):
    """Layer normalisation, on a condition or not.

    Arguments:
        zero_mean: whether the mean is subtracted.
        unit_variance: whether the result is divided by its deviation.
        epsilon: what to add to the variance; None for Keras' 1e-7.
        kwargs: the arguments of `ScaleOffset`.
    """

    def __init__(
        self, zero_mean: bool = True, unit_variance: bool = True, epsilon: float | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.zero_mean, self.unit_variance = zero_mean, unit_variance
        self.epsilon = epsilon or keras.config.epsilon()

    def get_config(self) -> dict[str, Any]:
        """Return Keras' own settings and the arguments."""
        own = {"zero_mean": self.zero_mean, "unit_variance": self.unit_variance, "epsilon": self.epsilon}
        return {**super().get_config(), **own}

    def call(self, inputs: Any) -> Any:
        """Normalise, scale and add."""
        x = inputs[0] if self.conditional else inputs
        x = normalised(x, self.epsilon, self.zero_mean, self.unit_variance)
        return super().call([x, inputs[1]] if self.conditional else x)


def normalised(x: Any, epsilon: float, zero_mean: bool = True, unit_variance: bool = True) -> Any:
    """Return `x` with the mean 0 along the last axis, and the variance 1 before `epsilon` is added to it."""
    if zero_mean:
        x = x - ops.mean(x, axis=-1, keepdims=True)
    if unit_variance:
        # In float32 at least: the square of 256 is too large for float16.
        wide = ops.cast(x, keras.backend.result_type(x.dtype, "float32"))
        x = x / ops.cast(ops.sqrt(ops.mean(ops.square(wide), axis=-1, keepdims=True) + epsilon), x.dtype)
    return x


def scaled(x: Any, gamma: Any, beta: Any, added: tuple[Any, Any] = (0.0, 0.0)) -> Any:
    """Return `x` times gamma plus beta, each with what is `added` to it; None or False for no gamma or beta."""
    if gamma is not None and gamma is not False:
        x = x * (ops.cast(gamma, x.dtype) + added[0])
    if beta is not None and beta is not False:
        x = x + (ops.cast(beta, x.dtype) + added[1])
    return x
