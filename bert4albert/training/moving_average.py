"""MovingAverage: any optimizer, with an average of the weights on the side."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from keras import ops

from bert4albert.backend import register
from bert4albert.errors import ConfigError


@register
class MovingAverage(keras.optimizers.Optimizer):
    """Train with another optimizer, and keep an exponential moving average of the weights.

    The average starts from 0 and is corrected for that, as in Adam (arXiv:1412.6980, section 3) and bert4keras:
    after t steps it is (1 - m) * sum(m ** (t - i) * w_i) / (1 - m ** t). Keras' own `use_ema` starts from the first
    weights instead. `fit` of Keras ends with the averaged weights in the model.

    Arguments:
        optimizer: the optimizer that trains.
        momentum: what is kept of the average at each step, from 0 to below 1.
    """

    def __init__(
        self, optimizer: keras.optimizers.Optimizer, momentum: float = 0.999, name: str = "moving_average"
    ) -> None:
        super().__init__(learning_rate=0.0, name=name)
        if not 0 <= momentum < 1:
            raise ConfigError(f"The momentum of a moving average is from 0 to below 1; {momentum!r} was given.")
        if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
            raise ConfigError("Put the moving average inside the loss scaling: LossScaleOptimizer(MovingAverage(...)).")
        self.inner_optimizer = optimizer
        self.momentum = momentum
        parts = getattr(optimizer, "optimizers", [optimizer])
        self.batches_a_step = parts[0].gradient_accumulation_steps or 1

    def build(self, variables: Sequence[Any]) -> None:
        """Create the averages, all 0."""
        if self.built:
            return
        self.inner_optimizer.build(variables)
        averages = self.add_optimizer_variables(variables, "average")
        self.batches = self.add_variable((), dtype="int", name="batches")
        # A function, since Keras would take a list for variables of the optimizer.
        self._pairs: Callable[[], Iterable[tuple[Any, Any]]] = lambda: zip(variables, averages, strict=True)
        super().build(variables)

    @property
    def variables(self) -> list[Any]:
        """The variables of this optimizer and of the one that trains."""
        return [*super().variables, *self.inner_optimizer.variables]

    @property
    def learning_rate(self) -> Any:
        """The learning rate of the optimizer that trains."""
        return self.inner_optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        self.inner_optimizer.learning_rate = value

    @property
    def iterations(self) -> Any:
        """The steps of the optimizer that trains."""
        return self.inner_optimizer.iterations

    def apply(self, grads: Sequence[Any], trainable_variables: Sequence[Any] | None = None) -> None:
        """Take a step with the other optimizer, then move the averages."""
        if trainable_variables is not None:
            self.build(list(trainable_variables))
        self.inner_optimizer.apply(grads, trainable_variables)
        self.batches.assign_add(1)
        moved = ops.equal(self.batches % self.batches_a_step, 0)
        for weight, average in self._pairs():
            share = ops.cast(moved, average.dtype) * (1 - self.momentum)
            average.assign(average + share * (weight - average))

    def finalize_variable_values(self, var_list: Sequence[Any]) -> None:
        """Put the averages into the model; Keras' `fit` calls this when it ends."""
        for weight, average in self._averages():
            weight.assign(average)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Give the model the averaged weights inside a `with` block, and its own back at the end."""
        kept = [(weight, np.array(ops.convert_to_numpy(weight))) for weight, _ in self._pairs()]
        self.finalize_variable_values([])
        try:
            yield
        finally:
            for weight, value in kept:
                weight.assign(value)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        inner = keras.saving.serialize_keras_object(self.inner_optimizer)
        return {"optimizer": inner, "momentum": self.momentum, "name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> MovingAverage:
        """Rebuild from `get_config`."""
        inner = keras.saving.deserialize_keras_object(config["optimizer"], custom_objects)
        return cls(**{**config, "optimizer": inner})

    def _averages(self) -> Iterator[tuple[Any, Any]]:
        """Yield weights with their corrected averages; none before the first step."""
        steps = int(ops.convert_to_numpy(self.batches)) // self.batches_a_step
        if steps:
            yield from ((weight, average / (1 - self.momentum**steps)) for weight, average in self._pairs())
