"""OptimizerWrapper: what all optimizers that add something to another one have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import keras
from keras import ops

from bert4albert.errors import ConfigError


class OptimizerWrapper(keras.optimizers.Optimizer):
    """An optimizer that lets another one train, and does something of its own before or after.

    A *step* is an update of the weights; with `gradient_accumulation_steps` several batches make one.

    Arguments:
        optimizer: the optimizer that trains: any of Keras', what `layerwise` returns, or another wrapper.
    """

    def __init__(self, optimizer: keras.optimizers.Optimizer, name: str) -> None:
        super().__init__(learning_rate=0.0, name=name)
        if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
            kind = type(self).__name__
            raise ConfigError(f"Put {kind} inside the loss scaling: LossScaleOptimizer({kind}(...)).")
        self.inner_optimizer = optimizer

    def build(self, variables: Sequence[Any]) -> None:
        """Create the variables of both optimizers."""
        if self.built:
            return
        self.inner_optimizer.build(variables)
        self.batches = self.add_variable((), dtype="int", name="batches")
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

    @property
    def trainers(self) -> list[keras.optimizers.Optimizer]:
        """The optimizers that update weights: several where each has a learning rate of its own."""
        return trainers_in(self.inner_optimizer)

    def trainer_of(self, path: str) -> keras.optimizers.Optimizer:
        """Return the optimizer that updates the variable with this path."""
        inner = self.inner_optimizer
        if hasattr(inner, "trainer_of"):
            return inner.trainer_of(path)
        if hasattr(inner, "optimizers"):
            raise ConfigError(
                f"{type(self).__name__} cannot tell which part of a {type(inner).__name__} trains which weight; "
                "use one optimizer, or what bert4albert.training.layerwise returns."
            )
        return inner

    @property
    def batches_a_step(self) -> int:
        """How many batches make one step."""
        return batches_a_step(self.inner_optimizer)

    def ends_step(self) -> Any:
        """Return whether the batch at hand, not yet counted, completes a step; a boolean scalar."""
        return ops.equal((self.batches + 1) % self.batches_a_step, 0)

    def apply(self, grads: Sequence[Any], trainable_variables: Sequence[Any] | None = None) -> None:
        """Let the other optimizer train on a batch, and count it."""
        self.inner_optimizer.apply(grads, trainable_variables)
        self.batches.assign_add(1)

    def scale_loss(self, loss: Any) -> Any:
        """Scale the loss as the optimizer that trains does."""
        return self.inner_optimizer.scale_loss(loss)

    def finalize_variable_values(self, var_list: Sequence[Any]) -> None:
        """Finish as the optimizer that trains does; Keras' `fit` calls this when it ends."""
        self.inner_optimizer.finalize_variable_values(var_list)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"optimizer": keras.saving.serialize_keras_object(self.inner_optimizer), "name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Self:
        """Rebuild from `get_config`."""
        inner = keras.saving.deserialize_keras_object(config["optimizer"], custom_objects)
        return cls(**{**config, "optimizer": inner})


def trainers_in(optimizer: keras.optimizers.Optimizer) -> list[keras.optimizers.Optimizer]:
    """Return the optimizers that update weights, of an optimizer of any kind."""
    inner = getattr(optimizer, "inner_optimizer", None)
    return list(getattr(optimizer, "optimizers", [optimizer])) if inner is None else trainers_in(inner)


def batches_a_step(optimizer: keras.optimizers.Optimizer) -> int:
    """Return how many batches make one update; raise `ConfigError` where parts of an optimizer differ in that."""
    counts = {trainer.gradient_accumulation_steps or 1 for trainer in trainers_in(optimizer)}
    if len(counts) > 1:
        raise ConfigError(f"All weights must be updated together, not after {sorted(counts)} batches each.")
    return counts.pop() if counts else 1
