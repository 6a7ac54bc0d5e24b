"""GradualUnsharing: copies of a block that train as one for a while, and are then let go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import ops

from bert4albert.backend import register
from bert4albert.errors import ConfigError
from bert4albert.model import Trunk
from bert4albert.training.clipping import clip_together, common_limit, without_clipping
from bert4albert.training.phases import Phase, phases_of, saved_phases
from bert4albert.training.tied_rates import tie_rates
from bert4albert.training.wrapper import OptimizerWrapper

Groups = list[list[Any]]
"""Weights that are tied to one another, group by group."""


@register
class GradualUnsharing(OptimizerWrapper):
    """Train an unshared trunk as a shared one at first, and let its copies go at later steps.

    The gradients of tied copies are summed and each copy gets the sum, as the one block of a shared model would;
    so equal copies stay equal, and the state of the optimizer with them. Nothing is rebuilt when they are let go.
    While tied, copies use the mean of their learning rates, as `layerwise` has it, and count once for
    `global_clipnorm`. A step is an update of the weights.

    Arguments:
        optimizer: the optimizer that trains; where rates differ, what `layerwise` returns.
        trunk: an unshared trunk, whose copies are still equal.
        unshare_at: step -> what `build_model(sharing=...)` takes: how the trunk is shared from this step on. Later
            steps may only split what earlier ones share. Before the first of them the trunk is 'shared'.

    Raises `ConfigError` for a step that is no whole number, for steps that join what was apart, and for copies that
    are to be tied and are not equal.

    Examples:
        >>> from bert4albert import build_model
        >>> from bert4albert.training import GradualUnsharing, adamw
        >>> trunk = build_model("albert_tiny_zh", model="albert_unshared")
        >>> optimizer = GradualUnsharing(adamw(1e-4), trunk, {0: "shared", 500: "groups:2", 1000: "unshared"})
        >>> list(optimizer.get_config()["unshare_at"])
        ['0', '500', '1000']
    """

    def __init__(
        self,
        optimizer: keras.optimizers.Optimizer,
        trunk: Trunk | None,
        unshare_at: Mapping[Any, Any],
        name: str = "gradual_unsharing",
    ) -> None:
        super().__init__(optimizer, name)
        # Without a trunk it is what `get_config` gave, whose rates are tied already.
        phases = saved_phases(unshare_at) if trunk is None else phases_of(trunk, unshare_at)
        # A function, here and below, since Keras would take a list for variables of the optimizer.
        self._phases: Callable[[], tuple[Phase, ...]] = lambda: phases
        if trunk is not None:
            tie_rates(self, trunk, phases)

    def build(self, variables: Sequence[Any]) -> None:
        """Create the variables, and find the tied weights among those that are trained."""
        if self.built:
            return
        groups = [_trained_groups(phase, variables) for phase in self._phases()]
        counts = _counts(groups, variables)
        clips = any(trainer.global_clipnorm for trainer in self.trainers) and not counts.all()
        if clips and common_limit(self.trainers) is None:
            raise ConfigError("Optimizers of tied copies must all have the same global_clipnorm.")
        self._groups: Callable[[], list[Groups]] = lambda: groups
        self._trained: Callable[[], list[Any]] = lambda: list(variables)
        # How often each weight counts for `global_clipnorm` in each phase; None where Keras itself counts right.
        self._counts: Callable[[], np.ndarray | None] = lambda: counts if clips else None
        super().build(variables)

    def apply(self, grads: Sequence[Any], trainable_variables: Sequence[Any] | None = None) -> None:
        """Take a step with the other optimizer, on the summed gradients of what is tied."""
        variables = list(trainable_variables or self._trained())
        self.build(variables)
        gradients = self._summed(variables, list(grads))
        counts, clipping = self._counts(), []
        if counts is not None:
            counted = ops.take(ops.convert_to_tensor(counts), self._phase(), axis=0)
            gradients = clip_together(gradients, variables, self.trainer_of, self.ends_step(), counted)
            clipping = self.trainers
        with without_clipping(clipping):
            super().apply(gradients, trainable_variables)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments, with paths of weights in place of the trunk."""
        groups = {str(phase.start): [list(group) for group in phase.groups] for phase in self._phases()}
        return {**super().get_config(), "trunk": None, "unshare_at": groups}

    def _phase(self) -> Any:
        """Return the index of the phase that the batch at hand belongs to; an integer scalar."""
        starts = np.array([phase.start for phase in self._phases()[1:]], "int32")
        step = ops.cast(self.batches // self.batches_a_step, "int32")
        return ops.sum(ops.cast(ops.greater_equal(step, ops.convert_to_tensor(starts)), "int32"))

    def _summed(self, variables: list[Any], grads: list[Any]) -> list[Any]:
        """Return the gradients, those of tied weights replaced by the sum over their group of this phase."""
        tied = [weight for group in self._groups()[0] for weight in group]
        if not tied:
            return grads
        gradients = {id(variable): gradient for variable, gradient in zip(variables, grads, strict=True)}
        # A head on a lower depth leaves the copies above without a gradient.
        missing = {id(weight): ops.zeros(weight.shape) for weight in tied if gradients[id(weight)] is None}
        values = [missing.get(id(weight), gradients[id(weight)]) for weight in tied]
        branches = [partial(_sums, groups, tied) for groups in self._groups()]
        summed = branches[0](values) if len(branches) == 1 else ops.switch(self._phase(), branches, values)
        gradients |= zip(map(id, tied), summed, strict=True)
        return [gradients[id(variable)] for variable in variables]


def _trained_groups(phase: Phase, trained: Sequence[Any]) -> Groups:
    """Return the weights of a phase's groups; raise unless all of a group are trained, or none."""
    found = {weight.path: weight for weight in trained}
    repeated = Counter(weight.path for weight in trained)
    groups = []
    for group in phase.groups:
        frozen = [path for path in group if path not in found]
        if any(repeated[path] > 1 for path in group):
            raise ConfigError(f"The model has several weights called {group[0]}; give its layers names of their own.")
        if frozen and len(frozen) < len(group):
            raise ConfigError(f"{frozen[0]} is frozen, but tied to weights that are not; freeze all of them or none.")
        if not frozen:
            groups.append([found[path] for path in group])
    if phase.groups and not groups:
        raise ConfigError(f"Not one of the tied weights is trained, neither {phase.groups[0][0]} nor any other.")
    return groups


def _sums(groups: Groups, tied: list[Any], gradients: list[Any]) -> list[Any]:
    """Return the gradients of the tied weights, with the sum over its group for each weight in one."""
    summed = {id(weight): gradient for weight, gradient in zip(tied, gradients, strict=True)}
    for group in groups:
        # Not by `+`: TensorFlow makes one accumulator of a row of additions, which inside a `switch` outlives the
        # step in a branch that is not taken, and the next step fails ("AlreadyExists ... tmp_var"; large models only).
        total = ops.sum(ops.stack([summed[id(weight)] for weight in group]), axis=0)
        summed |= {id(weight): total for weight in group}
    return list(summed.values())


def _counts(groups: Sequence[Groups], variables: Sequence[Any]) -> np.ndarray:
    """Return [phases, weights]: 0 for all but the first of tied weights, else 1."""
    index = {id(weight): i for i, weight in enumerate(variables)}
    counts = np.ones((len(groups), len(index)), "float32")
    for row, tied in zip(counts, groups, strict=True):
        for group in tied:
            row[[index[id(weight)] for weight in group[1:]]] = 0
    return counts
