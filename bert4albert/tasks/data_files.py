"""Reading data files: lines, tables, JSON and parquet, compressed with gzip or not."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from bert4albert.errors import DataError
from bert4albert.plain_files import read_packed

FORMATS = (".tsv", ".csv", ".jsonl", ".json", ".parquet")


class Row(NamedTuple):
    """What one example of a file is made of, and where in the file it stands."""

    value: Any
    place: str


def format_of(path: str | os.PathLike[str]) -> str:
    """Return the last suffix of a file's name, '.gz' left out, in lower case: '.csv' for 'Train.CSV.gz'."""
    suffixes = [suffix.lower() for suffix in Path(path).suffixes]
    if suffixes[-1:] == [".gz"]:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Return what a file holds, unpacked if its name ends in .gz; `DataError` if it cannot be read."""
    path = Path(path)
    try:
        return read_packed(path)
    except FileNotFoundError:
        raise DataError(f"There is no data file at {path}.") from None
    except (OSError, EOFError) as error:
        raise DataError(f"{path} cannot be read ({error}).") from None


def read_text(path: str | os.PathLike[str]) -> str:
    """Return the text of a UTF-8 file; `DataError` if it cannot be read or holds nothing."""
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error}); save it as UTF-8.") from None
    if not text.strip():
        raise DataError(f"{path} is empty.")
    return text


def read_lines(path: str | os.PathLike[str]) -> list[str]:
    """Return the lines of a UTF-8 text file, or of one compressed with gzip (.gz), without their ends.

    Raises `DataError` if the file cannot be read or is empty.
    """
    # Not splitlines: U+2028 and the like stand inside texts.
    return read_text(path).replace("\r\n", "\n").rstrip("\n").split("\n")


def read_table(path: str | os.PathLike[str]) -> list[Row]:
    """Return the cells of each line of a tab-separated file; lines with nothing in them are left out."""
    lines = enumerate(read_lines(path), 1)
    return [Row(tuple(line.split("\t")), f"{path}, line {number}") for number, line in lines if line.strip()]


def read_csv(path: str | os.PathLike[str]) -> list[Row]:
    """Return the cells of each record of a file with commas (RFC 4180): quoted cells may hold lines."""
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    return [Row(tuple(cells), f"{path}, line {line}") for line, cells in _records(reader, path) if cells]


def read_json(path: str | os.PathLike[str]) -> list[Row]:
    """Return the values of a file with one JSON value a line, or with one JSON list."""
    lines = read_lines(path)
    if lines[0].lstrip().startswith("["):
        values = _parsed("\n".join(lines), f"{path}")
        return [Row(value, f"{path}, entry {number}") for number, value in enumerate(values, 1)]
    places = [(line, f"{path}, line {number}") for number, line in enumerate(lines, 1) if line.strip()]
    return [Row(_parsed(line, place), place) for line, place in places]


def read_parquet(path: str | os.PathLike[str]) -> list[Row]:
    """Return the rows of a parquet file as dictionaries, read by pyarrow or by pandas, whichever is installed."""
    file = io.BytesIO(read_bytes(path))
    try:
        if find_spec("pyarrow") is not None:
            from pyarrow import parquet

            rows: list[Any] = parquet.read_table(file).to_pylist()
        elif find_spec("pandas") is not None:
            import pandas

            rows = pandas.read_parquet(file).to_dict("records")
        else:
            raise DataError(f"{path} is a parquet file, which needs pyarrow: pip install pyarrow.")
    except (OSError, ValueError, ImportError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} cannot be read as parquet ({error!s:.200}).") from None
    return [Row(value, f"{path}, row {number}") for number, value in enumerate(rows, 1)]


def json_cell(text: str, place: str) -> Any:
    """Return the JSON value that a cell of a table holds; `DataError` where it is none."""
    return _parsed(text, place)


def named(table: Sequence[Row]) -> list[Row]:
    """Return the rows of a table after its first as dictionaries, by the names that stand in the first."""
    (names, place), *rows = table
    if len(set(names)) < len(names):
        raise DataError(f"{place} names a column twice: {', '.join(names)!s:.200}.")
    for cells, where in rows:
        if len(cells) != len(names):
            raise DataError(f"{where} has {len(cells)} columns, its header has {len(names)}: {', '.join(names)!s:.80}.")
    return [Row(dict(zip(names, cells, strict=True)), where) for cells, where in rows]


def _records(reader: Any, path: str | os.PathLike[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield each record of a csv file and the line it begins at."""
    line = 1
    try:
        for cells in reader:
            yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{path}, line {line} is not CSV ({error}).") from None


def _parsed(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place} is not JSON ({error}): {text[:60]!r}.") from None
