"""Reading data files: lines, tables and JSON, compressed with gzip or not."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from bert4albert.errors import DataError
from bert4albert.files import read_packed


def read_lines(path: str | os.PathLike[str]) -> list[str]:
    """Return the lines of a UTF-8 text file, or of one compressed with gzip (.gz), without their ends.

    Raises `DataError` if the file cannot be read or is empty.
    """
    path = Path(path)
    try:
        text = read_packed(path).decode("utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"There is no data file at {path}.") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error}); save it as UTF-8.") from None
    except (OSError, EOFError) as error:
        raise DataError(f"{path} cannot be read ({error}).") from None
    if not text.strip():
        raise DataError(f"{path} is empty.")
    # Not splitlines: U+2028 and the like stand inside texts.
    return text.replace("\r\n", "\n").rstrip("\n").split("\n")


def read_table(path: str | os.PathLike[str]) -> list[tuple[str, ...]]:
    """Return the cells of a tab-separated file, one tuple a line; lines with nothing in them are left out."""
    return [tuple(line.split("\t")) for line in read_lines(path) if line.strip()]


def read_json(path: str | os.PathLike[str]) -> list[Any]:
    """Return the values of a file with one JSON value a line, or with one JSON list."""
    lines = read_lines(path)
    if lines[0].lstrip().startswith("["):
        return _parsed("\n".join(lines), f"{path}")
    return [_parsed(line, f"{path}, line {number}") for number, line in enumerate(lines, 1) if line.strip()]


def _parsed(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place} is not JSON ({error}): {text[:60]!r}.") from None
