"""A file that holds the state of a training: JSON values that say where it is, and the numbers of its variables."""

from __future__ import annotations

import contextlib
import json
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from keras import ops

from bert4albert.checkpoint.formats.arrays import NumpyArchive
from bert4albert.checkpoint.formats.tensor_file import all_finite
from bert4albert.errors import CheckpointError, DataError
from bert4albert.files import write_atomically

# What NumPy's and the standard library's readers raise for files that are not what they were.
_UNREADABLE = (
    *(OSError, ValueError, EOFError, KeyError, TypeError, AttributeError, IndexError, RecursionError, MemoryError),
    *(NotImplementedError, RuntimeError, SyntaxError, OverflowError, zipfile.BadZipFile, zlib.error, struct.error),
)


def write_state(path: Path, progress: Mapping[str, Any], variables: Mapping[str, Any]) -> None:
    """Write a state; the old one stays until the new one is whole.

    Arguments:
        path: the file, a NumPy archive.
        progress: JSON values.
        variables: name -> variable or array.
    """
    values: dict[str, Any] = {name: _as_array(variable) for name, variable in variables.items()}
    values["progress"] = np.array(json.dumps(progress))
    write_atomically(path, lambda file: np.savez(file, **values))


@contextlib.contextmanager
def opened_state(path: Path) -> Iterator[tuple[dict[str, Any], Callable[[], dict[str, np.ndarray]]]]:
    """Open a state inside a `with` block, where whatever goes wrong is a `DataError` that calls the file damaged.

    Arguments:
        path: what `write_state` wrote.

    Yields the progress, and a function that reads the arrays by name.
    """
    try:
        NumpyArchive(path)  # nothing in it claims more than there is
        with np.load(path) as archive:
            progress = json.loads(str(archive["progress"]))
            if not isinstance(progress, dict):
                raise ValueError("its progress is no object")
            yield progress, lambda: {name: archive[name] for name in archive.files if name != "progress"}
    except (CheckpointError, *_UNREADABLE) as error:
        raise DataError(f"{path} is damaged ({error!s:.100}): delete it to begin anew.") from None


def fill(
    variables: Mapping[str, Any], arrays: Mapping[str, np.ndarray], path: Path, what: str, *, finite: bool = True
) -> None:
    """Assign to each variable the array of its name.

    Arguments:
        variables: all that are to be filled, by name.
        arrays: their values; there must be no others.
        path: the file that they come from.
        what: what to call the owner of the variables in messages.
        finite: whether NaN or infinite numbers are an error.

    Raises `DataError`, before anything is assigned, for arrays of other variables or with such numbers.
    """
    if {name: _kind(array) for name, array in arrays.items()} != {name: _kind(v) for name, v in variables.items()}:
        raise DataError(f"{path} is of another {what}: give what the run was begun with, or another folder.")
    for name, array in arrays.items():
        if finite and array.dtype.kind == "f" and not all_finite(array):
            raise DataError(f"{path} is damaged ({name} holds NaN or infinite numbers): delete it to begin anew.")
    for name, variable in variables.items():
        variable.assign(arrays[name])


def _kind(values: Any) -> tuple[tuple[int, ...], str]:
    dtype = str(values.dtype)
    return tuple(values.shape), next((kind for kind in ("float", "int", "bool") if kind in dtype), dtype)


def _as_array(variable: Any) -> np.ndarray:
    array = np.asarray(ops.convert_to_numpy(variable))
    # NumPy has no bfloat16, and float32 holds all of its numbers.
    return array.astype("float32") if array.dtype.kind == "V" else array
