"""What each depth computes with, and depths as what they share and an update of low rank."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import NamedTuple

import numpy as np

from bert4albert.checkpoint.export import Weights, merged
from bert4albert.checkpoint.names import block_shapes, part_of
from bert4albert.config import ModelConfig
from bert4albert.errors import ConfigError, require_whole
from bert4albert.sharing import Schedule


def shared_schedule(config: ModelConfig) -> Schedule:
    """Return the schedule of the checkpoint; of one that has a block for each depth, that of one block for all.

    An unshared ALBERT is written with a group for each layer, so that its config no longer says where it began.
    """
    own = config.own_schedule
    return Schedule.of_blocks([0] * own.depth) if own.num_blocks == own.depth else own


def require_same_shape(config: ModelConfig, other: ModelConfig) -> None:
    """Raise `ConfigError` unless two models have as many depths with weights as large."""
    if config.sharing.depth != other.sharing.depth or block_shapes(config) != block_shapes(other):
        raise ConfigError(
            f"The other trunk has {other.sharing.depth} depths of hidden size {other.hidden_size}, this one "
            f"{config.sharing.depth} of {config.hidden_size}; pass the trunk that this one was trained from."
        )


def depth_weights(weights: Weights, adapted: bool = True) -> Iterator[tuple[str, list[np.ndarray]]]:
    """Yield what each depth computes with, one kind of weight at a time.

    Arguments:
        weights: those of a model.
        adapted: with what the depths add to the weights they use.

    Returns:
        Yields (name inside a block, such as 'attention/query/kernel', one float64 array for each depth).
    """
    config = weights.config
    unshared = adapted and config.has_adapters
    read = merged(weights).read if unshared else weights.read
    for name in block_shapes(config):
        copies = range(config.sharing.depth) if unshared else config.sharing[part_of(name)]
        yield name, [np.asarray(read(f"encoder/block_{copy}/{name}"), "float64") for copy in copies]


def means(arrays: Sequence[np.ndarray], copies: Sequence[int]) -> list[np.ndarray]:
    """Return the means of the arrays of depths that have the same copy.

    Arguments:
        arrays: one for each depth.
        copies: the copy at each depth.

    Returns:
        One array for each depth.
    """
    by_copy = {c: np.mean([a for a, other in zip(arrays, copies, strict=True) if other == c], axis=0) for c in copies}
    return [by_copy[copy] for copy in copies]


def compressed(weights: Weights, rank: int, start: Weights | None = None) -> tuple[Weights, float]:
    """Return weights whose depths share a block, to each kernel of which each adds an update of low rank.

    Arguments:
        weights: those of a model whose depths have weights of their own.
        rank: of the updates, 1 or more.
        start: those of the model before it was trained, where they are at hand.

    Returns:
        (the weights, with `depth_lora` and `depth_bias`; the norm of what the updates leave out, as a part of the norm
        of how far the kernels are from what they share). Raises `ConfigError`.
    """
    config = weights.config
    require_whole("rank", rank, 1)
    if start is not None:
        require_same_shape(config, start.config)
    # No kernel has a higher rank than its shorter side.
    rank = min(int(rank), max(min(shape) for shape in block_shapes(config).values() if len(shape) == 2))
    lora = {"rank": rank, "parts": ["attention", "feed_forward"], "alpha": rank}
    schedule = shared_schedule(config)
    arrays: dict[str, np.ndarray] = {}
    left = moved = 0.0
    begun = repeat(None) if start is None else depth_weights(start)
    for (name, depths), begin in zip(depth_weights(weights), begun, strict=False):
        copies = schedule[part_of(name)]
        base = means(depths, copies)
        if name.endswith("/kernel"):
            bases = [base] if begin is None else [base, means(begin[1], copies)]
            base, updates = min(((b, _updates(depths, b, rank)) for b in bases), key=lambda found: _left(found[1]))
            left += _left(updates)
            moved += sum(float(np.square(a - b).sum()) for a, b in zip(depths, base, strict=True))
            for depth, update in enumerate(updates):
                prefix = f"encoder/depth_{depth}/{name.removesuffix('/kernel')}"
                arrays |= {f"{prefix}/lora_a": update.first, f"{prefix}/lora_b": update.second}
        else:
            arrays |= {f"encoder/depth_{depth}/{name}": array - base[depth] for depth, array in enumerate(depths)}
        arrays |= {f"encoder/block_{copy}/{name}": base[depth] for depth, copy in enumerate(copies)}
    small = config.replace(sharing=schedule, depth_lora=lora, depth_bias=True)

    def read(weight: str) -> np.ndarray:
        return arrays[weight].astype(weights.dtype) if weight in arrays else weights.read(weight)

    return Weights(small, read, weights.dtype), math.sqrt(left / moved) if moved else 0.0


class _Update(NamedTuple):
    """A [rows, rank] and B [rank, columns], whose product is nearest to a matrix, and the squares that it misses."""

    first: np.ndarray
    second: np.ndarray
    left: float


def _left(updates: list[_Update]) -> float:
    return sum(update.left for update in updates)


def _updates(depths: list[np.ndarray], base: list[np.ndarray], rank: int) -> list[_Update]:
    return [_truncated(a - b, rank) for a, b in zip(depths, base, strict=True)]


def _truncated(matrix: np.ndarray, rank: int) -> _Update:
    """Return the nearest product of a rank, by the largest singular values (Eckart and Young 1936)."""
    wide = matrix if len(matrix) <= matrix.shape[1] else matrix.T
    # The left singular vectors of a wide matrix are the eigenvectors of its small product with itself.
    squares, vectors = np.linalg.eigh(wide @ wide.T)
    kept = vectors[:, ::-1][:, :rank]
    first = np.zeros((len(wide), rank))
    first[:, : kept.shape[1]] = kept
    second = first.T @ wide
    left = float(np.maximum(squares[::-1][rank:], 0).sum())
    return _Update(first, second, left) if wide is matrix else _Update(second.T, first.T, left)
