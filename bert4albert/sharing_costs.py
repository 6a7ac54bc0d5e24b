"""describe_sharing: what points between shared and unshared cost, before anything is built."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bert4albert.checkpoint.names import count_parameters, head_of, is_adapter, weight_shapes
from bert4albert.checkpoint.resolve import open_source, resolve
from bert4albert.config import ModelConfig
from bert4albert.errors import ConfigError, did_you_mean
from bert4albert.sharing import PARTS

_FLOAT = 4  # bytes; the weights of mixed precision are float32 too
_KEYWORDS = ("sharing", "depth_lora", "depth_bias", "freeze_base")
POINTS: tuple[Any, ...] = (
    "shared",
    {"depth_lora": 8, "freeze_base": True},
    {"depth_lora": 8},
    {"norm": "unshared"},
    {"attention": "unshared"},
    {"feed_forward": "unshared"},
    "unshared",
)


@dataclass(frozen=True)
class SharingCost:
    """What training one point between shared and unshared takes.

    Attributes:
        spec: the point as it was given.
        sharing: its schedule, in words.
        parameters, trainable: how many numbers the model has, and how many of them are trained.
        weights, gradients, optimizer: bytes in float32 of all weights, of the gradients, and of the two moments that
            AdamW keeps for each trained number.
    """

    spec: Any
    sharing: str
    parameters: int
    trainable: int

    @property
    def weights(self) -> int:
        """Bytes of all weights."""
        return _FLOAT * self.parameters

    @property
    def gradients(self) -> int:
        """Bytes of the gradients."""
        return _FLOAT * self.trainable

    @property
    def optimizer(self) -> int:
        """Bytes of what AdamW keeps."""
        return 2 * _FLOAT * self.trainable

    @property
    def total(self) -> int:
        """Bytes of weights, gradients and AdamW's state together; activations come on top."""
        return self.weights + self.gradients + self.optimizer

    def as_json(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        sizes = {key: getattr(self, key) for key in ("weights", "gradients", "optimizer", "total")}
        return {**dataclasses.asdict(self), **sizes}


def describe_sharing(
    config: str | os.PathLike[str] | Mapping[str, Any] | ModelConfig, specs: Sequence[Any] = POINTS
) -> list[SharingCost]:
    """Say what points between shared and unshared cost, from the config alone.

    Arguments:
        config: what `build_model` takes as config, or a `ModelConfig`.
        specs: the points: each what `build_model` takes as `sharing`, or a dictionary of its keywords `sharing`,
            `depth_lora` and `depth_bias`, with `freeze_base=True` where only what they add is trained.

    Returns:
        One `SharingCost` for each point. Raises `ConfigError` for a config or a point that cannot be used.

    Examples:
        >>> from bert4albert import describe_sharing
        >>> shared, unshared = describe_sharing("albert_tiny_zh", ["shared", "unshared"])
        >>> print(unshared.sharing)
        4 block applications, each with a block of its own
        >>> shared.total < unshared.total
        True
    """
    if isinstance(specs, str) or not isinstance(specs, Sequence):
        raise ConfigError(f"specs must be a list of points, such as ['shared', 'unshared'], not {specs!r:.80}.")
    base = config if isinstance(config, ModelConfig) else resolve(open_source(config, None))[0]
    return [_cost(base, spec) for spec in specs]


def _cost(base: ModelConfig, spec: Any) -> SharingCost:
    point = _keywords(spec)
    frozen = point.pop("freeze_base", False)
    config = ModelConfig.from_dict(base.to_dict(), "the config", **point)
    if frozen and not config.has_adapters:
        raise ConfigError(f"{spec!r:.80} freezes the base and adds nothing; give it a depth_lora or depth_bias too.")
    shapes = weight_shapes(config)
    trained = (shape for name, shape in shapes.items() if not frozen or is_adapter(name) or head_of(name))
    return SharingCost(spec, _words(config), count_parameters(shapes.values()), count_parameters(trained))


def _keywords(spec: Any) -> dict[str, Any]:
    """Return the keywords of `build_model` that a point means."""
    if not isinstance(spec, Mapping) or set(spec) <= {*PARTS, "norm"}:
        return {"sharing": spec}
    for key in spec:
        if key not in _KEYWORDS:
            hint = did_you_mean(str(key), (*_KEYWORDS, *PARTS, "norm"))
            raise ConfigError(f"A point has no {key!r:.80}; it takes parts, or {', '.join(_KEYWORDS)}.{hint}")
    return dict(spec)


def _words(config: ModelConfig) -> str:
    added = [f"rank {config.depth_lora.rank} a depth"] if config.depth_lora is not None else []
    return "; ".join([str(config.sharing), *added, *(["offsets a depth"] if config.depth_bias else [])])
