"""Files opened only where they are plain files, and read only up to a size."""

from __future__ import annotations

import errno
import gzip
import json
import os
import stat
import zlib
from pathlib import Path
from typing import Any, BinaryIO

_MOST_UNPACKED = 50  # times the size of a packed file; text gets to a tenth of that


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a file for reading. Raises `OSError` also for what is no plain file, and might never end or never answer."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except ValueError as error:  # a zero byte in the name
        raise OSError(errno.EINVAL, str(error)) from None
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return open(descriptor, "rb")
    os.close(descriptor)
    raise OSError(errno.EINVAL, "it is a folder, a device or a pipe, not a file")


def read_small(path: str | os.PathLike[str], most: int) -> bytes:
    """Return the content of a file; `OSError` where it cannot be read, `ValueError` for more than `most` bytes."""
    with open_regular(path) as file:
        # Asked first, since a read takes the memory that it is asked for.
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise ValueError(f"it has more than {most:,} bytes")
        return file.read(size)


def read_packed(path: Path) -> bytes:
    """Return the content of a file, unpacked where its name ends in .gz.

    Raises `OSError` or `EOFError` where it cannot be read or unpacked, or claims more than any text.
    """
    with open_regular(path) as file:
        if path.suffix != ".gz":
            return file.read()
        most = _MOST_UNPACKED * os.fstat(file.fileno()).st_size + 2**26
        try:
            with gzip.GzipFile(fileobj=file) as unpacked:
                # Counted first, so that what is too much takes no memory.
                size = 0
                while part := unpacked.read(2**20):
                    size += len(part)
                    if size > most:
                        raise OSError(errno.EFBIG, f"it unpacks to more than {_MOST_UNPACKED} times its size")
                unpacked.seek(0)
                return unpacked.read()
        except zlib.error as error:
            raise OSError(errno.EINVAL, f"it is damaged: {error}") from None


def read_json(path: str | os.PathLike[str], most: int) -> dict[str, Any]:
    """Return the JSON object in a UTF-8 file.

    Arguments:
        path: the file.
        most: bytes that it may have.

    Raises `OSError` where it cannot be read, `ValueError` where it is too long or is no JSON object.
    """
    content = read_small(path, most)
    if content.count(b"[") + content.count(b"{") > most // 8:
        raise ValueError("it has more lists and objects than any such file")
    try:
        values = json.loads(content.decode("utf-8-sig"))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(values, dict):
        raise ValueError(f"it holds a JSON {type(values).__name__}, not an object")
    return values
