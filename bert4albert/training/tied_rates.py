"""The learning rates of copies that are tied to one another: the mean of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from bert4albert.backend import register
from bert4albert.errors import ConfigError
from bert4albert.model import Trunk
from bert4albert.training.copies import copies_by_weight
from bert4albert.training.phases import Phase
from bert4albert.training.wrapper import OptimizerWrapper


@register
class TiedRate(keras.optimizers.schedules.LearningRateSchedule):
    """A weighted mean of learning rates, with weights that change at given steps.

    Arguments:
        rates: numbers, or Keras schedules.
        shares: first batch -> the weight of each rate from then on; the first is 0.
    """

    def __init__(self, rates: Sequence[Any], shares: dict[Any, Sequence[float]]) -> None:
        # JSON turns the batches into strings.
        self.shares = {int(batch): [float(share) for share in shares[batch]] for batch in sorted(shares, key=int)}
        self.rates = list(rates)

    def __call__(self, step: Any) -> Any:
        """Return the learning rate of a batch, a scalar."""
        rates = [rate(step) if callable(rate) else rate for rate in self.rates]
        starts = np.array(list(self.shares)[1:], "int32")
        passed = ops.greater_equal(ops.cast(step, "int32"), ops.convert_to_tensor(starts))
        phase = ops.sum(ops.cast(passed, "int32"))
        shares = ops.take(ops.convert_to_tensor(np.array(list(self.shares.values()), "float32")), phase, axis=0)
        return ops.sum(shares * ops.stack([ops.cast(rate, "float32") for rate in rates]))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        rates = [keras.saving.serialize_keras_object(rate) for rate in self.rates]
        return {"rates": rates, "shares": {str(batch): shares for batch, shares in self.shares.items()}}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> TiedRate:
        """Rebuild from `get_config`."""
        return cls([keras.saving.deserialize_keras_object(rate) for rate in config["rates"]], config["shares"])


def tie_rates(optimizer: OptimizerWrapper, trunk: Trunk, phases: Sequence[Phase]) -> None:
    """Give optimizers of tied copies the mean of their learning rates, as long as they are tied.

    Arguments:
        optimizer: what trains the trunk.
        trunk: the trunk.
        phases: what is tied, and when.

    Raises `ConfigError` where one optimizer would need two rates at once.
    """
    paths = [weight.path for _, copies in copies_by_weight(trunk) for weight in copies]
    trainer_of = {path: optimizer.trainer_of(path) for path in paths}
    trainers = list({id(trainer): trainer for trainer in trainer_of.values()}.values())
    if len(trainers) < 2:
        return
    own = np.eye(len(trainers))
    index = {path: next(i for i, t in enumerate(trainers) if t is trainer) for path, trainer in trainer_of.items()}
    tables = []
    for phase in phases:
        table: list[Any] = [None] * len(trainers)
        groups = [*phase.groups, *((path,) for path in set(paths) - {p for group in phase.groups for p in group})]
        for group in groups:
            mean = np.mean([own[index[path]] for path in group], axis=0)
            for path in group:
                known = table[index[path]]
                if known is not None and not np.array_equal(known, mean):
                    raise ConfigError(
                        f"{path} would need another learning rate than other weights of its depth, since parts are "
                        "tied differently; tie whole blocks, or use one rate for all depths (layer_decay=1)."
                    )
                table[index[path]] = mean
        tables.append(table)
    rates = [_rate(trainer) for trainer in trainers]
    starts = [phase.start * optimizer.batches_a_step for phase in phases]
    for i, trainer in enumerate(trainers):
        if any(not np.array_equal(table[i], own[i]) for table in tables):
            shares = dict(zip(starts, (table[i].tolist() for table in tables), strict=True))
            trainer.learning_rate = TiedRate(rates, shares)


def _rate(trainer: keras.optimizers.Optimizer) -> Any:
    """Return an optimizer's learning rate: its schedule, or a number."""
    rate = trainer.get_config()["learning_rate"]
    return keras.saving.deserialize_keras_object(rate) if isinstance(rate, dict) else rate
