"""A classifier or tagger from a folder of transformers: the trunk, the tokenizer and the head."""

from __future__ import annotations

import os
from dataclasses import replace

from bert4albert.build import build_model
from bert4albert.checkpoint.resolve import open_source
from bert4albert.checkpoint.task_head import SEQUENCE, TaskHead, read_head
from bert4albert.errors import CheckpointError
from bert4albert.model import Trunk
from bert4albert.text import Tokenizer


def read_folder(folder: str | os.PathLike[str], kind: str, maxlen: int) -> tuple[Trunk, Tokenizer, TaskHead]:
    """Return what a Hugging Face folder with one head holds.

    Arguments:
        folder: the folder: config.json, weights, tokenizer.
        kind: `checkpoint.task_head.SEQUENCE` or `TOKEN`.
        maxlen: the most tokens of a text; fewer where the model has fewer positions.

    Returns:
        The trunk (with the pooler where the head stands on it), the tokenizer and the head. Raises `CheckpointError`
        where there is no such head or more than one.
    """
    if not os.path.isdir(folder):
        raise CheckpointError(f"{folder} is no folder: give the one that save_pretrained wrote.")
    head = read_head(open_source(folder), kind, maxlen)
    trunk = build_model(folder, with_pool=kind == SEQUENCE, ignore=tuple(head.tensors))
    if trunk.config.hidden_size != len(head.kernel):
        raise CheckpointError(
            f"The classifier in {folder} reads {len(head.kernel)} numbers and the model gives "
            f"{trunk.config.hidden_size}: is the config that of this checkpoint?"
        )
    # Nobody who has not chosen a length needs to know how many positions the model has.
    return trunk, Tokenizer(folder), replace(head, maxlen=min(maxlen, trunk.config.max_length))
