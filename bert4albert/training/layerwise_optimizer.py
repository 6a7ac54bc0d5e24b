"""LayerwiseOptimizer: one optimizer for each learning rate, each told which weights are its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
from keras import ops

from bert4albert.backend import register
from bert4albert.training.clipping import clip_together, common_limit, without_clipping


@register
class LayerwiseOptimizer(keras.optimizers.MultiOptimizer):
    """Keras' `MultiOptimizer`, which can say who trains which weight, clips all gradients together, and can be saved.

    (A saved `OptimizerMap` comes back with an optimizer for each weight, and so without the state.)

    Arguments:
        optimizers: the optimizers; the first trains every weight that is not named.
        indices: path of a weight -> index of the optimizer that trains it.
    """

    def __init__(
        self,
        optimizers: Sequence[keras.optimizers.Optimizer],
        indices: Mapping[str, int],
        name: str = "layerwise",
    ) -> None:
        by_path = {path: optimizers[index] for path, index in indices.items()}
        super().__init__(keras.optimizers.OptimizerMap(optimizers[0], by_path), name=name)
        # A function, here and below, since Keras would track what it finds in lists as this one's own.
        self._members: Callable[[], tuple[Sequence[Any], Mapping[str, int]]] = lambda: (optimizers, indices)

    def trainer_of(self, path: str) -> keras.optimizers.Optimizer:
        """Return the optimizer that updates the variable with this path."""
        optimizers, indices = self._members()
        return optimizers[indices.get(path, 0)]

    def build(self, var_list: Sequence[Any]) -> None:
        """Create the variables of all optimizers."""
        self._trained: Callable[[], list[Any]] = lambda: list(var_list)
        super().build(var_list)

    def apply(self, grads: Sequence[Any], trainable_variables: Sequence[Any] | None = None) -> None:
        """Take a step with each optimizer; a `global_clipnorm` of all of them is that of all gradients together."""
        weights = list(trainable_variables or self._trained())
        if not self.built:
            self.build(weights)
        clipping: list[Any] = []
        if common_limit(self.optimizers) is not None:
            clipping = self.optimizers
            batches_a_step = clipping[0].gradient_accumulation_steps or 1
            ends_step = ops.equal((self.iterations + 1) % batches_a_step, 0)
            grads = clip_together(grads, weights, self.trainer_of, ends_step)
        with without_clipping(clipping):
            super().apply(grads, weights)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        optimizers, indices = self._members()
        members = [keras.saving.serialize_keras_object(optimizer) for optimizer in optimizers]
        return {"optimizers": members, "indices": dict(indices), "name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> LayerwiseOptimizer:
        """Rebuild from `get_config`."""
        members = [keras.saving.deserialize_keras_object(member, custom_objects) for member in config["optimizers"]]
        return cls(members, config["indices"], config["name"])
