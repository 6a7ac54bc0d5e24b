"""Reading and writing checkpoints: files, name tables, loading with a report."""

from __future__ import annotations

import os

from bert4albert.checkpoint.files import TensorFile
from bert4albert.checkpoint.tf_bundle import TFBundle


def open_checkpoint(path: str | os.PathLike[str]) -> TensorFile:
    """Open a checkpoint of any supported kind.

    Arguments:
        path: the prefix of a TensorFlow checkpoint (its `.index` and `.data-*` file names work too).

    Returns:
        The open file. Raises `CheckpointError` if there is none or it cannot be read.
    """
    name = os.fspath(path)
    if name.endswith(".index"):
        name = name[: -len(".index")]
    return TFBundle(name.split(".data-")[0])
