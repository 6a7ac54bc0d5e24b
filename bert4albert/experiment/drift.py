"""How far fine-tuning has moved the kernels of each depth from where they started."""

from __future__ import annotations

import dataclasses
import re

import numpy as np

from bert4albert.checkpoint.export import Weights, merged
from bert4albert.checkpoint.names import part_of, weight_shapes
from bert4albert.model import Trunk, weights_of

_KERNEL = re.compile(r"encoder/block_(\d+)/(.+/kernel)")


def remember(trunk: Trunk) -> Weights:
    """Return the weights of a trunk as they are now, whatever becomes of it."""
    weights = weights_of(trunk)
    values = {
        name: np.array(weights.read(name)) for name in weight_shapes(weights.config) if name.startswith("encoder")
    }
    return dataclasses.replace(weights, read=values.__getitem__)


def distances(start: Weights, trunk: Trunk) -> dict[str, list[float]]:
    """Return how far the kernels that each depth uses, updates of its own included, are from those at the start.

    Arguments:
        start: what `remember` returned for the same trunk.
        trunk: the trunk now.

    Returns:
        For 'attention' and 'feed_forward' one number for each depth: the norm of the difference of all its kernels,
        relative to the norm of the kernels at the start.
    """
    before, now = merged(start), merged(weights_of(trunk))
    depth = now.config.sharing.depth
    squares = {part: np.zeros((2, depth)) for part in ("attention", "feed_forward")}
    for name in weight_shapes(now.config):
        if match := _KERNEL.fullmatch(name):
            old, new = before.read(name), now.read(name)
            squares[part_of(match[2])][:, int(match[1])] += ((new - old) ** 2).sum(), (old**2).sum()
    return {
        part: [round(float(value), 6) for value in np.sqrt(moved / np.maximum(norm, 1e-30))]
        for part, (moved, norm) in squares.items()
    }
