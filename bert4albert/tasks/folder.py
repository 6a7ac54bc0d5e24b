"""Writing a folder whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bert4albert.errors import DataError

# What `Task.save` writes; anything else in the folder is the user's own.
_OURS = ("task.json", "config.json", "model.weights.h5", "vocab.txt", "spiece.model", "tokenizer_config.json")


@contextmanager
def replace_folder(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """Give an empty folder to write to, and put it in the place of `folder` when all went well.

    Arguments:
        folder: the folder to replace or make. Its files that no task wrote move to the new one.

    Returns:
        A context that gives the folder to write to. Raises `DataError` if `folder` is a file.
    """
    folder = Path(folder).resolve()
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder} is a file; give the name of a folder to save to.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    new, old = (folder.with_name(f".{folder.name}.{kind}.{os.getpid()}") for kind in ("new", "old"))
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    try:
        yield new
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    if not folder.exists():
        new.rename(folder)
        return
    folder.rename(old)
    try:
        new.rename(folder)
    except OSError:
        old.rename(folder)
        raise
    for path in old.iterdir():
        if path.name not in _OURS:
            path.rename(folder / path.name)
    shutil.rmtree(old)
