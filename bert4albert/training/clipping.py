"""Clipping by the norm of all gradients together, where some of them are to count once or are still to come."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras
from keras import ops


def common_limit(trainers: Sequence[keras.optimizers.Optimizer]) -> float | None:
    """Return the `global_clipnorm` that all of these optimizers have; None where they have none, or differ."""
    limits = {trainer.global_clipnorm for trainer in trainers}
    return limits.pop() or None if len(limits) == 1 else None


def clip_together(
    gradients: Sequence[Any],
    weights: Sequence[Any],
    trainer_of: Callable[[str], keras.optimizers.Optimizer],
    ends_step: Any,
    counts: Any = None,
) -> list[Any]:
    """Return the gradients scaled so that their common norm is not above the limit, as one optimizer of Keras does.

    Arguments:
        gradients: of a batch, one for each weight; None for none.
        weights: all weights, in the order in which the optimizers were built with them.
        trainer_of: path of a weight -> the optimizer that trains it, all with one `global_clipnorm`.
        ends_step: whether the batch completes a step; gradients that were accumulated before it are then scaled too,
            where they lie.
        counts: float [number of weights]: how often each weight counts; None for once.

    Returns:
        One gradient for each weight, to be applied `without_clipping`.
    """
    trainer, accumulators = trainer_of(weights[0].path), _accumulators(weights, trainer_of)
    # Keras unscales the gradients before it clips.
    limit = trainer.global_clipnorm * (trainer.loss_scale_factor or 1)
    present = [i for i, gradient in enumerate(gradients) if gradient is not None]

    def factor() -> Any:
        whole = [gradients[i] for i in present]
        if accumulators:
            steps = trainer.gradient_accumulation_steps
            whole = [ops.add(gradients[i], accumulators[id(weights[i])]) / steps for i in present]
        squares = ops.stack([ops.cast(ops.sum(ops.square(gradient)), "float32") for gradient in whole])
        if counts is not None:
            squares = squares * ops.take(counts, ops.convert_to_tensor(present), axis=0)
        norm = ops.sqrt(ops.sum(squares))
        # Not a number if the norm is none, as in Keras.
        return limit * ops.minimum(1.0 / norm, 1.0 / limit) + (norm - norm)

    scale = ops.cond(ends_step, factor, lambda: ops.ones(())) if accumulators else factor()
    for accumulator in accumulators.values():
        accumulator.assign(accumulator * ops.cast(scale, accumulator.dtype))
    # By `*`, as Keras does it: this makes the rows that TensorFlow gives for an embedding a whole gradient.
    return [g if g is None else g * ops.cast(scale, g.dtype) for g in gradients]


@contextmanager
def without_clipping(trainers: Sequence[keras.optimizers.Optimizer]) -> Iterator[None]:
    """Keep optimizers from clipping by a global norm inside a `with` block."""
    limits = [trainer.global_clipnorm for trainer in trainers]
    for trainer in trainers:
        trainer.global_clipnorm = None
    try:
        yield
    finally:
        for trainer, limit in zip(trainers, limits, strict=True):
            trainer.global_clipnorm = limit


def _accumulators(weights: Sequence[Any], trainer_of: Callable[[str], keras.optimizers.Optimizer]) -> dict[int, Any]:
    """Return the variables in which optimizers add up gradients over batches, by the ids of the weights."""
    trained: dict[int, list[Any]] = defaultdict(list)
    for weight in weights:
        trained[id(trainer_of(weight.path))].append(weight)
    found: dict[int, Any] = {}
    for members in trained.values():
        trainer = trainer_of(members[0].path)
        if trainer.gradient_accumulation_steps:
            sums = [variable for variable in trainer.variables if variable.name.endswith("gradient_accumulator")]
            found |= {id(weight): variable for weight, variable in zip(members, sums, strict=True)}
    return found
