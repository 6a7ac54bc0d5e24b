"""What every kind of checkpoint file offers: names, shapes, and one tensor at a time."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bert4albert.errors import CheckpointError


@dataclass(frozen=True)
class TensorInfo:
    """Where a tensor lies in its file and how to read it; `dtype` is NumPy's name, or 'bfloat16'."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        """Bytes that the tensor takes in the file."""
        return math.prod(self.shape) * (2 if self.dtype == "bfloat16" else np.dtype(self.dtype).itemsize)


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
        if array.dtype.kind == "f" and not _all_finite(array):
            raise CheckpointError(
                f"{self.path}: the tensor {name} holds NaN or infinite values; the file is damaged or its "
                "training diverged, use another checkpoint."
            )
        return array


def decode(data: bytes | bytearray | memoryview, dtype: str) -> np.ndarray:
    """Turn little-endian bytes into an array, half precision widened to float32."""
    if dtype == "bfloat16":
        return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
    array = np.frombuffer(data, np.dtype(dtype).newbyteorder("<"))
    return array.astype(np.float32) if dtype == "float16" else array


def _all_finite(array: np.ndarray) -> bool:
    # The sum is finite unless some value is not, or it overflows; only then look at every value.
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(array.sum())) or bool(np.isfinite(array).all())
