"""SharingDecay: copies of a block that are pulled toward their mean."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
from keras import ops

from bert4albert.backend import register
from bert4albert.errors import ConfigError
from bert4albert.model import Trunk
from bert4albert.training.copies import copies_by_weight, copies_of_one
from bert4albert.training.wrapper import OptimizerWrapper


@register
class SharingDecay(OptimizerWrapper):
    """Train an unshared trunk, and pull the copies of each block of the checkpoint toward their mean.

    After each step a copy moves toward the mean of all copies that began as the same block of the checkpoint, by
    min(1, learning rate * strength) of the distance: decoupled from the gradients, as the weight decay of AdamW
    (arXiv:1711.05101). 0 is BERT, much is ALBERT.

    Arguments:
        optimizer: the optimizer that trains; where rates differ, what `layerwise` returns.
        trunk: an unshared trunk.
        strength: 0 or more.
        groups: without a trunk, as `get_config` gives it: the paths of the copies that are pulled together.

    Raises `ConfigError` for another strength, and for a trunk without copies of one block.

    Examples:
        >>> from bert4albert import build_model
        >>> from bert4albert.training import SharingDecay, adamw
        >>> trunk = build_model("albert_tiny_zh", model="albert_unshared")
        >>> optimizer = SharingDecay(adamw(1e-4), trunk, strength=0.1)
        >>> optimizer.strength
        0.1
    """

    def __init__(
        self,
        optimizer: keras.optimizers.Optimizer,
        trunk: Trunk | None,
        strength: float,
        groups: Sequence[Sequence[str]] = (),
        name: str = "sharing_decay",
    ) -> None:
        super().__init__(optimizer, name)
        number = isinstance(strength, (int, float)) and not isinstance(strength, bool)
        if not number or not math.isfinite(strength) or strength < 0:
            raise ConfigError(f"The strength of the sharing decay must be a number of 0 or more, not {strength!r:.80}.")
        self.strength = float(strength)
        paths = tuple(map(tuple, groups)) if trunk is None else tuple(_groups(trunk))
        if not paths:
            raise ConfigError(
                "The trunk has no two copies of one block of the checkpoint, and so nothing to pull together; "
                "build it with model='albert_unshared'."
            )
        # Functions, since Keras would take lists for variables of the optimizer.
        self._paths: Callable[[], tuple[tuple[str, ...], ...]] = lambda: paths

    def build(self, variables: Sequence[Any]) -> None:
        """Create the variables, and find the copies among those that are trained."""
        if self.built:
            return
        trained = {variable.path: variable for variable in variables}
        groups = [[trained[path] for path in group if path in trained] for group in self._paths()]
        groups = [group for group in groups if len(group) > 1]
        if not groups:
            raise ConfigError("No two copies of one block are trained, so that there is nothing to pull together.")
        self._groups: Callable[[], list[list[Any]]] = lambda: groups
        super().build(variables)

    def apply(self, grads: Sequence[Any], trainable_variables: Sequence[Any] | None = None) -> None:
        """Take a step with the other optimizer, then move the copies toward their means."""
        if trainable_variables is not None:
            self.build(list(trainable_variables))
        if not self.strength:
            super().apply(grads, trainable_variables)
            return
        # Before the step: the rate that the step itself uses.
        pulls = self._pulls()
        super().apply(grads, trainable_variables)
        for group in self._groups():
            total = group[0].value
            for weight in group[1:]:
                total = total + weight.value
            mean = total / len(group)
            for weight in group:
                pull = ops.cast(pulls[id(self.trainer_of(weight.path))], weight.dtype)
                weight.assign(weight + pull * (mean - weight))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments, with paths of weights in place of the trunk."""
        groups = [list(group) for group in self._paths()]
        return {**super().get_config(), "trunk": None, "strength": self.strength, "groups": groups}

    def _pulls(self) -> Mapping[int, Any]:
        """Return, by the id of each optimizer, by which part of the distance its weights move."""
        trainers = {id(t): t for t in (self.trainer_of(w.path) for group in self._groups() for w in group)}
        moves = ops.cast(self.ends_step(), "float32")
        return {
            key: moves * ops.minimum(1.0, ops.cast(trainer.learning_rate, "float32") * self.strength)
            for key, trainer in trainers.items()
        }


def _groups(trunk: Trunk) -> Iterator[tuple[str, ...]]:
    groups = copies_of_one(trunk)
    for part, copies in copies_by_weight(trunk):
        for group in groups[part]:
            yield tuple(copies[copy].path for copy in group)
