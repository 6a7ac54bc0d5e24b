"""Safetensors files, read and written without a library: a length, a JSON header, the numbers.

Format: https://github.com/huggingface/safetensors#format. The numbers follow the header in one piece, without
holes, so that a header that says anything else is damaged.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bert4albert.checkpoint.formats.tensor_file import DamagedError, TensorFile, TensorInfo, item_size, read_slice
from bert4albert.errors import CheckpointError
from bert4albert.plain_files import open_regular

_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}
# The header of the deepest model that a config may describe takes this; a longer one is damage or an attack.
_MOST_HEADER_BYTES = 3 * 2**20


@dataclass(frozen=True)
class _Entry(TensorInfo):
    offset: int = 0


class SafeTensors(TensorFile):
    """One safetensors file.

    Arguments:
        path: the file.

    Raises `CheckpointError` if it is missing or damaged.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = self._file = Path(path)
        try:
            with open_regular(self._file) as file:
                self.tensors = _entries(file.read(8), file.read, os.fstat(file.fileno()).st_size)
        except OSError as error:
            raise CheckpointError(f"{self.path} cannot be read ({error.strerror}); pass a safetensors file.") from error
        except (DamagedError, ValueError, RecursionError) as error:
            raise CheckpointError(
                f"{self.path} is not a readable safetensors file ({error}); copy or download it again."
            ) from error

    def read_bytes(self, name: str) -> bytes:
        """Return the bytes of one tensor."""
        entry = self.tensors[name]
        assert isinstance(entry, _Entry)
        return read_slice(self._file, entry.offset, entry.num_bytes, name)


def write_safe_tensors(
    path: Path, shapes: Mapping[str, tuple[int, ...]], dtype: str, read: Callable[[str], np.ndarray]
) -> None:
    """Write tensors one at a time.

    Arguments:
        path: the file to write.
        shapes: name -> shape, in the order to write.
        dtype: 'float32' or 'float64', for all of them.
        read: returns the tensor of a name.
    """
    spelled = next(key for key, value in _DTYPES.items() if value == dtype)
    # Source: transformers refuses a file whose metadata does not name the framework.
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        begin, end = end, end + math.prod(shape) * item_size(dtype)
        header[name] = {"dtype": spelled, "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in shapes:
            file.write(np.ascontiguousarray(read(name), np.dtype(dtype).newbyteorder("<")).data)


def _entries(length: bytes, read: Callable[[int], bytes], file_size: int) -> dict[str, TensorInfo]:
    size = int.from_bytes(length, "little")
    if len(length) < 8 or 8 + size > file_size:
        raise DamagedError("it is cut short")
    if size > _MOST_HEADER_BYTES:
        raise DamagedError(f"its header claims {size} bytes")
    header = json.loads(read(size), object_pairs_hook=_without_duplicates)
    if not isinstance(header, dict):
        raise DamagedError("its header is not a JSON object")
    header.pop("__metadata__", None)
    start, end = 8 + size, 0
    entries: dict[str, TensorInfo] = {}
    for name, (begin, stop, dtype, shape) in sorted(
        ((name, _fields(name, value)) for name, value in header.items()), key=lambda item: item[1][:2]
    ):
        if begin != end or stop - begin != math.prod(shape) * item_size(dtype):
            raise DamagedError(f"the bytes of {name} are not where its shape says")
        entries[name], end = _Entry(dtype, shape, start + begin), stop
    if start + end != file_size:
        raise DamagedError(f"it has {file_size} bytes and its header describes {start + end}")
    return entries


def _fields(name: str, value: Any) -> tuple[int, int, str, tuple[int, ...]]:
    if not isinstance(value, dict) or value.keys() != {"dtype", "shape", "data_offsets"}:
        raise DamagedError(f"its header describes {name} as {value!r:.60}")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not (_are_sizes(shape) and _are_sizes(offsets) and len(offsets) == 2):
        raise DamagedError(f"its header gives {name} shape {shape!r:.60} at {offsets!r:.60}")
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise DamagedError(f"{name} has dtype {dtype!r:.20}, which is not one of {', '.join(_DTYPES)}")
    return offsets[0], offsets[1], _DTYPES[dtype], tuple(shape)


def _are_sizes(values: Any) -> bool:
    return isinstance(values, list) and all(type(v) is int and 0 <= v < 2**48 for v in values) and len(values) < 9


def _without_duplicates(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise DamagedError(f"its header has {key!r:.80} twice")
        found[key] = value
    return found
