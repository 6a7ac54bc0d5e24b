"""`Adam`, and the `extend_with_...` functions that make optimizer classes out of optimizer classes.

In bert4keras each of them rewrites what the optimizer below is about to assign; here it looks at what that did, and
moves it. So they combine in any order, with the results of bert4keras.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import keras
import numpy as np
from keras import ops

from bert4albert.bert4keras.backend import K, is_tf_keras, piecewise_linear
from bert4albert.bert4keras.base_optimizers import (
    AdaBelief,
    AdaFactor,
    AdaFactorBase,
    Adam,
    Lion,
    as_keras3,
    counts_early,
    dense,
    name_of,
)
from bert4albert.bert4keras.texts import string_matching

__all__ = [
    "AdaBelief",
    "AdaFactor",
    "AdaFactorBase",
    "Adam",
    "K",
    "Lion",
    "extend_with_exponential_moving_average",
    "extend_with_exponential_moving_average_v2",
    "extend_with_gradient_accumulation",
    "extend_with_gradient_accumulation_v2",
    "extend_with_layer_adaptation",
    "extend_with_layer_adaptation_v2",
    "extend_with_lazy_optimization",
    "extend_with_lazy_optimization_v2",
    "extend_with_lookahead",
    "extend_with_lookahead_v2",
    "extend_with_parameter_wise_lr",
    "extend_with_parameter_wise_lr_v2",
    "extend_with_piecewise_linear_lr",
    "extend_with_piecewise_linear_lr_v2",
    "extend_with_weight_decay",
    "extend_with_weight_decay_v2",
    "keras",
]


class Extension:
    """What comes between an optimizer class and a class derived from it.

    Its `own_arguments`, with their defaults, are arguments of the derived class and attributes of its objects.
    """

    own_arguments: ClassVar[dict[str, Any]] = {}
    counts_late = False  # True in the classes of the functions whose names end in _v2

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Stand for what the optimizer class and `own_arguments` give."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        given = {key: kwargs.pop(key, default) for key, default in self._all_own_arguments().items()}
        super().__init__(*args, **as_keras3(kwargs))
        for key, value in given.items():
            setattr(self, key, value)

    @classmethod
    def _all_own_arguments(cls) -> dict[str, Any]:
        return {key: value for kind in cls.__mro__ for key, value in vars(kind).get("own_arguments", {}).items()}

    def get_config(self) -> dict[str, Any]:
        """Return the settings of the optimizer and of what extends it."""
        own = {key: _plain(getattr(self, key)) for key in self._all_own_arguments()}
        return {**super().get_config(), **own}  # type: ignore[misc]

    def build(self, variables: list[Any]) -> None:
        """Create the optimizer's variables, and remember by which names scripts know the model's."""
        if self.built:
            return
        self.early = counts_early(self, variables)
        self._names = [name_of(variable) for variable in variables]
        self._slots: list[list[Any]] = [[] for _ in variables]
        self._numbers = {id(variable): number for number, variable in enumerate(variables)}
        super().build(variables)  # type: ignore[misc]

    def add_variable_from_reference(self, reference_variable: Any, *args: Any, **kwargs: Any) -> Any:
        """Create a variable beside one of the model's, and remember whose it is."""
        slot = super().add_variable_from_reference(reference_variable, *args, **kwargs)  # type: ignore[misc]
        self._slots[self._numbers[id(reference_variable)]].append(slot)
        return slot

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Take a step."""
        super().update_step(gradient, variable, self._decayed(learning_rate))  # type: ignore[misc]

    def _stepped(self, step: Callable[..., None], gradient: Any, variable: Any, learning_rate: Any) -> tuple[Any, Any]:
        """Take the step of what is extended; return the weight before and after it."""
        old = ops.copy(ops.convert_to_tensor(variable))
        step(gradient, variable, learning_rate)
        return old, ops.convert_to_tensor(variable)

    def _decayed(self, learning_rate: Any) -> Any:
        """Return the learning rate after what a schedule makes of it."""
        return learning_rate

    @property
    def _step(self) -> Any:
        """The counter of steps, as bert4keras' formulas see it."""
        return self.iterations + self.early

    def _index(self, variable: Any) -> int:
        return self._get_variable_index(variable)

    def _name(self, variable: Any) -> str:
        return self._names[self._index(variable)]

    def _move(self, variable: Any, value: Any) -> None:
        self.assign(variable, ops.cast(value, variable.dtype))


class WeightDecay(Extension):
    """Subtract learning rate * weight_decay_rate * weight, but for variables whose names match a pattern."""

    own_arguments: ClassVar[dict[str, Any]] = {"weight_decay_rate": 0.01, "exclude_from_weight_decay": ()}

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Take a step and decay."""
        old, new = self._stepped(super().update_step, gradient, variable, learning_rate)
        if not string_matching(self._name(variable), self.exclude_from_weight_decay):
            rate = ops.cast(self._decayed(learning_rate), old.dtype)
            self._move(variable, new - rate * self.weight_decay_rate * old)


class LayerAdaptation(Extension):
    """Scale each step by the norm of the weight (arXiv:1904.00962), but for variables whose names match a pattern."""

    own_arguments: ClassVar[dict[str, Any]] = {"exclude_from_layer_adaptation": ()}

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Take a step and scale it."""
        old, new = self._stepped(super().update_step, gradient, variable, learning_rate)
        if not string_matching(self._name(variable), self.exclude_from_layer_adaptation):
            rate = ops.maximum(ops.cast(self._decayed(learning_rate), old.dtype), K.epsilon())
            of_weight, of_step = ops.norm(old), ops.norm((new - old) / rate)
            known = ops.logical_and(of_weight > 0, of_step > 0)
            scale = ops.where(known, of_weight / ops.where(known, of_step, 1.0), 1.0)
            self._move(variable, old + (new - old) * scale)


class PiecewiseLinearRate(Extension):
    """Scale each step by the line through the points of `lr_schedule`, {step: factor}, from (0, 0) on."""

    own_arguments: ClassVar[dict[str, Any]] = {"lr_schedule": {0: 1}}

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Take a step and scale it."""
        old, new = self._stepped(super().update_step, gradient, variable, learning_rate)
        self._move(variable, old + (new - old) * ops.cast(_at(self._step, self.lr_schedule), old.dtype))


class PiecewiseLinearRateV2(Extension):
    """The same for the learning rate, so that everything which uses that follows it."""

    own_arguments: ClassVar[dict[str, Any]] = {"lr_schedule": {0: 1}}

    def _decayed(self, learning_rate: Any) -> Any:
        return super()._decayed(learning_rate) * ops.cast(_at(self._step, self.lr_schedule), K.dtype(learning_rate))


def _at(step: Any, schedule: dict[Any, float]) -> Any:
    return piecewise_linear(step, {int(point): factor for point, factor in schedule.items()})


class GradientAccumulation(Extension):
    """Take a step every `grad_accum_steps` batches, with the mean of their gradients."""

    own_arguments: ClassVar[dict[str, Any]] = {"grad_accum_steps": 2}

    def build(self, variables: list[Any]) -> None:
        """Create the sums of gradients."""
        if self.built:
            return
        super().build(variables)
        self._sums = [self.add_variable_from_reference(variable, name="accumulated") for variable in variables]

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Take a step if it is time, and add up."""
        index = self._index(variable)
        total = self._sums[index]
        now = ops.equal(self._step % self.grad_accum_steps, 0)
        changing = [variable, *(slot for slot in self._slots[index] if slot is not total)]
        old = [ops.copy(ops.convert_to_tensor(item)) for item in changing]
        super().update_step(ops.convert_to_tensor(total) / self.grad_accum_steps, variable, learning_rate)
        for item, before in zip(changing, old, strict=True):
            self._move(item, ops.where(now, ops.convert_to_tensor(item), before))
        self._move(total, dense(gradient, variable) + ops.where(now, 0.0, ops.convert_to_tensor(total)))


class Lookahead(Extension):
    """Every `steps_per_slow_update` steps, move slow weights (from 0) toward the weights, and the weights to them.

    Source: arXiv:1907.08610; the start from 0 is bert4keras'.
    """

    own_arguments: ClassVar[dict[str, Any]] = {"steps_per_slow_update": 5, "slow_step_size": 0.5}

    def build(self, variables: list[Any]) -> None:
        """Create the slow weights."""
        if self.built:
            return
        super().build(variables)
        self._slow = [self.add_variable_from_reference(variable, name="slow") for variable in variables]

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Take a step."""
        super().update_step(gradient, variable, learning_rate)
        slow = self._slow[self._index(variable)]
        now = ops.equal(self._step % self.steps_per_slow_update, 0)
        weight, before = ops.convert_to_tensor(variable), ops.convert_to_tensor(slow)
        moved = ops.where(now, before + self.slow_step_size * (weight - before), before)
        self._move(slow, moved)
        self._move(variable, ops.where(now, moved, weight))


class LazyOptimization(Extension):
    """Leave rows of matching variables, such as words, alone where their gradient is 0."""

    own_arguments: ClassVar[dict[str, Any]] = {"include_in_lazy_optimization": ()}

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Take a step, and take it back where the gradient is 0."""
        old, new = self._stepped(super().update_step, gradient, variable, learning_rate)
        if string_matching(self._name(variable), self.include_in_lazy_optimization):
            touched = ops.any(ops.not_equal(dense(gradient, variable), 0), axis=-1, keepdims=True)
            self._move(variable, ops.where(touched, new, old))


class ExponentialMovingAverage(Extension):
    """Keep an average of the weights beside them, from 0 on; `bert4albert.training.MovingAverage` is the native way."""

    own_arguments: ClassVar[dict[str, Any]] = {"ema_momentum": 0.999}

    def build(self, variables: list[Any]) -> None:
        """Create the averages."""
        if self.built:
            return
        super().build(variables)
        averages = [self.add_variable_from_reference(variable, name="average") for variable in variables]
        # In a function, since Keras would take a list for variables of the optimizer.
        self._averaged: Callable[[], tuple[list[Any], list[Any]]] = lambda: (list(variables), averages)

    @property
    def model_weights(self) -> list[Any]:
        """The model's weights."""
        return self._averaged()[0]

    @property
    def ema_weights(self) -> list[Any]:
        """Their averages, not corrected for the start from 0."""
        return self._averaged()[1]

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Take a step and move the average."""
        super().update_step(gradient, variable, learning_rate)
        average = self._averaged()[1][self._index(variable)]
        weight, before = ops.convert_to_tensor(variable), ops.convert_to_tensor(average)
        self._move(average, before * self._momentum + weight * (1.0 - self._momentum))

    @property
    def _momentum(self) -> float:
        return self.ema_momentum

    def apply_ema_weights(self, bias_correction: bool = True) -> None:
        """Put the averages into the model, and keep its own weights for `reset_old_weights`."""
        self._old_values = tuple(K.batch_get_value(self.model_weights))
        averages = K.batch_get_value(self.ema_weights)
        if bias_correction:
            scale = 1.0 - np.power(self._momentum, int(K.get_value(self.iterations)))
            averages = [average / scale for average in averages]
        K.batch_set_value(zip(self.model_weights, averages, strict=True))

    def reset_old_weights(self) -> None:
        """Put the model's own weights back."""
        K.batch_set_value(zip(self.model_weights, self._old_values, strict=True))


class ParameterWiseRate(Extension):
    """Scale the steps of variables whose names contain a word of `paramwise_lr_schedule`, {word: factor}."""

    own_arguments: ClassVar[dict[str, Any]] = {"paramwise_lr_schedule": {}}

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Take a step and scale it."""
        name = self._name(variable)
        factor = float(np.prod([f for word, f in self.paramwise_lr_schedule.items() if word in name]))
        old, new = self._stepped(super().update_step, gradient, variable, learning_rate)
        if factor != 1:
            self._move(variable, old + (new - old) * factor)


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return list(value)
    return dict(value) if isinstance(value, dict) else value


def _extending(extension: type[Extension], does: str, v2: bool = is_tf_keras) -> Callable[..., Any]:
    def extend(BaseOptimizer: type[keras.optimizers.Optimizer], name: str | None = None) -> Any:  # noqa: N803
        if BaseOptimizer is keras.optimizers.Adam and not is_tf_keras:
            BaseOptimizer = Adam  # noqa: N806  (which that of bert4keras was)
        class_name = name if isinstance(name, str) else "NewOptimizer"
        members = {"__doc__": extension.__doc__, "counts_late": v2}
        extended = type(class_name, (extension, BaseOptimizer), members)
        keras.utils.get_custom_objects()[class_name] = extended
        return extended

    extend.__doc__ = f"""Return an optimizer class that {does}; see `{extension.__name__}`.

    Arguments:
        BaseOptimizer: a class of Keras' optimizers, or one that another of these functions made.
        name: the new class's name.
    """
    return extend


_DOES = {
    "weight_decay": (WeightDecay, "decays weights"),
    "layer_adaptation": (LayerAdaptation, "scales steps by the norms of weights"),
    "gradient_accumulation": (GradientAccumulation, "adds up gradients of several batches"),
    "lookahead": (Lookahead, "follows slow weights"),
    "lazy_optimization": (LazyOptimization, "leaves rows without a gradient alone"),
    "exponential_moving_average": (ExponentialMovingAverage, "keeps an average of the weights"),
    "parameter_wise_lr": (ParameterWiseRate, "has learning rates by the names of weights"),
}
(
    extend_with_weight_decay,
    extend_with_layer_adaptation,
    extend_with_gradient_accumulation,
    extend_with_lookahead,
    extend_with_lazy_optimization,
    extend_with_exponential_moving_average,
    extend_with_parameter_wise_lr,
) = (_extending(*arguments) for arguments in _DOES.values())
(
    extend_with_weight_decay_v2,
    extend_with_layer_adaptation_v2,
    extend_with_gradient_accumulation_v2,
    extend_with_lookahead_v2,
    extend_with_lazy_optimization_v2,
    extend_with_exponential_moving_average_v2,
    extend_with_parameter_wise_lr_v2,
) = (_extending(*arguments, v2=True) for arguments in _DOES.values())
extend_with_piecewise_linear_lr_v2 = _extending(
    PiecewiseLinearRateV2, "scales the learning rate by a schedule", v2=True
)
extend_with_piecewise_linear_lr = (
    extend_with_piecewise_linear_lr_v2 if is_tf_keras else _extending(PiecewiseLinearRate, "scales steps by a schedule")
)
keras.utils.get_custom_objects().update({"Adam": Adam, "AdaFactor": AdaFactor, "Lion": Lion, "AdaBelief": AdaBelief})
