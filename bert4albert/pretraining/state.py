"""The state of a training run in one file: all that is needed to go on as if nothing had happened."""

from __future__ import annotations

import contextlib
import json
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from bert4albert.checkpoint.formats.arrays import NumpyArchive
from bert4albert.checkpoint.formats.tensor_file import all_finite
from bert4albert.errors import CheckpointError, DataError
from bert4albert.files import write_atomically

_FAILURES = (OSError, ValueError, EOFError, KeyError, TypeError, RuntimeError, zipfile.BadZipFile, zlib.error)


def save_state(path: Path, model: keras.Model, progress: dict[str, Any]) -> None:
    """Write weights, optimizer slots, random seeds and `progress` to one file; the old one stays until it is whole.

    Arguments:
        path: the file, a NumPy archive.
        model: a compiled model whose optimizer is built.
        progress: JSON values: where the run is.

    Raises `DataError`, with the old file intact, where a weight is not finite or the file cannot be written.
    """
    arrays = {name: ops.convert_to_numpy(variable) for name, variable in _variables(model).items()}
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not all_finite(array):
            raise DataError(f"{name} holds NaN or infinite numbers; {path} was not replaced.")
    write_atomically(path, lambda file: np.savez(file, progress=np.array(json.dumps(progress)), **arrays))


def nonfinite(model: keras.Model) -> str | None:
    """Return the name of a weight or optimizer slot that is NaN or infinite, None where all are numbers."""
    arrays = ((name, ops.convert_to_numpy(variable)) for name, variable in _variables(model).items())
    return next((name for name, array in arrays if array.dtype.kind == "f" and not all_finite(array)), None)


def read_progress(path: Path) -> dict[str, Any] | None:
    """Return the `progress` in a state file, None where there is no file; `DataError` if it is damaged."""
    if not path.exists():
        return None
    with _open(path) as archive:
        progress = json.loads(str(archive["progress"]))
        if not isinstance(progress, dict):
            raise ValueError("its progress is no object")
        return progress


def load_state(path: Path, model: keras.Model) -> None:
    """Put the numbers of a state file into a compiled model whose optimizer is built."""
    variables = _variables(model)
    with _open(path) as archive:
        arrays = {name: archive[name] for name in archive.files if name != "progress"}
    kinds = {name: (tuple(variable.shape), _is_float(variable.dtype)) for name, variable in variables.items()}
    if {name: (array.shape, _is_float(array.dtype)) for name, array in arrays.items()} != kinds:
        raise DataError(f"{path} is of another model or optimizer: continue with the same, or use another folder.")
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not all_finite(array):
            raise DataError(f"{path} is damaged ({name} holds NaN or infinite numbers): delete it to begin anew.")
    for name, variable in variables.items():
        variable.assign(arrays[name])


def _is_float(dtype: Any) -> bool:
    return "float" in str(dtype)


def _variables(model: keras.Model) -> dict[str, Any]:
    measured = {id(variable) for variable in model.metrics_variables}
    weights = [variable for variable in model.variables if id(variable) not in measured]
    named = {"model": weights, "optimizer": model.optimizer.variables}
    return {
        f"{owner}/{place}/{variable.name}": variable
        for owner, variables in named.items()
        for place, variable in enumerate(variables)
    }


@contextlib.contextmanager
def _open(path: Path) -> Iterator[Any]:
    try:
        NumpyArchive(path)  # nothing in it claims more than there is
        with np.load(path) as archive:
            yield archive
    except (CheckpointError, *_FAILURES) as error:
        raise DataError(f"{path} is damaged ({error}): delete it to begin anew.") from None
