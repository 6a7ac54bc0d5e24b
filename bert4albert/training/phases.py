"""What is tied to what, and from which step on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from keras import ops

from bert4albert.errors import ConfigError
from bert4albert.model import Trunk
from bert4albert.training.copies import copies_by_weight, shared_by


@dataclass(frozen=True)
class Phase:
    """What is tied from a step on: groups of weights, each weight by its path."""

    start: int
    groups: tuple[tuple[str, ...], ...]


def phases_of(trunk: Trunk, unshare_at: Mapping[Any, Any]) -> tuple[Phase, ...]:
    """Return the phases that a plan means, in order, the first at step 0.

    Arguments:
        trunk: an unshared trunk.
        unshare_at: as in `GradualUnsharing`.

    Returns:
        The phases. Raises `ConfigError` for a plan that cannot be kept on this trunk.
    """
    if not isinstance(unshare_at, Mapping) or not all(_is_whole(step) for step in unshare_at):
        raise ConfigError(
            "unshare_at must map steps, whole numbers of 0 or more, to what sharing= takes, such as "
            f"{{0: 'shared', 500: 'unshared'}}, not {unshare_at!r:.80}."
        )
    plan = {0: "shared", **{int(step): sharing for step, sharing in unshare_at.items()}}
    phases = tuple(Phase(step, _groups(trunk, plan[step])) for step in sorted(plan))
    for earlier, later in pairwise(phases):
        together = {path: set(group) for group in earlier.groups for path in group}
        if not all(set(group) <= together.get(group[0], set()) for group in later.groups):
            raise ConfigError(
                f"unshare_at joins at step {later.start} ({plan[later.start]!r:.60}) what was apart from step "
                f"{earlier.start} on ({plan[earlier.start]!r:.60}); later steps may only split groups further."
            )
    _require_equal(trunk, phases[0], plan[0])
    return phases


def saved_phases(groups: Mapping[str, Any]) -> tuple[Phase, ...]:
    """Return the phases from step -> groups of paths, as a saved optimizer has them."""
    return tuple(Phase(int(step), tuple(map(tuple, groups[step]))) for step in sorted(groups, key=int))


def steps_of(unshare_at: Mapping[Any, Any], steps: int) -> dict[int, Any]:
    """Return a plan with whole steps in place of parts of the training.

    Arguments:
        unshare_at: keys that are whole numbers are steps, those strictly between 0 and 1 parts of all steps.
        steps: the number of steps of the training.

    Returns:
        Step -> sharing. Raises `ConfigError` for other keys.
    """
    plan: dict[int, Any] = {}
    parts = {key: key * steps for key in unshare_at if isinstance(key, float) and 0 < key < 1}
    for key in unshare_at:
        if key not in parts and not _is_whole(key):
            raise ConfigError(
                f"unshare_at has the key {key!r:.40}; use whole steps, or parts of all steps above 0 and below 1."
            )
    # In order of time, so that of two that fall on one step the later is kept.
    for key in sorted(unshare_at, key=lambda key: parts.get(key, key)):
        plan[int(parts.get(key, key))] = unshare_at[key]
    return plan


def _is_whole(step: Any) -> bool:
    return isinstance(step, int | np.integer) and not isinstance(step, bool) and int(step) >= 0


def _groups(trunk: Trunk, sharing: Any) -> tuple[tuple[str, ...], ...]:
    shared = shared_by(trunk, sharing)
    return tuple(
        tuple(copies[copy].path for copy in group) for part, copies in copies_by_weight(trunk) for group in shared[part]
    )


def _require_equal(trunk: Trunk, phase: Phase, sharing: Any) -> None:
    weights = {weight.path: weight for _, copies in copies_by_weight(trunk) for weight in copies}
    for group in phase.groups:
        first, *others = (np.asarray(ops.convert_to_numpy(weights[path])) for path in group)
        for path, other in zip(group[1:], others, strict=True):
            if not np.array_equal(first, other):
                raise ConfigError(
                    f"unshare_at starts with {sharing!r:.60}, but {path} differs from {group[0]}: only copies that "
                    "are still equal can be trained as one; start with what keeps them apart."
                )
