"""convert: a checkpoint in one format becomes one in another, without a model and without a backend."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bert4albert.checkpoint.export import (
    Weights,
    google_dialect,
    google_files,
    hf_dialect,
    hf_files,
    npz_files,
    refuse_neighbours,
)
from bert4albert.checkpoint.inspection import open_path
from bert4albert.checkpoint.low_rank import compressed
from bert4albert.checkpoint.names import count_parameters, weight_shapes
from bert4albert.checkpoint.resolve import heads_in, resolve
from bert4albert.errors import CheckpointError, ConfigError, require_choice
from bert4albert.files import reading, writing
from bert4albert.finding import find_vocabularies, model_folder
from bert4albert.text.vocabulary import refuse_other_vocabulary

if TYPE_CHECKING:
    import numpy as np

    from bert4albert.text import Tokenizer

FORMATS = ("hf", "google", "npz")


def convert(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    to: str,
    *,
    sharing: Any = None,
    rank: int | None = None,
    config: str | os.PathLike[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write a checkpoint in another format, with its heads, its config and its vocabulary.

    Arguments:
        source: a folder, a checkpoint file, the prefix of a TensorFlow checkpoint, or the name of a model that comes
            with the package.
        target: a folder; for 'google' also a prefix, for 'npz' also a file. It may be the folder of the source.
        to: 'hf', 'google' or 'npz'.
        sharing: as for `build_model`; None keeps the file's.
        rank: write the depths of an unshared model as one block and low-rank updates, as `compress_depths`; None for
            what they are. Only 'npz' has names for that.
        config: the source's config, where it is not beside the checkpoint.
        progress: called with how many of the numbers have been read, and how many there are.

    Returns:
        What was written: a folder, a prefix or a file, as `build_model` takes it for `checkpoint`. Raises
        `CheckpointError`, `ConfigError` or `TokenizerError`; the files that were there before are then still there.

    Examples:
        >>> from bert4albert.convert import convert
        >>> convert("albert_tiny_zh", "google/", to="google").name
        'albert_model.ckpt'
    """
    require_choice("to", to, FORMATS)
    if rank is not None and to != "npz":
        raise ConfigError(f"The small form of rank {rank!r:.20} has no names in the {to} format; write it to='npz'.")
    is_folder = to == "hf" or os.path.isdir(target) or os.fspath(target).endswith(("/", os.sep))
    target = Path(target)
    folder, name = (target, None) if is_folder else (target.parent, target.name)
    checks = (refuse_neighbours, refuse_other_vocabulary)
    # Reading ends before the files move into place, so that they may replace those that are read.
    with writing(folder, checks=checks, error=CheckpointError) as new, reading(source, config):
        weights, tokenizer = open_weights(source, sharing, config)
        if rank is not None:
            weights, _ = compressed(weights, rank)
        if progress is not None:
            weights = _watched(weights, progress)
        if to == "hf":
            hf_files(weights, new, hf_dialect(weights.config), tokenizer)
            return folder
        if tokenizer is not None:
            tokenizer.write_files(new)
        if to == "google":
            dialect = google_dialect(weights.config)
            name = name or f"{dialect.family}_model.ckpt"
            google_files(weights, new / name, dialect)
        else:
            name = name or "model.npz"
            npz_files(weights, new / name)
        return folder / name


def open_weights(
    source: str | os.PathLike[str], sharing: Any = None, config: str | os.PathLike[str] | None = None
) -> tuple[Weights, Tokenizer | None]:
    """Open a checkpoint to be written elsewhere.

    Arguments:
        source: as for `convert`.
        sharing: as for `convert`.
        config: as for `convert`.

    Returns:
        The weights, checked but not yet read, and the tokenizer beside them if there is one. Raises as `convert`.
    """
    from bert4albert.text import Tokenizer

    opened = open_path(source, config)
    model_config, plan = resolve(opened, sharing=sharing, **heads_in(opened))
    if plan is None or opened.file is None:
        raise CheckpointError(f"{os.fspath(source)} holds no checkpoint to convert.")
    plan.check()
    plan.check_equal()
    wide = any(opened.file.tensors[stored.name].dtype == "float64" for stored in plan.sources.values())
    weights = Weights(model_config, plan.read, "float64" if wide else "float32")
    folder = model_folder(source) or Path(source).parent
    return weights, Tokenizer(folder) if len(find_vocabularies(folder)) == 1 else None


def _watched(weights: Weights, progress: Callable[[int, int], None]) -> Weights:
    shapes = weight_shapes(weights.config)
    done, total = 0, count_parameters(shapes.values())

    def read(weight: str) -> np.ndarray:
        nonlocal done
        done += count_parameters([shapes[weight]])
        progress(done, total)
        return weights.read(weight)

    return dataclasses.replace(weights, read=read)
