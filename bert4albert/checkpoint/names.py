"""Every weight of a model by canonical name, with its shape, without building the model."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

from bert4albert.config import ModelConfig

Shape = tuple[int, ...]


def weight_shapes(config: ModelConfig) -> dict[str, Shape]:
    """Return the shape of every weight of the model that `config` describes.

    Arguments:
        config: the model's config.

    Returns:
        Canonical name -> shape; the same names as `Trunk.named_weights`.
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
        shapes |= {f"encoder/block_{block}/{name}": shape for name, shape in block_shapes(config).items()}
    if config.with_pool:
        shapes |= _dense("pooler/dense", hidden, hidden)
    if config.with_nsp:
        shapes |= _dense("sentence/dense", hidden, 2)
    if config.with_mlm:
        shapes |= _dense("masked_lm_transform/dense", hidden, size)
        shapes |= _norm("masked_lm_transform/norm", size)
        shapes["masked_lm/bias"] = (config.vocab_size,)
    return shapes


def block_shapes(config: ModelConfig) -> dict[str, Shape]:
    """Return the shape of every weight of one block, by its name inside the block."""
    hidden, intermediate = config.hidden_size, config.intermediate_size
    shapes: dict[str, Shape] = {}
    for name in ("query", "key", "value", "output"):
        shapes |= _dense(f"attention/{name}", hidden, hidden)
    shapes |= _norm("attention_norm", hidden)
    shapes |= _dense("intermediate", hidden, intermediate)
    shapes |= _dense("output", intermediate, hidden)
    return shapes | _norm("output_norm", hidden)


def in_other_block(weight: str, blocks: Sequence[int]) -> str:
    """Return the name of a block's weight in block `blocks[b]`, b its own; other names stay as they are."""
    match = re.match(r"encoder/block_(\d+)/", weight)
    return weight if match is None else f"encoder/block_{blocks[int(match[1])]}/{weight[match.end() :]}"


def count_parameters(shapes: Iterable[Shape]) -> int:
    """Return the number of numbers in weights of these shapes."""
    return sum(math.prod(shape) for shape in shapes)


def _dense(name: str, rows: int, columns: int) -> dict[str, Shape]:
    return {f"{name}/kernel": (rows, columns), f"{name}/bias": (columns,)}


def _norm(name: str, size: int) -> dict[str, Shape]:
    return {f"{name}/gamma": (size,), f"{name}/beta": (size,)}
