"""Reading and writing checkpoints: files, name tables, loading with a report, saving."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bert4albert.checkpoint.folders import find_checkpoint
from bert4albert.checkpoint.formats.arrays import Arrays, NumpyArchive
from bert4albert.checkpoint.formats.pytorch import open_pytorch
from bert4albert.checkpoint.formats.safe_tensors import SafeTensors
from bert4albert.checkpoint.formats.sharded import Sharded
from bert4albert.checkpoint.formats.tensor_file import TensorFile
from bert4albert.checkpoint.formats.tf_bundle import TFBundle
from bert4albert.errors import CheckpointError

_BY_SUFFIX = {
    ".safetensors": SafeTensors,
    ".bin": open_pytorch,
    ".pt": open_pytorch,
    ".pth": open_pytorch,
    ".npz": NumpyArchive,
}


def open_checkpoint(checkpoint: str | os.PathLike[str] | Mapping[str, Any]) -> TensorFile:
    """Open a checkpoint of any supported kind.

    Arguments:
        checkpoint: a `.safetensors`, `.bin` or `.npz` file, the `.index.json` of a sharded one, the prefix of a
            TensorFlow checkpoint (its `.index` and `.data-*` file names work too), a folder that holds one of
            these, or named arrays.

    Returns:
        The open file. Raises `CheckpointError` if there is none or it cannot be read.
    """
    if isinstance(checkpoint, Mapping):
        return Arrays(checkpoint)
    if not isinstance(checkpoint, (str, os.PathLike)):
        kind = type(checkpoint).__name__
        raise CheckpointError(f"checkpoint must be a path or a dict of arrays, not {kind}: {checkpoint!r:.80}.")
    path = Path(checkpoint)
    if os.path.isdir(path):
        path = find_checkpoint(path)
    if path.name.endswith(".index.json"):
        return Sharded(path, _open_file)
    return _open_file(path)


def _open_file(path: Path) -> TensorFile:
    if path.suffix in _BY_SUFFIX:
        return _BY_SUFFIX[path.suffix](path)
    return TFBundle(path.with_name(path.name.removesuffix(".index").split(".data-")[0]))
