"""Keras' `.weights.h5` files, looked at before Keras reads them: what they hold, and that it is there and finite."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from bert4albert.checkpoint.formats.tensor_file import DamagedError, all_finite
from bert4albert.errors import DataError
from bert4albert.plain_files import open_regular

_MOST_NODES = 2**16
_DEEPEST = 64


def count_numbers(path: Path) -> int:
    """Return how many numbers a file of weights holds, all of them read and found finite.

    Arguments:
        path: the file.

    Returns:
        The count. Raises `DataError` for a file that is damaged, that claims more than it holds, that points outside
        itself, or whose weights are NaN or infinite.
    """
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
        with h5py.File(path, "r") as root:
            return _checked(root, size)
    except DamagedError as error:
        raise DataError(f"{path} does not hold this task's weights: {error}; save the task again.") from None
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, OverflowError, MemoryError) as error:
        raise DataError(f"{path} does not hold this task's weights ({error}); save the task again.") from None


def _checked(root: h5py.File, size: int) -> int:
    datasets = dict(_datasets(root))
    # Before any is read, since reading takes the memory that is claimed.
    for name, dataset in datasets.items():
        if dataset.external or dataset.is_virtual:
            raise DamagedError(f"the numbers of {name} lie outside the file")
        if dataset.id.get_storage_size() != _num_bytes(dataset):
            raise DamagedError(f"{name} claims {_num_bytes(dataset):,} bytes, which the file does not have")
    if sum(map(_num_bytes, datasets.values())) > size:
        raise DamagedError("its tensors lie over each other")
    for name, dataset in datasets.items():
        values = np.asarray(dataset)
        if dataset.attrs.get("dtype") == "bfloat16" and values.dtype.itemsize == 2:
            values = (values.view("<u2").astype(np.uint32) << 16).view(np.float32)
        if values.dtype.kind == "f" and not all_finite(values):
            raise DamagedError(f"{name} holds NaN or infinite values, its training diverged")
    return sum(math.prod(dataset.shape) for dataset in datasets.values())


def _num_bytes(dataset: h5py.Dataset) -> int:
    return math.prod(dataset.shape) * dataset.dtype.itemsize


def _datasets(root: h5py.File) -> Iterator[tuple[str, h5py.Dataset]]:
    """Yield every dataset once; links out of the file, and in circles, are refused."""
    waiting, seen = [("", root)], 0
    while waiting:
        name, group = waiting.pop()
        for key in group:
            seen += 1
            path = f"{name}/{key}"
            if seen > _MOST_NODES or path.count("/") > _DEEPEST:
                raise DamagedError("it has more in it than any model")
            if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                raise DamagedError(f"{path} is a link")
            node = group[key]
            if isinstance(node, h5py.Group):
                waiting.append((path, node))
            elif isinstance(node, h5py.Dataset) and node.shape is not None and node.dtype.kind in "fiubV":
                yield path, node
            else:
                raise DamagedError(f"{path} is no tensor")
