"""A trained trunk with other copies: a block for each depth, or fewer, and which depths could share one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from bert4albert.checkpoint.export import merged
from bert4albert.checkpoint.low_rank import depth_weights, means
from bert4albert.checkpoint.names import count_parameters, part_of, weight_shapes
from bert4albert.depth_drift import hidden_movement
from bert4albert.errors import ConfigError, require_whole
from bert4albert.model import Trunk, trunk_of
from bert4albert.sharing import PARTS, parse_schedule
from bert4albert.weights import trunk_from, weights_of


@dataclass(frozen=True)
class ResharingReport:
    """What averaging copies into fewer has changed.

    Attributes:
        sharing: the new schedule, in words.
        parameters_before, parameters_after: of the trunk.
        distances: part -> for each depth, how far its weights were from the mean that took their place, as a part of
            the norm of that mean.
        hidden_drift: for each depth, how far its hidden states have moved on the given texts, as a part of their norm.
    """

    sharing: str
    parameters_before: int
    parameters_after: int
    distances: dict[str, tuple[float, ...]]
    hidden_drift: tuple[float, ...]


def merge_depths(model: keras.Model) -> Trunk:
    """Return a plain trunk with a block of its own at each depth, into which what the depth adds has gone.

    Arguments:
        model: a trunk, or a model on top of one; it stays as it is.

    Returns:
        A new unshared trunk without `depth_lora` and `depth_bias`, equal up to rounding.

    Examples:
        >>> from bert4albert import build_model, merge_depths
        >>> model = build_model("albert_tiny_zh", depth_lora=4)
        >>> print(model.config.sharing, model.config.has_adapters)
        4 block applications share 1 block True
        >>> merged = merge_depths(model)
        >>> print(merged.config.sharing, merged.config.has_adapters)
        4 block applications, each with a block of its own False
    """
    trunk = trunk_of(model)
    config = trunk.config.replace(sharing="unshared", depth_lora=None, depth_bias=False)
    return trunk_from(config, merged(weights_of(trunk)).read, trunk)


def reshare(
    trunk: keras.Model, sharing: Any, texts: Sequence[Any] | None = None, tokenizer: Any = None
) -> tuple[Trunk, ResharingReport]:
    """Average the copies of a trunk into fewer.

    Arguments:
        trunk: a trunk, or a model on top of one; it stays as it is. What its depths add to the weights they use is part
            of their weights.
        sharing: as in `build_model`, such as 'shared' for the checkpoint's own or 'groups:2'.
        texts: texts on which to measure how much the function has moved; or token ids and segment ids, a pair of
            [batch, length]; None for made-up ones.
        tokenizer: encodes the texts.

    Returns:
        (a new trunk, a `ResharingReport`). Raises `ConfigError` for a schedule that cannot be used, and for texts
        without a tokenizer.

    Examples:
        >>> from bert4albert import Tokenizer, build_model, reshare
        >>> unshared = build_model("albert_tiny_zh", model="albert_unshared")
        >>> model, report = reshare(unshared, "groups:2", ["今天天气很好"], Tokenizer("albert_tiny_zh"))
        >>> print(model.config.sharing)
        4 block applications share 2 blocks: 0 0 1 1
        >>> len(report.hidden_drift)
        4
    """
    trunk = trunk_of(trunk)
    old = weights_of(trunk)
    schedule = parse_schedule(sharing, trunk.config.own_schedule)
    inputs = _inputs(trunk, texts, tokenizer)
    arrays: dict[str, np.ndarray] = {}
    moved, sizes = ({part: np.zeros(schedule.depth) for part in PARTS} for _ in range(2))
    for name, depths in depth_weights(old):
        part = part_of(name)
        averages = means(depths, schedule[part])
        for depth, copy in enumerate(schedule[part]):
            arrays[f"encoder/block_{copy}/{name}"] = averages[depth]
            moved[part][depth] += np.square(depths[depth] - averages[depth]).sum()
            sizes[part][depth] += np.square(averages[depth]).sum()
    config = trunk.config.replace(sharing=schedule, depth_lora=None, depth_bias=False)
    reshared = trunk_from(config, lambda name: arrays[name] if name in arrays else old.read(name), trunk)
    before, after = (count_parameters(weight_shapes(t.config).values()) for t in (trunk, reshared))
    distances = {part: tuple(np.sqrt(moved[part] / np.maximum(sizes[part], 1e-30)).tolist()) for part in PARTS}
    movement = tuple(hidden_movement(trunk, reshared, inputs))
    return reshared, ResharingReport(str(schedule), before, after, distances, movement)


def suggest_sharing(trunk: keras.Model, blocks: int = 3) -> list[int]:
    """Say which depths of a trained unshared trunk are most alike.

    Starts from a cluster for each depth and joins, again and again, the two whose joining adds least to the squared
    distances of the weights from the means of their clusters (Ward 1963): what `reshare` would move.

    Arguments:
        trunk: the trunk, or a model on top of one.
        blocks: how many blocks to keep, from 1 to the depth.

    Returns:
        The block of each depth, to pass as `sharing`. Raises `ConfigError` for another number of blocks.

    Examples:
        >>> from bert4albert import build_model, suggest_sharing
        >>> trunk = build_model("albert_tiny_zh", model="albert_unshared")
        >>> for block in trunk.encoder.blocks[2:]:  # as if training had moved these two
        ...     _ = block.intermediate.kernel.assign(1.1 * block.intermediate.kernel)
        >>> suggest_sharing(trunk, blocks=2)
        [0, 0, 1, 1]
    """
    trunk = trunk_of(trunk)
    depth = trunk.config.sharing.depth
    require_whole("blocks", blocks, 1, depth)
    products = np.zeros((depth, depth))
    for _, arrays in depth_weights(weights_of(trunk)):
        flat = np.stack([array.ravel() for array in arrays])
        # Only differences count, and they are small: taken first, they keep their digits.
        flat -= flat.mean(axis=0)
        products += flat @ flat.T
    clusters = [[d] for d in range(depth)]
    while len(clusters) > blocks:
        first, second = min(
            ((i, j) for j in range(len(clusters)) for i in range(j)),
            key=lambda pair: _added_by_joining(products, clusters[pair[0]], clusters[pair[1]]),
        )
        clusters[first] += clusters.pop(second)
    order = sorted(map(sorted, clusters))
    return [next(i for i, cluster in enumerate(order) if d in cluster) for d in range(depth)]


def _added_by_joining(products: np.ndarray, one: list[int], other: list[int]) -> float:
    """Return how much the squared distances from the means grow: n m / (n + m) times that of the two means."""
    signs = np.zeros(len(products))
    signs[one], signs[other] = 1 / len(one), -1 / len(other)
    return float(signs @ products @ signs) * len(one) * len(other) / (len(one) + len(other))


def _inputs(trunk: Trunk, texts: Sequence[Any] | None, tokenizer: Any) -> Sequence[Any] | None:
    if texts is None or not all(isinstance(text, str) for text in texts):
        return texts
    if tokenizer is None:
        raise ConfigError("To measure on texts, reshare needs tokenizer=; or pass token ids and segment ids.")
    return tokenizer.encode_batch(list(texts), maxlen=trunk.config.max_length)
