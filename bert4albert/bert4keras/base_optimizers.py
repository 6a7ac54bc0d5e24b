"""The optimizer classes of bert4keras, which `optimizers` extends: `Adam`, `AdaFactor`, `AdaBelief`, `Lion`."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from bert4albert.bert4keras.backend import is_tf_keras, root_mean_square
from bert4albert.bert4keras.keras2 import with_learning_rate
from bert4albert.bert4keras.texts import string_matching


def counts_early(optimizer: Any, variables: list[Any]) -> int:
    """Return 1 where formulas see the counter of steps after it has been raised, else 0.

    Keras 2.3 left open whether an optimizer read the counter before or after it was raised. In models from
    `build_transformer_model`, on TensorFlow 1.15, it was after: at the first step Adam corrected its moments for two
    steps, and schedules were at step 1. The numbers of old scripts contain that.
    """
    return int(not optimizer.counts_late and any(hasattr(variable, "keras2_name") for variable in variables))


def name_of(variable: Any) -> str:
    """Return the name by which scripts know a variable, such as 'Embedding-Norm/gamma'."""
    return getattr(variable, "keras2_name", None) or variable.path


def dense(gradient: Any, weight: Any) -> Any:
    """Return a gradient as an ordinary tensor; TensorFlow gives that of a table as the rows that were read."""
    if hasattr(gradient, "dense_shape"):
        return ops.add(gradient, ops.zeros_like(weight))
    return ops.cast(gradient, weight.dtype)


def _power(base: float, exponent: Any) -> Any:
    # Not by `cast`, which goes by way of float32: near 1 that costs five digits of 1 - base.
    return ops.power(ops.convert_to_tensor(base, dtype=exponent.dtype), exponent)


def as_keras3(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return named arguments of an optimizer of Keras 2 as those of Keras 3.

    `lr` is the learning rate; `decay` is refused. `clipnorm` was the most norm of all gradients together, which Keras 3
    calls `global_clipnorm`; with `TF_KERAS=1` it was that of each alone, as `clipnorm` is in Keras 3. Where both names
    are there, as in configs of optimizers, they mean what they mean in Keras 3: so clipped those in older files.
    """
    arguments = with_learning_rate(arguments)
    if arguments.get("clipnorm") and "global_clipnorm" not in arguments and not is_tf_keras:
        arguments["global_clipnorm"] = arguments.pop("clipnorm")
    return arguments


class AdaFactorRate(keras.optimizers.schedules.LearningRateSchedule):
    """AdaFactor's rate where none is given: `scale` times the least of 1 / sqrt(step) and 0.01.

    Arguments:
        scale: the factor.
    """

    def __init__(self, scale: float = 1.0) -> None:
        self.scale, self.early = scale, 0

    def __call__(self, step: Any) -> Any:
        """Return the rate after so many steps."""
        return self.scale * ops.minimum(1.0 / ops.sqrt(ops.cast(step + 1 + self.early, "float32")), 0.01)

    def get_config(self) -> dict[str, Any]:
        """Return the argument."""
        return {"scale": self.scale}


class Adam(keras.optimizers.Adam):
    """Adam (arXiv:1412.6980) as scripts of bert4keras had it: that of Keras 2.3, or with `TF_KERAS=1` bert4keras' own.

    Arguments:
        learning_rate, beta_1, beta_2: as for Keras' Adam.
        epsilon: added to the root; None for 1e-7, with `TF_KERAS=1` 1e-6.
        bias_correction: whether the moments are corrected for starting from 0.
        kwargs: Keras' further arguments, as `as_keras3` takes them.
    """

    counts_late = is_tf_keras

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float | None = None,
        bias_correction: bool = True,
        **kwargs: Any,
    ) -> None:
        epsilon = epsilon or (1e-6 if is_tf_keras else keras.config.epsilon())
        settings = {"learning_rate": learning_rate, "beta_1": beta_1, "beta_2": beta_2, "epsilon": epsilon}
        super().__init__(**as_keras3({**settings, **kwargs, "name": kwargs.get("name") or "Adam"}))
        self.bias_correction = bias_correction

    def get_config(self) -> dict[str, Any]:
        """Return Keras' own settings and the bias correction."""
        return {**super().get_config(), "bias_correction": self.bias_correction}

    def build(self, variables: list[Any]) -> None:
        """Create the moments."""
        self.early = counts_early(self, variables)
        super().build(variables)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Take a step."""
        index = self._get_variable_index(variable)
        gradient = dense(gradient, variable)
        momentum, velocity = self._momentums[index], self._velocities[index]
        self.assign(momentum, self.beta_1 * momentum + (1 - self.beta_1) * gradient)
        self.assign(velocity, self.beta_2 * velocity + (1 - self.beta_2) * ops.square(gradient))
        first, second = ops.convert_to_tensor(momentum), ops.convert_to_tensor(velocity)
        if self.amsgrad:
            highest = self._velocity_hats[index]
            self.assign(highest, ops.maximum(highest, second))
            second = ops.convert_to_tensor(highest)
        rate, epsilon = ops.cast(learning_rate, first.dtype), self.epsilon
        if self.bias_correction:
            step = ops.cast(self.iterations + 1 + self.early, first.dtype)
            of_first, of_second = (1 - _power(beta, step) for beta in (self.beta_1, self.beta_2))
            rate = rate * ops.sqrt(of_second) / of_first
            if is_tf_keras:  # its epsilon is added after the correction, that of Keras 2.3 before
                epsilon = epsilon * ops.sqrt(of_second)
        self.assign_sub(variable, rate * first / (ops.sqrt(second) + epsilon))


class AdaFactor(keras.optimizers.Optimizer):
    """AdaFactor (arXiv:1804.04235), factored over the two longest axes.

    Arguments:
        learning_rate: None for min(1 / sqrt(step), 0.01).
        beta1: momentum of the steps.
        beta2: of the squared gradients; None for 1 - step ** -0.8.
        epsilon1, epsilon2: added to squared gradients; the least scale of a weight.
        multiply_by_parameter_scale: whether steps are scaled by the root mean square of the weight.
        clipping_threshold: the most root mean square of a step; None for no limit.
        min_dim_size_to_factor: what the second longest axis must have for a factored average.
        exclude_from_parameter_scale: patterns of the names of weights whose steps are not scaled.
    """

    counts_late = is_tf_keras

    def __init__(
        self,
        learning_rate: Any = 1e-3,
        beta1: float = 0.0,
        beta2: float | None = None,
        epsilon1: float = 1e-30,
        epsilon2: float = 1e-3,
        multiply_by_parameter_scale: bool = True,
        clipping_threshold: float | None = 1.0,
        min_dim_size_to_factor: int = 128,
        exclude_from_parameter_scale: Any = None,
        **kwargs: Any,
    ) -> None:
        kwargs = as_keras3({"learning_rate": learning_rate, **kwargs, "name": kwargs.get("name") or "AdaFactor"})
        own_rate = None
        if kwargs["learning_rate"] is None:
            kwargs["learning_rate"] = own_rate = AdaFactorRate(1.0 if multiply_by_parameter_scale else 0.05)
        super().__init__(**kwargs)
        self._own_rate = own_rate
        self.beta1, self.beta2 = beta1, beta2
        self.epsilon1, self.epsilon2 = epsilon1, epsilon2
        self.multiply_by_parameter_scale = multiply_by_parameter_scale
        self.clipping_threshold = clipping_threshold
        self.min_dim_size_to_factor = min_dim_size_to_factor
        self.exclude_from_parameter_scale = list(exclude_from_parameter_scale or [])

    def get_config(self) -> dict[str, Any]:
        """Return Keras' own settings and the arguments."""
        names = """beta1 beta2 epsilon1 epsilon2 multiply_by_parameter_scale clipping_threshold
        min_dim_size_to_factor"""
        own = {name: getattr(self, name) for name in names.split()}
        own["exclude_from_parameter_scale"] = [*self.exclude_from_parameter_scale]
        return {**super().get_config(), **own, **({"learning_rate": None} if self._own_rate else {})}

    def load_own_variables(self, store: Any) -> None:
        """Set the state; older files have one number more, a rate of 1, by which the own rate was multiplied."""
        if self._own_rate is not None and len(store.keys()) == len(self.variables) + 1:
            # It is the second; the first is the counter of steps.
            store = {str(place): store[str(place + (place > 0))] for place in range(len(self.variables))}
        super().load_own_variables(store)

    def build(self, variables: list[Any]) -> None:
        """Create the averages."""
        if self.built:
            return
        self.early = counts_early(self, variables)
        if self._own_rate is not None:
            self._own_rate.early = self.early
        super().build(variables)
        self._averages, self._moments, self._scaled = [], [], []
        for variable in variables:
            shapes = self._factored(variable.shape) or (tuple(variable.shape),)
            self._averages.append(
                [self.add_variable(shape, "zeros", variable.dtype, name="average") for shape in shapes]
            )
            self._moments.append(self.add_variable_from_reference(variable, name="moment") if self.beta1 > 0 else None)
            excluded = string_matching(name_of(variable), self.exclude_from_parameter_scale)
            self._scaled.append(self.multiply_by_parameter_scale and not excluded)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Take a step."""
        index = self._get_variable_index(variable)
        weight = ops.convert_to_tensor(variable)
        gradient = dense(gradient, weight)
        step = ops.cast(self.iterations + 1 + self.early, weight.dtype)
        beta2 = 1.0 - ops.power(step, -0.8) if self.beta2 is None else self.beta2
        squares, factored = ops.square(gradient) + self.epsilon1, self._factored(weight.shape)
        averages = []
        for average in self._averages[index]:
            axes = [i for i, size in enumerate(average.shape) if factored and size != weight.shape[i]]
            seen = ops.mean(squares, axis=axes, keepdims=True) if axes else squares
            self.assign(average, beta2 * average + (1.0 - beta2) * seen)
            averages.append(ops.convert_to_tensor(average))
        whole = averages[0]
        if factored:
            whole = averages[0] * averages[1] / ops.mean(averages[0], axis=self._axes(weight.shape)[0], keepdims=True)
        update = gradient / ops.sqrt(whole + self.epsilon1)
        if self.clipping_threshold is not None:
            update = update / ops.maximum(1.0, root_mean_square(update) / self.clipping_threshold)
        moment = self._moments[index]
        if moment is not None:
            self.assign(moment, self.beta1 * moment + (1.0 - self.beta1) * update)
            update = ops.convert_to_tensor(moment)
        if self._scaled[index]:
            update = update * ops.maximum(root_mean_square(weight), self.epsilon2)
        self.assign_sub(variable, ops.cast(learning_rate, weight.dtype) * update)

    @staticmethod
    def _axes(shape: Any) -> tuple[int, int]:
        """Return the second longest axis and the longest."""
        order = np.array(shape).argpartition(-2)
        return int(order[-2]), int(order[-1])

    def _factored(self, shape: Any) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
        """Return the shapes of the two factors of a weight's average; None for an average of the weight's own shape."""
        if len(shape) < 2 or shape[self._axes(shape)[0]] < self.min_dim_size_to_factor:
            return None
        shorter, longer = self._axes(shape)
        first, second = (
            tuple(1 if axis == dropped else size for axis, size in enumerate(shape)) for dropped in (longer, shorter)
        )
        return first, second


AdaFactorBase = AdaFactor


class AdaBelief(keras.optimizers.Adam):
    """Adam with the squared difference of gradient and momentum in place of the squared gradient (arXiv:2010.07468)."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Take a step."""
        index = self._get_variable_index(variable)
        gradient = dense(gradient, variable)
        momentum, belief = self._momentums[index], self._velocities[index]
        self.assign(momentum, self.beta_1 * momentum + (1 - self.beta_1) * gradient)
        difference = gradient - ops.convert_to_tensor(momentum)
        self.assign(belief, self.beta_2 * belief + (1 - self.beta_2) * ops.square(difference) + self.epsilon)
        step = ops.cast(self.iterations + 1, gradient.dtype)
        first, second = momentum / (1 - _power(self.beta_1, step)), belief / (1 - _power(self.beta_2, step))
        rate = ops.cast(learning_rate, gradient.dtype)
        self.assign_sub(variable, rate * first / (ops.sqrt(second) + self.epsilon))


class Lion(keras.optimizers.Lion):
    """Keras' Lion (arXiv:2302.06675) with bert4keras' defaults."""

    def __init__(self, learning_rate: Any = 3e-4, beta_1: float = 0.95, beta_2: float = 0.98, **kwargs: Any) -> None:
        super().__init__(**as_keras3({"learning_rate": learning_rate, "beta_1": beta_1, "beta_2": beta_2, **kwargs}))
