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
from bert4albert.training.wrapper import OptimizerWrapper


@register
class MovingAverage(OptimizerWrapper):
    """Train with another optimizer, and keep an exponential moving average of the weights.

    The average starts from 0 and is corrected for that, as in Adam (arXiv:1412.6980, section 3) and bert4keras:
    after t steps it is (1 - m) * sum(m ** (t - i) * w_i) / (1 - m ** t). Keras' own `use_ema` starts from the first
    weights instead. `fit` of Keras ends with the averaged weights in the model.

    Arguments:
        optimizer: the optimizer that trains.
        momentum: what is kept of the average at each step, from 0 to below 1.

    Examples:
        >>> import keras
        >>> from bert4albert.training import MovingAverage
        >>> weight = keras.Variable([0.0])
        >>> optimizer = MovingAverage(keras.optimizers.SGD(1.0), momentum=0.5)
        >>> for _ in range(2):
        ...     optimizer.apply([keras.ops.convert_to_tensor([-1.0])], [weight])
        >>> with optimizer.averaged():
        ...     print(round(float(weight.value[0]), 3))
        1.667
        >>> float(weight.value[0])
        2.0
    """

    def __init__(
        self, optimizer: keras.optimizers.Optimizer, momentum: float = 0.999, name: str = "moving_average"
    ) -> None:
        super().__init__(optimizer, name)
        if not 0 <= momentum < 1:
            raise ConfigError(f"The momentum of a moving average is from 0 to below 1; {momentum!r} was given.")
        self.momentum = momentum

    def build(self, variables: Sequence[Any]) -> None:
        """Create the averages, all 0."""
        if self.built:
            return
        averages = self.add_optimizer_variables(variables, "average")
        # A function, since Keras would take a list for variables of the optimizer.
        self._pairs: Callable[[], Iterable[tuple[Any, Any]]] = lambda: zip(variables, averages, strict=True)
        super().build(variables)

    def apply(self, grads: Sequence[Any], trainable_variables: Sequence[Any] | None = None) -> None:
        """Take a step with the other optimizer, then move the averages."""
        if trainable_variables is not None:
            self.build(list(trainable_variables))
        moved = self.ends_step()
        super().apply(grads, trainable_variables)
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
        return {**super().get_config(), "momentum": self.momentum}

    def _averages(self) -> Iterator[tuple[Any, Any]]:
        """Yield weights with their corrected averages; none before the first step."""
        steps = int(ops.convert_to_numpy(self.batches)) // self.batches_a_step
        if steps:
            yield from ((weight, average / (1 - self.momentum**steps)) for weight, average in self._pairs())
