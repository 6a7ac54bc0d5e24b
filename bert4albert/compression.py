"""compress_depths: an unshared trunk as one shared block, and a small low-rank update for each depth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import keras

from bert4albert.checkpoint.low_rank import compressed
from bert4albert.checkpoint.names import Shape, block_shapes, count_parameters, weight_shapes
from bert4albert.depth_drift import hidden_movement
from bert4albert.errors import ConfigError
from bert4albert.model import Trunk, trunk_of
from bert4albert.weights import trunk_from, weights_of


@dataclass(frozen=True)
class CompressionReport:
    """What compressing a trunk saved, and what it changed.

    Attributes:
        rank: of the update of each kernel at each depth.
        parameters_before, parameters_after: of the encoder.
        bytes_before, bytes_after: of all weights of the trunk in float32.
        block_parameters: of one block.
        blocks: parameters_after in blocks.
        error: what the updates leave out, as a part of how far the depths were from what they share: norms of kernels.
        hidden_drift: for each depth, how far its hidden states have moved, as a part of their norm.
        answers_kept: the part of the given texts with the same answer, from 0 to 1; None without texts.
        metrics_before, metrics_after: those of the given examples; empty without examples.
    """

    rank: int
    parameters_before: int
    parameters_after: int
    bytes_before: int
    bytes_after: int
    block_parameters: int
    error: float
    hidden_drift: tuple[float, ...]
    answers_kept: float | None = None
    metrics_before: dict[str, float] | None = None
    metrics_after: dict[str, float] | None = None

    @property
    def blocks(self) -> float:
        """How many blocks the encoder weighs now."""
        return self.parameters_after / self.block_parameters

    def __str__(self) -> str:
        lines = [
            f"rank {self.rank}: {self.parameters_before:,} parameters of the encoder became {self.parameters_after:,}, "
            f"{self.blocks:.2f} blocks; the model takes {self.bytes_after / 1e6:.1f} MB instead of "
            f"{self.bytes_before / 1e6:.1f} MB",
            f"hidden states moved by {self.hidden_drift[-1]:.2%} after the last depth",
        ]
        if self.answers_kept is not None:
            lines.append(f"{self.answers_kept:.2%} of the answers are the same")
        for name, value in (self.metrics_before or {}).items():
            lines.append(f"{name} {value:.4f} -> {(self.metrics_after or {})[name]:.4f}")
        return "\n".join(lines)


def compress_depths(
    trunk: keras.Model, rank: int = 8, pretrained: keras.Model | None = None
) -> tuple[Trunk, CompressionReport]:
    """Write each depth of a trained unshared trunk as what the depths share plus a low-rank update.

    What is shared is the mean of the depths that began as one block, or the block they began as, if it is given and
    leaves less; what is left of each kernel is cut to its largest singular values (Eckart and Young 1936), the form of
    `depth_lora` (arXiv:2410.20672). Biases and norms keep their values (`depth_bias`). No training, no data; at full
    rank the result computes the same.

    Arguments:
        trunk: an unshared trunk, or a model on top of one; it stays as it is.
        rank: the rank of each update, 1 or more.
        pretrained: the trunk before training, shared or not.

    Returns:
        (a new trunk, a `CompressionReport`). Raises `ConfigError` for a rank that is no whole number of 1 or more, and
        for a pretrained trunk of another shape.

    Examples:
        >>> from bert4albert import build_model, compress_depths
        >>> sizes = {"vocab_size": 99, "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
        >>> small, report = compress_depths(build_model(sizes), rank=2)
        >>> small.config.depth_lora.rank, report.parameters_after < report.parameters_before
        (2, True)
    """
    trunk = trunk_of(trunk)
    if isinstance(rank, str):
        raise ConfigError(f"rank={rank!r:.40} is a share of answers, which takes a task: use task.compress(rank=...).")
    small, error = compressed(weights_of(trunk), rank, None if pretrained is None else weights_of(pretrained))
    new = trunk_from(small.config, small.read, trunk)
    lora = new.config.depth_lora
    assert lora is not None
    before, after = weight_shapes(trunk.config), weight_shapes(new.config)
    report = CompressionReport(
        lora.rank,
        parameters_before=_in_encoder(before),
        parameters_after=_in_encoder(after),
        bytes_before=4 * count_parameters(before.values()),
        bytes_after=4 * count_parameters(after.values()),
        block_parameters=count_parameters(block_shapes(trunk.config).values()),
        error=error,
        hidden_drift=tuple(hidden_movement(trunk, new)),
    )
    return new, report


def _in_encoder(shapes: Mapping[str, Shape]) -> int:
    return count_parameters(shape for name, shape in shapes.items() if name.startswith("encoder/"))
