"""The state of a training run in one file: all that is needed to go on as if nothing had happened."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from bert4albert.errors import DataError
from bert4albert.files import write_atomically


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
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise DataError(f"{name} holds NaN or infinite numbers; {path} was not replaced.")
    write_atomically(path, lambda file: np.savez(file, progress=np.array(json.dumps(progress)), **arrays))


def read_progress(path: Path) -> dict[str, Any] | None:
    """Return the `progress` in a state file, None where there is no file; `DataError` if it is damaged."""
    if not path.exists():
        return None
    with _open(path) as archive:
        return json.loads(str(archive["progress"]))


def load_state(path: Path, model: keras.Model) -> None:
    """Put the numbers of a state file into a compiled model whose optimizer is built."""
    variables = _variables(model)
    with _open(path) as archive:
        arrays = {name: archive[name] for name in archive.files if name != "progress"}
    shapes = {name: tuple(variable.shape) for name, variable in variables.items()}
    if {name: array.shape for name, array in arrays.items()} != shapes:
        raise DataError(f"{path} is of another model or optimizer: continue with the same, or use another folder.")
    for name, variable in variables.items():
        variable.assign(arrays[name])


def _variables(model: keras.Model) -> dict[str, Any]:
    measured = {id(variable) for variable in model.metrics_variables}
    weights = [variable for variable in model.variables if id(variable) not in measured]
    named = {"model": weights, "optimizer": model.optimizer.variables}
    return {
        f"{owner}/{place}/{variable.name}": variable
        for owner, variables in named.items()
        for place, variable in enumerate(variables)
    }


def _open(path: Path) -> Any:
    try:
        return np.load(path)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is damaged ({error}): delete it to begin anew.") from None
