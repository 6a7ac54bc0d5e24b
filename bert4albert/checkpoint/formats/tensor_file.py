"""What every kind of checkpoint file offers: names, shapes, and one tensor at a time."""

from __future__ import annotations

import math
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bert4albert.errors import CheckpointError
from bert4albert.plain_files import open_regular, read_small

FLOATS = ("float16", "bfloat16", "float32", "float64")


class DamagedError(Exception):
    """The bytes do not follow their format; readers turn it into a `CheckpointError` that names the file."""


@dataclass(frozen=True)
class TensorInfo:
    """What a tensor is; `dtype` is NumPy's name, or 'bfloat16', or 'string' (which cannot be read)."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        """Bytes that the tensor takes in the file."""
        return math.prod(self.shape) * item_size(self.dtype)


class TensorFile(ABC):
    """A checkpoint: named tensors that are read one at a time.

    Attributes:
        path: what to call the file in messages.
        tensors: name -> `TensorInfo`, in the file's order.
    """

    path: Path | str
    tensors: Mapping[str, TensorInfo]

    @abstractmethod
    def read_bytes(self, name: str) -> bytes | bytearray | memoryview:
        """Return the little-endian bytes of one tensor. Raises `CheckpointError` if they cannot be had."""

    def read(self, name: str) -> np.ndarray:
        """Return one tensor as float32 (float64 stays, integers stay).

        Arguments:
            name: a key of `tensors`.

        Returns:
            The array. Raises `CheckpointError` for a tensor that is cut short or has values that are not finite.
        """
        info = self.tensors[name]
        data = self.read_bytes(name)
        if len(data) != info.num_bytes:
            raise CheckpointError(
                f"{self.path}: the tensor {name} should have {info.num_bytes} bytes and has {len(data)}; "
                "the file is cut short or damaged, copy or download it again."
            )
        array = decode(data, info.dtype).reshape(info.shape)
        if array.dtype.kind == "f" and not all_finite(array):
            raise CheckpointError(
                f"{self.path}: the tensor {name} holds NaN or infinite values; the file is damaged or its "
                "training diverged, use another checkpoint."
            )
        return array


def item_size(dtype: str) -> int:
    """Return the bytes that one number takes."""
    return 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize


def decode(data: bytes | bytearray | memoryview, dtype: str) -> np.ndarray:
    """Turn little-endian bytes into an array, half precision widened to float32."""
    if dtype == "bfloat16":
        return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
    array = np.frombuffer(data, np.dtype(dtype).newbyteorder("<"))
    return array.astype(np.float32) if dtype == "float16" else array


def read_slice(path: Path, offset: int, size: int, name: str) -> bytes:
    """Return `size` bytes of a file from `offset` on, the place of the tensor `name`."""
    try:
        with open_regular(path) as file:
            # Asked before reading, so that a damaged size cannot ask for memory.
            if offset + size > os.fstat(file.fileno()).st_size:
                raise CheckpointError(f"{path} is cut short at the tensor {name}; copy or download it again.")
            file.seek(offset)
            return file.read(size)
    except OSError as error:
        raise CheckpointError(f"{path}, which holds {name}, cannot be read ({error.strerror}).") from error


def read_start(path: Path, size: int) -> bytes:
    """Return the first `size` bytes of a file, or all of a shorter one."""
    try:
        with open_regular(path) as file:
            return file.read(size)
    except OSError as error:
        reason = error.strerror or error
        raise CheckpointError(f"{path} cannot be read ({reason}); pass the path of a checkpoint.") from error


def read_whole(path: Path, most: int) -> bytes:
    """Return the bytes of a small file. Raises `CheckpointError` if it has more than `most`."""
    try:
        return read_small(path, most)
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read ({error.strerror or error}); pass the path of a checkpoint."
        ) from error
    except ValueError as error:
        raise CheckpointError(f"{path} is not what its name says: {error}.") from None


def all_finite(array: np.ndarray) -> bool:
    """Return whether no value is NaN or infinite."""
    # The sum is finite unless some value is not, or it overflows; only then look at every value.
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(array.sum())) or bool(np.isfinite(array).all())
