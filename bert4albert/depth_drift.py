"""How far the depths of a trained trunk have moved apart, and what each of them computes with."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
from keras import ops

from bert4albert.checkpoint.export import Weights
from bert4albert.checkpoint.low_rank import depth_weights, means, require_same_shape, shared_schedule
from bert4albert.checkpoint.names import part_of, weight_shapes
from bert4albert.model import Trunk, trunk_of
from bert4albert.sharing import PARTS
from bert4albert.weights import weights_of

_HELD = 0.9


@dataclass(frozen=True)
class Drift:
    """How far one part of one depth is from where it began.

    Attributes:
        depth: which block application, counted from 0.
        part: which part of it.
        distance: the norm of the difference, as a part of the norm of the start.
        rank: the rank that holds 90 % of the square of the difference, if each kernel of the part is cut to it; 0 where
            nothing has moved; None for norms, which have no kernel.
    """

    depth: int
    part: str
    distance: float
    rank: int | None


def drift(trunk: keras.Model, start: keras.Model | None = None) -> list[Drift]:
    """Say how far each part of each depth is from the start that it shared with other depths.

    Arguments:
        trunk: a trained trunk, or a model on top of one.
        start: the trunk as it was before training. None where it is gone: for depths that add something to the weights
            they use (`depth_lora`, `depth_bias`) the start is those weights, for others the mean of the depths that
            began as one, since it is nearest to all of them.

    Returns:
        For each depth, first to last, one `Drift` for each part. Raises `ConfigError` for a start of another shape.

    Examples:
        >>> from bert4albert import build_model, drift
        >>> sizes = {"vocab_size": 99, "hidden_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4}
        >>> trunk = build_model(sizes)
        >>> trunk.save_weights("start.weights.h5")
        >>> _ = trunk.encoder.blocks[0].attention_norm.gamma.assign([1.5] * 48)  # as if training had moved it
        >>> start = build_model(sizes)
        >>> start.load_weights("start.weights.h5")
        >>> [(found.part, round(found.distance, 2)) for found in drift(trunk, start)]
        [('attention', 0.0), ('attention_norm', 0.5), ('feed_forward', 0.0), ('output_norm', 0.0)]
    """
    trunk = trunk_of(trunk)
    if start is not None:
        require_same_shape(trunk.config, trunk_of(start).config)
    return _measured(weights_of(trunk), _starts(trunk, start))


def remember(trunk: Trunk) -> Weights:
    """Return the weights of a trunk's encoder as they are now, whatever becomes of it."""
    weights = weights_of(trunk)
    values = {
        name: np.array(weights.read(name)) for name in weight_shapes(weights.config) if name.startswith("encoder/")
    }
    return replace(weights, read=values.__getitem__)


def distances(start: Weights, trunk: Trunk) -> dict[str, list[float]]:
    """Return how far the attention and the feed-forward of each depth are from a start: part -> `Drift.distance`s.

    Arguments:
        start: what `remember` returned for the same trunk.
        trunk: the trunk now.
    """
    found = _measured(weights_of(trunk), (arrays for _, arrays in depth_weights(start)), ranks=False)
    return {
        part: [round(moved.distance, 6) for moved in found if moved.part == part]
        for part in ("attention", "feed_forward")
    }


def hidden_movement(before: Trunk, after: Trunk, inputs: Sequence[Any] | None = None) -> list[float]:
    """Say how differently two trunks compute.

    Arguments:
        before: a trunk.
        after: a trunk of the same shape.
        inputs: token ids and segment ids, [batch, length] each; None for made-up ones.

    Returns:
        For each depth the norm of the difference of its hidden states, as a part of the norm of those before.
    """
    inputs = _made_up(before) if inputs is None else inputs
    old, new = (_hidden_states(trunk, inputs) for trunk in (before, after))
    return [float(np.linalg.norm(b - a) / np.linalg.norm(a)) for a, b in zip(old, new, strict=True)]


def _measured(now: Weights, starts: Iterable[list[np.ndarray]], ranks: bool = True) -> list[Drift]:
    """Compare each weight with how it started at each depth; ranks, which take time, are None where not asked for."""
    places = list(itertools.product(range(now.config.sharing.depth), PARTS))
    sizes = dict.fromkeys(places, 0.0)
    moved = dict.fromkeys(places, 0.0)
    squares: dict[tuple[int, str], list[np.ndarray]] = {place: [] for place in places}
    # One kind of weight at a time: of a large model there is never more than that in memory.
    for (name, arrays), begin in zip(depth_weights(now), starts, strict=True):
        for depth, difference in enumerate(a - b for a, b in zip(arrays, begin, strict=True)):
            place = depth, part_of(name)
            sizes[place] += float(np.square(begin[depth]).sum())
            moved[place] += float(np.square(difference).sum())
            if ranks and difference.ndim == 2:
                squares[place].append(_squared_singular_values(difference))
    return [
        Drift(*place, (moved[place] / sizes[place]) ** 0.5 if sizes[place] else 0.0, _rank_held(squares[place]))
        for place in places
    ]


def _starts(trunk: Trunk, start: keras.Model | None) -> Iterator[list[np.ndarray]]:
    if start is not None or trunk.config.has_adapters:
        for _, arrays in depth_weights(weights_of(trunk if start is None else start), adapted=start is not None):
            yield arrays
        return
    schedule = shared_schedule(trunk.config)
    for name, arrays in depth_weights(weights_of(trunk)):
        yield means(arrays, schedule[part_of(name)])


def _squared_singular_values(matrix: np.ndarray) -> np.ndarray:
    """Return them from the largest to the smallest: the eigenvalues of the smaller product of a matrix with itself."""
    product = matrix @ matrix.T if len(matrix) <= matrix.shape[1] else matrix.T @ matrix
    return np.maximum(np.linalg.eigvalsh(product)[::-1], 0)


def _rank_held(squares: list[np.ndarray]) -> int | None:
    """Return the rank at which kernels, each cut to it, still hold most of the sum of their squares."""
    if not squares:
        return None
    held = np.zeros(max(map(len, squares)))
    for values in squares:
        held[: len(values)] += values
    total = held.sum()
    return int(np.searchsorted(np.cumsum(held), _HELD * total)) + 1 if total else 0


def _made_up(trunk: Trunk, rows: int = 4, length: int = 48) -> list[np.ndarray]:
    config = trunk.config
    shape = rows, min(length, config.max_length)
    tokens = np.random.default_rng(0).integers(1, config.vocab_size, shape).astype("int32")
    return [tokens, np.zeros_like(tokens)]


def _hidden_states(trunk: Trunk, inputs: Sequence[Any]) -> list[np.ndarray]:
    needed = trunk.inputs[: 3 if trunk.config.custom_position_ids else 2]
    given = list(inputs)
    if len(given) < len(needed):
        given.append(np.broadcast_to(np.arange(given[0].shape[1], dtype="int32"), given[0].shape))
    states = keras.Model(needed, trunk.hidden_states)(given)
    states = states if isinstance(states, list | tuple) else [states]
    return [np.asarray(ops.convert_to_numpy(ops.cast(state, "float32"))) for state in states]
