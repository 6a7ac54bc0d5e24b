"""Every weight of a model by canonical name, with its shape, without building the model."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping

from bert4albert.config import HEADS, Head, ModelConfig
from bert4albert.sharing import Schedule

Shape = tuple[int, ...]

# The part of a block that each of its layers belongs to.
PART_OF_LAYER = {
    "attention": "attention",
    "attention_norm": "attention_norm",
    "intermediate": "feed_forward",
    "output": "feed_forward",
    "output_norm": "output_norm",
}

_IN_BLOCK = re.compile(r"encoder/block_(\d+)/(.+)")


def weight_shapes(config: ModelConfig) -> dict[str, Shape]:
    """Return the shape of every weight of the model that `config` describes.

    Arguments:
        config: the model's config.

    Returns:
        Canonical name -> shape; the same names as `Trunk.named_weights`. In `encoder/block_{i}/...` i counts
        the copies of the part that the weight belongs to.
    """
    hidden, size = config.hidden_size, config.embedding_sum_size
    shapes: dict[str, Shape] = {
        "embeddings/word/embeddings": (config.vocab_size, config.embedding_size),
        "embeddings/segment/embeddings": (config.type_vocab_size, size),
        "embeddings/position/embeddings": (config.max_position_embeddings, size),
        **_norm("embeddings/norm", size),
    }
    if config.projected_words:
        shapes["embeddings/projection/kernel"] = (config.embedding_size, size)
    if config.embedding_mapping:
        shapes |= _dense("embeddings/mapping", size, hidden)
    for block in range(config.num_blocks):
        shapes |= {f"encoder/block_{block}/{name}": shape for name, shape in block_shapes(config, block).items()}
    for depth in range(config.sharing.depth):
        shapes |= {f"encoder/depth_{depth}/{name}": shape for name, shape in adapter_shapes(config).items()}
    heads: dict[str, Shape] = {
        **_dense("pooler/dense", hidden, hidden),
        **_dense("sentence/dense", hidden, 2),
        **_dense("masked_lm_transform/dense", hidden, size),
        **_norm("masked_lm_transform/norm", size),
        "masked_lm/bias": (config.vocab_size,),
    }
    asked = [weight for head in HEADS.values() if getattr(config, head.key) for weight in head.weights]
    return shapes | {weight: heads[weight] for weight in asked}


def block_shapes(config: ModelConfig, block: int = 0) -> dict[str, Shape]:
    """Return the shape of every weight of one block, by its name inside the block, in the order of computation.

    Arguments:
        config: the model's config.
        block: which one; parts that have fewer copies are not in it.
    """
    hidden, intermediate = config.hidden_size, config.intermediate_size
    shapes: dict[str, Shape] = {}
    for name in ("query", "key", "value", "output"):
        shapes |= _dense(f"attention/{name}", hidden, hidden)
    shapes |= _norm("attention_norm", hidden)
    shapes |= _dense("intermediate", hidden, intermediate)
    shapes |= _dense("output", intermediate, hidden)
    shapes |= _norm("output_norm", hidden)
    return {name: shape for name, shape in shapes.items() if block < config.sharing.num_copies(part_of(name))}


def adapter_shapes(config: ModelConfig) -> dict[str, Shape]:
    """Return the shape of what one depth adds to the weights it uses: `lora_a` and `lora_b` for a kernel, and
    offsets under the name of the bias, gamma or beta that they move.
    """
    shapes: dict[str, Shape] = {}
    for name, shape in block_shapes(config).items():
        layer, _, kind = name.rpartition("/")
        if kind != "kernel":
            shapes |= {name: shape} if config.depth_bias else {}
        elif config.depth_lora is not None and part_of(name) in config.depth_lora.parts:
            rank = config.depth_lora.rank
            shapes |= {f"{layer}/lora_a": (shape[0], rank), f"{layer}/lora_b": (rank, shape[1])}
    return shapes


def head_of(weight: str) -> Head | None:
    """Return the head that a weight belongs to, None for a weight of the trunk."""
    return next((head for head in HEADS.values() if weight in head.weights), None)


def is_adapter(weight: str) -> bool:
    """Whether a weight is what a depth adds to those it uses; without it the depth adds nothing."""
    return weight.startswith("encoder/depth_")


def part_of(name: str) -> str:
    """Return the part of a block that a weight belongs to, by its name inside the block."""
    return PART_OF_LAYER[name.split("/")[0]]


def in_block(name: str) -> tuple[int, str] | None:
    """Return the copy that a weight or layer belongs to and its name inside the block; None outside the blocks."""
    match = _IN_BLOCK.fullmatch(name)
    return None if match is None else (int(match[1]), match[2])


def in_copies(weight: str, sources: Mapping[str, list[list[int]]]) -> list[str]:
    """Return the names of the weights that one stands for.

    Arguments:
        weight: a canonical name.
        sources: `Schedule.sources`: for each part and each copy the copies it stands for.

    Returns:
        The name in each of those copies; a weight outside the blocks stands for itself.
    """
    place = in_block(weight)
    if place is None:
        return [weight]
    copy, name = place
    return [f"encoder/block_{source}/{name}" for source in sources[part_of(name)][copy]]


def depths_of(weight: str, sharing: Schedule) -> list[int]:
    """Return the depths at which a weight of the encoder is used: many for a shared one, one for what a depth adds."""
    if is_adapter(weight):
        return [int(weight.split("/")[1].removeprefix("depth_"))]
    place = in_block(weight)
    return [] if place is None else sharing.depths(part_of(place[1]), place[0])


def count_parameters(shapes: Iterable[Shape]) -> int:
    """Return the number of numbers in weights of these shapes."""
    return sum(math.prod(shape) for shape in shapes)


def _dense(name: str, rows: int, columns: int) -> dict[str, Shape]:
    return {f"{name}/kernel": (rows, columns), f"{name}/bias": (columns,)}


def _norm(name: str, size: int) -> dict[str, Shape]:
    return {f"{name}/gamma": (size,), f"{name}/beta": (size,)}
