"""Zip archives, in which NumPy and PyTorch keep tensors, opened so that every failure is a `CheckpointError`."""

from __future__ import annotations

import contextlib
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO

from bert4albert.errors import CheckpointError
from bert4albert.plain_files import open_regular

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
# The directory of 40,000 members with usual names; a longer one takes seconds to read.
_MOST_DIRECTORY_BYTES = 2 * 2**20
_SLACK = 64 * 2**20


class Zipped:
    """An open archive.

    Arguments:
        path: the file.
        kind: what to call it in messages.

    Attributes:
        sizes: the name and the bytes of each member.

    Raises `CheckpointError` if it cannot be read, has a member twice, or claims more than it can hold.
    """

    def __init__(self, path: Path, kind: str) -> None:
        self._path, self._kind = path, kind
        with self._failures("archive"):
            file: Any = _Limited(open_regular(path))
            self._file_size = os.fstat(file.fileno()).st_size
            self._archive = zipfile.ZipFile(file)
            file.most = self._file_size
            members = self._archive.infolist()
        self.sizes = {member.filename: member.file_size for member in members}
        if len(self.sizes) < len(members):
            raise CheckpointError(f"{path} has a member twice; a {kind} file never has, copy or download it again.")
        self.require_plausible(self.sizes)

    def require_plausible(self, sizes: dict[str, int]) -> None:
        """Raise `CheckpointError` where things in the file have more bytes than numbers of trained weights can have.

        Compression takes little from such numbers, and few tensors share theirs with others.
        """
        for name, size in sizes.items():
            if size > 2 * self._file_size + _SLACK:
                raise CheckpointError(
                    f"{self._path} has {self._file_size:,} bytes, and {name} in it claims {size:,}; "
                    "it is damaged or made to exhaust memory, use another file."
                )
        total = sum(sizes.values())
        if total > 8 * self._file_size + _SLACK:
            raise CheckpointError(
                f"{self._path} has {self._file_size:,} bytes, and what it holds claims {total:,}; it is damaged or "
                "made to exhaust memory. If its tensors are views of one storage, save copies of them."
            )

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """Open a member; its checksum is verified when it has been read to its end."""
        with self._failures(name):
            info = self._archive.getinfo(name)
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise zipfile.BadZipFile("it is compressed in an unusual way")
            # Python takes the memory for a read before it reads, so that a damaged size must not come that far.
            if info.compress_size > self._file_size:
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
                f"{self._path} is not a readable {self._kind} file ({what:.200}: {error}); copy or download it again."
            ) from error


class _Limited:
    """A file that gives no more at once than `most` bytes, so that a directory of any length is not read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.most = file, _MOST_DIRECTORY_BYTES

    def read(self, size: int = -1) -> bytes:
        if size > self.most:
            raise zipfile.BadZipFile(f"its directory claims {size:,} bytes")
        return self._file.read(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
