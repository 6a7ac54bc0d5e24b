"""Files that appear whole or not at all, a folder that one run has to itself, and errors of the disk in words."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from bert4albert.errors import DataError

try:
    import fcntl
except ImportError:  # Windows, where a folder is not reserved
    fcntl = None  # type: ignore[assignment]


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn the system's refusal to write a file into a `DataError` that says what to do."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{path} could not be written ({error.strerror or error}); what was there before is intact. "
            "Free some space or choose another folder, and run the same command again."
        ) from None


def write_atomically(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Write a file under a temporary name in the same folder, flush it to the disk, then rename it.

    Arguments:
        path: the file; an old one of this name stays as it is until the new one is whole.
        write: writes the content to the binary file it is given.

    Raises `DataError`, with the old file intact, where the disk is full or the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with explained(path):
        try:
            with temporary.open("wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def reserved(folder: Path) -> Iterator[None]:
    """Keep a folder, made if need be, to this process; the system gives it back however the process ends.

    Raises `DataError` where another process holds it, which would write over the same files.
    """
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY) if fcntl is not None else None
    try:
        if descriptor is not None:
            _lock(descriptor, folder)
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _lock(descriptor: int, folder: Path) -> None:
    with explained(folder):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError(
                f"{folder} belongs to a run that is still going: wait for its end, or give another folder."
            ) from None
