"""What `Task.fit` adds to an optimizer for the way between shared and unshared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from bert4albert.model import Trunk
from bert4albert.training.gradual_unsharing import GradualUnsharing
from bert4albert.training.phases import steps_of
from bert4albert.training.sharing_decay import SharingDecay
from bert4albert.training.wrapper import batches_a_step


def between_optimizer(
    optimizer: keras.optimizers.Optimizer,
    trunk: Trunk,
    batches: int,
    unshare_at: Mapping[Any, Any] | None = None,
    sharing_decay: float | None = None,
) -> keras.optimizers.Optimizer:
    """Return the optimizer with `GradualUnsharing` and `SharingDecay` around it, where they are asked for.

    Arguments:
        optimizer: the optimizer that trains.
        trunk: the trunk that is trained.
        batches: the number of batches of the training.
        unshare_at: as in `Task.fit`; None for no `GradualUnsharing`.
        sharing_decay: the strength; None for no `SharingDecay`.
    """
    if unshare_at is not None:
        steps = batches // batches_a_step(optimizer)
        optimizer = GradualUnsharing(optimizer, trunk, steps_of(unshare_at, steps))
    return optimizer if sharing_decay is None else SharingDecay(optimizer, trunk, sharing_decay)
