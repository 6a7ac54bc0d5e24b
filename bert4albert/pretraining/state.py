"""The state of a pretraining run in one file: all that is needed to go on as if nothing had happened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
from keras import ops

from bert4albert.checkpoint.formats.tensor_file import all_finite
from bert4albert.errors import DataError
from bert4albert.training.state_file import fill, opened_state, write_state


def save_state(path: Path, model: keras.Model, progress: dict[str, Any]) -> None:
    """Write weights, optimizer slots, random seeds and `progress` to one file; the old one stays until it is whole.

    Arguments:
        path: the file, a NumPy archive.
        model: a compiled model whose optimizer is built.
        progress: JSON values: where the run is.

    Raises `DataError`, with the old file intact, where a weight is not finite or the file cannot be written.
    """
    name = nonfinite(model)
    if name is not None:
        raise DataError(f"{name} holds NaN or infinite numbers; {path} was not replaced.")
    write_state(path, progress, _variables(model))


def nonfinite(model: keras.Model) -> str | None:
    """Return the name of a weight or optimizer slot that is NaN or infinite, None where all are numbers."""
    arrays = ((name, ops.convert_to_numpy(variable)) for name, variable in _variables(model).items())
    return next((name for name, array in arrays if array.dtype.kind == "f" and not all_finite(array)), None)


def read_progress(path: Path) -> dict[str, Any] | None:
    """Return the `progress` in a state file, None where there is no file; `DataError` if it is damaged."""
    if not path.exists():
        return None
    with opened_state(path) as (progress, _):
        return progress


def load_state(path: Path, model: keras.Model) -> None:
    """Put the numbers of a state file into a compiled model whose optimizer is built."""
    with opened_state(path) as (_, read):
        arrays = read()
    fill(_variables(model), arrays, path, "model or optimizer")


def _variables(model: keras.Model) -> dict[str, Any]:
    measured = {id(variable) for variable in model.metrics_variables}
    weights = [variable for variable in model.variables if id(variable) not in measured]
    named = {"model": weights, "optimizer": model.optimizer.variables}
    return {
        f"{owner}/{place}/{variable.name}": variable
        for owner, variables in named.items()
        for place, variable in enumerate(variables)
    }
