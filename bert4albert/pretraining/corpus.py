"""Reading a corpus: one sentence a line, a blank line between documents, plain or compressed."""

from __future__ import annotations

import gzip
import lzma
import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bert4albert.errors import DataError

Document = list[str]
Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]

_LONGEST_LINE = 2**24
_OPENERS: dict[str, Any] = {".gz": gzip.open, ".xz": lzma.open}


def as_paths(files: Paths) -> list[Path]:
    """Return the files as a list of paths; `DataError` for one that does not exist, or for none at all."""
    paths = [Path(files)] if isinstance(files, str | os.PathLike) else [Path(file) for file in files]
    if not paths:
        raise DataError("There is no corpus file: give at least one text file (plain, .gz or .xz).")
    for path in paths:
        if not path.is_file():
            raise DataError(f"There is no corpus file {path}: give text files (plain, .gz or .xz).")
    return paths


class Corpus:
    """The documents of some text files, read one at a time.

    Arguments:
        files: paths of UTF-8 text files, one sentence a line, a blank line between documents; names that end
            in .gz or .xz are decompressed. The end of a file ends a document.

    Iterating yields each document as its list of sentences, without surrounding blanks. Raises `DataError`
    for a file that is missing, damaged or not UTF-8.
    """

    def __init__(self, files: Paths) -> None:
        self.paths = as_paths(files)
        self._sizes = [path.stat().st_size for path in self.paths]
        self._bytes_read = 0

    @property
    def fraction_read(self) -> float:
        """How much of the files has been read, between 0 and 1."""
        return self._bytes_read / max(1, sum(self._sizes))

    def __iter__(self) -> Iterator[Document]:
        """Yield the documents of every file, in order."""
        for index, path in enumerate(self.paths):
            done = sum(self._sizes[:index])
            with path.open("rb") as raw, _OPENERS.get(path.suffix, _plain)(raw, "rt", encoding="utf-8") as lines:
                document: Document = []
                for sentence in _sentences(lines, path):
                    if sentence:
                        document.append(sentence)
                    elif document:
                        self._bytes_read = done + raw.tell()
                        yield document
                        document = []
                if document:
                    yield document
        self._bytes_read = sum(self._sizes)


def _plain(raw: Any, mode: str, encoding: str) -> Any:
    # closefd=False: the caller owns the file. A new buffer on the same descriptor moves the same position.
    return open(raw.fileno(), mode, encoding=encoding, closefd=False)


def _sentences(lines: Any, path: Path) -> Iterator[str]:
    try:
        while line := lines.readline(_LONGEST_LINE):
            if len(line) == _LONGEST_LINE:
                raise DataError(f"{path} has a line of {_LONGEST_LINE:,} characters: put one sentence on a line.")
            yield line.strip()
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error}): convert it, for example with iconv.") from None
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error}): was it cut short, or is its name's ending wrong?") from None
