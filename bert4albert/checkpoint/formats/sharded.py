"""A checkpoint in several files, with an index that says which tensor is in which."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

from bert4albert.checkpoint.formats.tensor_file import TensorFile, read_whole
from bert4albert.errors import CheckpointError

_MOST_INDEX_BYTES = 3 * 2**20


class Sharded(TensorFile):
    """The files that a `*.index.json` names, as one.

    Arguments:
        path: the index, as transformers writes it: {"weight_map": {tensor: file name}}.
        open_file: opens one of the files.

    Raises `CheckpointError` if the index is damaged, points outside its folder, or does not fit the files.
    """

    def __init__(self, path: str | os.PathLike[str], open_file: Callable[[Path], TensorFile]) -> None:
        self.path = index = Path(path)
        places = _places(index)
        shards = {name: open_file(index.with_name(name)) for name in dict.fromkeys(places.values())}
        self._shard_of: dict[str, TensorFile] = {}
        for file_name, shard in shards.items():
            for tensor in shard.tensors:
                if places.get(tensor) != file_name:
                    raise CheckpointError(
                        f"{shard.path} holds the tensor {tensor}, which {index.name} places in "
                        f"{places.get(tensor, 'no file')}; the files do not belong together, download them again."
                    )
                self._shard_of[tensor] = shard
        for tensor, file_name in places.items():
            if tensor not in self._shard_of:
                raise CheckpointError(
                    f"{self.path} places the tensor {tensor} in {file_name}, which lacks it; download the files again."
                )
        self.tensors = {tensor: shard.tensors[tensor] for tensor, shard in self._shard_of.items()}

    def read_bytes(self, name: str) -> bytes | bytearray | memoryview:
        """Return the bytes of one tensor."""
        return self._shard_of[name].read_bytes(name)


def _places(index: Path) -> dict[str, str]:
    """Return which file beside the index holds each tensor."""
    data = read_whole(index, _MOST_INDEX_BYTES)
    try:
        places = json.loads(data)["weight_map"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise CheckpointError(f"{index} is not an index of sharded tensors ({error!r:.100}).") from error
    if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
        raise CheckpointError(f"{index} is not an index of sharded tensors: weight_map maps names to files.")
    for tensor, name in places.items():
        if name in ("", ".", "..") or set(name) & set("/\\\0"):
            raise CheckpointError(
                f"{index} places the tensor {tensor} in {name!r:.100}, which is not a file beside it; "
                "an index may only name files of its own folder."
            )
    return places
