"""Named arrays: a dict in memory, or an `.npz` file."""

from __future__ import annotations

import io
import os
import tokenize
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bert4albert.checkpoint.formats.tensor_file import TensorFile, TensorInfo
from bert4albert.checkpoint.formats.zipped import Zipped
from bert4albert.errors import CheckpointError

# What Python's parser raises, to which NumPy gives a header.
HEADER_FAILURES = (SyntaxError, TypeError, RecursionError, MemoryError, tokenize.TokenError)
_MAGIC = np.lib.format.magic(1, 0)
_MOST_HEADER_BYTES = 10_000  # which is where NumPy stops trusting one


class Arrays(TensorFile):
    """Arrays in memory.

    Arguments:
        arrays: name -> array, in the names of any dialect.
        path: what to call them in messages.
    """

    def __init__(self, arrays: Mapping[str, Any], path: Path | str = "the given dict") -> None:
        self.path = path
        self._arrays: dict[str, np.ndarray] = {}
        for name, values in arrays.items():
            try:
                self._arrays[str(name)] = _as_array(values)
            except (TypeError, ValueError, RuntimeError, AttributeError) as error:
                raise CheckpointError(f"{path}: {name!r} is not an array ({error}); pass NumPy arrays.") from error
        self.tensors = {name: TensorInfo(_dtype_name(array.dtype), array.shape) for name, array in self._arrays.items()}

    def read_bytes(self, name: str) -> bytes:
        """Return the bytes of one array."""
        array = self._arrays[name]
        return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


class NumpyArchive(TensorFile):
    """An `.npz` file, read one array at a time and never unpickled.

    Arguments:
        path: the file.

    Raises `CheckpointError` if it is missing or damaged.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._archive = Zipped(self.path, "NumPy .npz")
        self.tensors = {}
        self._members: dict[str, str] = {}
        self._in_columns = set()
        for member in self._archive.sizes:
            name = member.removesuffix(".npy")
            if name in self.tensors:
                raise CheckpointError(f"{path} holds {name:.200} twice; copy or download it again.")
            with self._archive.open(member) as file:
                shape, in_columns, dtype, begin = _header(file)
            info = TensorInfo(_dtype_name(dtype), shape)
            if info.dtype != "string" and begin + info.num_bytes != self._archive.sizes[member]:
                raise CheckpointError(f"{path}: {name:.200} has not the bytes that its shape {shape} asks for.")
            self._members[name] = member
            self.tensors[name] = info
            if in_columns:
                self._in_columns.add(name)

    def read_bytes(self, name: str) -> bytes:
        """Return the bytes of one array."""
        info = self.tensors[name]
        with self._archive.open(self._members[name]) as file:
            _header(file)
            data = file.read()
        if name in self._in_columns and len(data) == info.num_bytes:
            data = np.frombuffer(data, info.dtype).reshape(info.shape, order="F").tobytes()
        return data


def write_arrays(
    path: Path, shapes: Mapping[str, tuple[int, ...]], dtype: str, read: Callable[[str], np.ndarray]
) -> None:
    """Write an `.npz` file that `numpy.load` reads, one array at a time.

    Arguments:
        path: the file to write.
        shapes: name -> shape.
        dtype: 'float32' or 'float64', for all of them.
        read: returns the array of a name.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name in shapes:
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.ascontiguousarray(read(name), dtype), allow_pickle=False)


def _as_array(values: Any) -> np.ndarray:
    # NumPy has no bfloat16 of its own, so that PyTorch gives none.
    return np.asarray(values.float() if str(getattr(values, "dtype", "")) == "torch.bfloat16" else values)


def _header(file: Any) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    """Return shape, order, dtype, and where the numbers begin."""
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"an array has format version {version}")
    # NumPy reads a header of any length before it looks at it.
    length = file.read(2 if version == (1, 0) else 4)
    size = int.from_bytes(length, "little")
    if size > _MOST_HEADER_BYTES:
        raise ValueError(f"an array has a header of {size:,} bytes")
    header = io.BytesIO(length + file.read(size))
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    try:
        shape, in_columns, dtype = read(header)
    except HEADER_FAILURES as error:
        raise ValueError(f"an array has a header that is none ({error!r:.80})") from None
    if dtype.byteorder == ">" or any(size < 0 for size in shape):
        raise ValueError("an array is big-endian, or has a negative size")
    return shape, in_columns, dtype, len(_MAGIC) + len(length) + size


def _dtype_name(dtype: np.dtype) -> str:
    return dtype.name if dtype.kind in "fiub" or dtype.name == "bfloat16" else "string"
