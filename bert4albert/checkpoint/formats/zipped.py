"""Zip archives, in which NumPy and PyTorch keep tensors, opened so that every failure is a `CheckpointError`."""

from __future__ import annotations

import contextlib
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from bert4albert.errors import CheckpointError

_FAILURES = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,
    OverflowError,
    RuntimeError,
    ValueError,
)


class Zipped:
    """An open archive.

    Arguments:
        path: the file.
        kind: what to call it in messages.

    Raises `CheckpointError` if it cannot be read, or has a member twice.
    """

    def __init__(self, path: Path, kind: str) -> None:
        self._path, self._kind = path, kind
        with self._failures("archive"):
            self._archive = zipfile.ZipFile(path)
        self.names = self._archive.namelist()
        if len(set(self.names)) < len(self.names):
            raise CheckpointError(f"{path} has a member twice; a {kind} file never has, copy or download it again.")

    def size(self, name: str) -> int | None:
        """Return the bytes of a member, None if there is none."""
        return self._archive.getinfo(name).file_size if name in self.names else None

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """Open a member; its checksum is verified when it has been read to its end."""
        with self._failures(name):
            info = self._archive.getinfo(name)
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise zipfile.BadZipFile("it is compressed in an unusual way")
            # Python takes the memory for a read before it reads, so that a damaged size must not come that far.
            if info.compress_size > self._path.stat().st_size:
                raise zipfile.BadZipFile("it is longer than the file")
            with self._archive.open(name) as member:
                yield member

    @contextlib.contextmanager
    def _failures(self, what: str) -> Iterator[None]:
        try:
            yield
        except CheckpointError:
            raise
        except OSError as error:
            raise CheckpointError(f"{self._path} cannot be read ({error.strerror or error}).") from error
        except _FAILURES as error:
            raise CheckpointError(
                f"{self._path} is not a readable {self._kind} file ({what}: {error}); copy or download it again."
            ) from error
