"""Learning rate schedules made of straight lines."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from bert4albert.backend import register
from bert4albert.errors import ConfigError


@register
class PiecewiseLinear(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that moves in straight lines from point to point, and stays at the last.

    It starts from 0 at step 0 unless the points give step 0; bert4keras' `lr_schedule`, exactly.

    Arguments:
        points: step -> multiple of `base` at that step.
        base: the learning rate that the points multiply.

    Raises `ConfigError` without points, or for a step that is negative or not a whole number.

    Examples:
        >>> from bert4albert.training import PiecewiseLinear
        >>> schedule = PiecewiseLinear({10: 1.0, 20: 0.0}, base=0.1)
        >>> [round(float(schedule(step)), 3) for step in (0, 5, 10, 15, 30)]
        [0.0, 0.05, 0.1, 0.05, 0.0]
    """

    def __init__(self, points: Mapping[int, float], base: float = 1.0) -> None:
        # JSON turns the steps into strings.
        if not points or any(float(step) < 0 or float(step) % 1 for step in points):
            raise ConfigError(
                f"points must map steps, whole numbers from 0 on, to multiples of the rate, not {points!r:.80}."
            )
        self.points = {int(step): float(points[step]) for step in sorted(points, key=int)}
        self.base = float(base)

    def __call__(self, step: Any) -> Any:
        """Return the learning rate of a step, a scalar."""
        points = self.points if 0 in self.points else {0: 0.0, **self.points}
        return self.base * line_through(points, ops.cast(step, "float32"))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"points": {str(step): value for step, value in self.points.items()}, "base": self.base}


def line_through(points: Mapping[Any, float], step: Any) -> Any:
    """Return the value at a step, a float of any shape, of the line through points in order; level outside them."""
    # The sum of ramps, one for each line: a ramp goes from 0 to 1 between its two points.
    value = ops.zeros_like(step) + next(iter(points.values()))
    for (start, low), (end, high) in itertools.pairwise(points.items()):
        value += (high - low) * ops.clip((step - start) / (end - start), 0.0, 1.0)
    return value


def piecewise_linear(points: Mapping[int, float], base: float = 1.0) -> PiecewiseLinear:
    """Return the schedule through these points, such as `piecewise_linear({1000: 1, 2000: 0.1}, 1e-4)`.

    Arguments:
        points: step -> multiple of `base`; from 0 at step 0 unless step 0 is given.
        base: the learning rate.

    Examples:
        >>> from bert4albert.training import piecewise_linear
        >>> schedule = piecewise_linear({1000: 1, 2000: 0.1}, 1e-4)
        >>> [f"{float(schedule(step)):.1e}" for step in (500, 1000, 2000, 9000)]
        ['5.0e-05', '1.0e-04', '1.0e-05', '1.0e-05']
    """
    return PiecewiseLinear(points, base)


def warmup_linear_decay(base: float, steps: int, warmup: float = 0.1) -> PiecewiseLinear:
    """Return BERT's schedule: from 0 to `base` in the first steps, then down to 0 at the last (arXiv:1810.04805).

    Arguments:
        base: the highest learning rate.
        steps: the number of steps of the training.
        warmup: the part of the steps in which the rate rises, from 0 to below 1.

    Examples:
        >>> from bert4albert.training import warmup_linear_decay
        >>> schedule = warmup_linear_decay(1e-4, steps=100)
        >>> [f"{float(schedule(step)):.1e}" for step in (5, 10, 55)]
        ['5.0e-05', '1.0e-04', '5.0e-05']
    """
    if not 0 <= warmup < 1:
        raise ConfigError(
            f"warmup={warmup!r} must be the part of the steps, from 0 to below 1, in which the rate rises."
        )
    return PiecewiseLinear({int(warmup * steps): 1.0, max(steps, 1): 0.0}, base)
