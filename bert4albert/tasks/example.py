"""What a text and what an example is, wherever they come from: one way in for all tasks and all kinds of data."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bert4albert.errors import DataError, did_you_mean
from bert4albert.tasks.data_files import (
    FORMATS,
    Row,
    format_of,
    named,
    read_csv,
    read_json,
    read_parquet,
    read_table,
)

Data = str | os.PathLike[str] | Iterable[Any]
Columns = Mapping[str, str]

WEIGHT = "weight"

# What the columns of other people's files are called: a line of nothing else is a header.
_USUAL_NAMES = frozenset(
    """id idx index qid text texts text_a text_b text1 text2 content sentence sentences sentence1 sentence2 review
    reviews comment comments title body document query question question1 question2 answer context passage premise
    hypothesis source target input output src tgt label labels class category cat sentiment stars star rating score
    similarity is_duplicate tag tags y 文本 内容 评论 句子 标题 问题 答案 标签 类别 分类 情感 评分 分数""".split()  # noqa: SIM905
)


class Example(NamedTuple):
    """A text and its answer, checked, in the form that a task works with."""

    text: Any
    answer: Any
    weight: float = 1.0
    place: str = "The example"


class Fields(NamedTuple):
    """The names under which a task finds the parts of an example in a row that has names.

    Arguments:
        text: part -> the names it may have; the parts of a text, of which only the first must be there.
        answer: the name of the answer; None where it is inside the parts of the text.
        expected: how an example looks, as a sentence for errors.
        positions: number of cells -> the parts they are, in a tab-separated file without a header.
        other_answers: further names of the answer.
    """

    text: Mapping[str, tuple[str, ...]]
    answer: str | None
    expected: str
    positions: Mapping[int, tuple[str, ...]] = {}
    other_answers: tuple[str, ...] = ()

    @property
    def answers(self) -> list[str]:
        """The names of the answer; none where it is inside the parts of the text."""
        return [*filter(None, [self.answer]), *self.other_answers]

    @property
    def names(self) -> list[str]:
        """All names, the weight's included."""
        return [*(name for names in self.text.values() for name in names), *self.answers, WEIGHT]

    @property
    def first(self) -> str:
        """The part that every text has."""
        return next(iter(self.text))

    def missing(self, names: Iterable[Any], answered: bool) -> list[str]:
        """Return which parts these names do not give: the text's first, and the answer where it is wanted."""
        given = set(names)
        missing = [] if given.intersection(self.text[self.first]) else [self.first]
        return [*missing, self.answer] if answered and self.answer and not given.intersection(self.answers) else missing

    def texts(self, row: Mapping[str, Any]) -> list[Any]:
        """Return the parts of the text that a row has, in order."""
        return [row[found[0]] for names in self.text.values() if (found := [name for name in names if name in row])]


def plain(value: Any) -> Any:
    """Return NumPy's numbers, strings and arrays as Python's own; anything else as it is."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    return str(value) if isinstance(value, str) else value


def weight_of(value: Any, place: str) -> float:
    """Return the weight of an example in the loss as a float; `DataError` for anything that weighs nothing sure."""
    try:
        weight = float(value)
    except (TypeError, ValueError):
        weight = math.nan
    if isinstance(value, bool) or not math.isfinite(weight) or weight < 0:
        raise DataError(f"{place} has the weight {value!r:.60}; expected a number that is not negative.")
    return weight


def combined_weights(
    weights: Sequence[float], example_of_row: Sequence[int] | None, given: np.ndarray | None = None
) -> np.ndarray | None:
    """Return the weight of each row in the loss: its example's, times what the task gives; None where all are 1.

    Arguments:
        weights: one for each example.
        example_of_row: which example each row is of; None where rows are examples.
        given: [rows] or [rows, ...], the task's own weights.
    """
    if all(weight == 1 for weight in weights):
        return given
    of_row = np.array(weights, "float32")
    if example_of_row is not None:
        of_row = of_row[np.array(example_of_row, int)]
    return of_row if given is None else given * of_row.reshape(-1, *[1] * (np.ndim(given) - 1))


def checked_text(value: Any, place: str, part: str = "text") -> str:
    """Return a text; `DataError` where it is no string, or holds half characters that no encoding has."""
    value = plain(value)
    if not isinstance(value, str):
        raise DataError(
            f"{place}: the {part} is {value!r:.60} ({type(value).__name__}), expected a string; "
            "drop empty cells, and decode bytes, before."
        )
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise DataError(
                f"{place}: the {part} holds half of a character (a lone surrogate): {value!r:.60}."
            ) from None
    return value


class Source:
    """Reads the rows of any kind of data for one task.

    Arguments:
        fields: the task's.
        cell: a function (part, text, place) -> value that reads a cell of a file in which everything is text.
        columns: ours -> theirs, for data with other names than the task documents.
        answered: whether answers are wanted, as to train, or only texts, as to predict.

    Attributes:
        unused: the columns that nothing used, once `rows` was called.

    Raises `DataError` for `columns` that map what is no part of an example.
    """

    def __init__(
        self, fields: Fields, cell: Callable[[str, str, str], Any], columns: Columns | None, answered: bool
    ) -> None:
        self.fields, self.cell, self.answered = fields, cell, answered
        self.columns = dict(columns or {})
        self.unused: list[str] = []
        for ours in self.columns:
            if ours not in fields.names:
                hint = did_you_mean(str(ours), fields.names)
                raise DataError(f"columns maps {ours!r}, but an example has {', '.join(fields.names)}.{hint}")

    def rows(self, data: Any, read_file: Callable[[Any], list[Row] | None] | None = None) -> list[Row]:
        """Return every row with its place.

        Arguments:
            data: whatever holds examples or texts.
            read_file: reads a file that has a form of the task's own, and returns None for others.

        Raises `DataError` if the data is of no kind that is known here, or lacks a column.
        """
        kind = "Example" if self.answered else "Text"
        if isinstance(data, str | os.PathLike):
            rows = self._file(data, read_file)
        elif isinstance(data, bytes | Mapping | set | frozenset) or not hasattr(data, "__iter__"):
            raise DataError(
                f"Expected a list, a table or the path of a file, not {data!r:.60} ({type(data).__name__}): "
                f"give a list of {kind.lower()}s."
            )
        else:
            rows = [Row(value, f"{kind} {number}") for number, value in enumerate(_values(data))]
        if any(isinstance(row.value, Mapping) for row in rows):
            return self._renamed(rows, data)
        if self.columns and rows:
            raise DataError(f"columns names columns, but {rows[0].place} has none: {rows[0].value!r:.60}.")
        return rows

    def _file(self, path: str | os.PathLike[str], read_file: Callable[[Any], list[Row] | None] | None) -> list[Row]:
        kind = format_of(path)
        if kind in (".json", ".jsonl"):
            return read_json(path)
        if kind == ".parquet":
            return read_parquet(path)
        table = read_csv(path) if kind == ".csv" else read_table(path)
        if kind == ".csv" or self.columns or not self.fields.missing(table[0].value, self.answered):
            return named(table)
        own = None if read_file is None else read_file(path)
        if own is not None:
            return own
        self._refuse_header(table)
        return [self._by_position(row, number) for number, row in enumerate(table, 1)]

    def _refuse_header(self, table: Sequence[Row]) -> None:
        """Raise `DataError` for a first line of names that are not the task's: it must not become an example."""
        (cells, place), *others = table
        usual = _USUAL_NAMES.union(map(str.lower, self.fields.names))
        labels = [cells[-1] for cells, _ in others if len(cells) > 1]
        of_numbers = self.fields.answer == "label" and len(labels) > 1 and all(map(_is_number, labels))
        if all(cell.strip().lower() in usual for cell in cells) or (of_numbers and not _is_number(cells[-1])):
            parts = self.fields.positions.get(len(cells), (self.fields.first,))
            columns = dict(zip(parts, cells, strict=False))
            raise DataError(f"{place} looks like a header, not like data: pass columns={columns}, or remove the line.")

    def _by_position(self, row: Row, number: int) -> Row:
        cells, place = row
        parts = self.fields.positions.get(len(cells))
        if parts is None and not self.answered and len(cells) == 1:
            parts = (self.fields.first,)
        if parts is None:
            expected = " or ".join(map(", ".join, self.fields.positions.values()))
            raise DataError(f"{place}: row {number} has {len(cells)} columns; expected {expected}, with tabs between.")
        values = tuple(self.cell(part, text, place) for part, text in zip(parts, cells, strict=True))
        return Row(values if self.answered else dict(zip(parts, values, strict=True)), place)

    def _renamed(self, rows: Sequence[Row], data: Any) -> list[Row]:
        """Return the rows under the task's names, and note which columns nothing uses."""
        known = dict.fromkeys(name for row in rows if isinstance(row.value, Mapping) for name in row.value)
        listed = f"{', '.join(map(str, known))!s:.200}"
        answers = (*self.fields.answers, WEIGHT)
        columns = {
            ours: theirs
            for ours, theirs in self.columns.items()
            if self.answered or theirs in known or ours not in answers
        }
        for ours, theirs in columns.items():
            if theirs not in known:
                hint = did_you_mean(str(theirs), map(str, known))
                raise DataError(f"There is no column {theirs!r} for {ours!r}, but there are {listed}.{hint}")
        mapped = set(columns.values())
        names = {name: name for name in self.fields.names if name in known and name not in mapped} | columns
        if missing := self.fields.missing(names, self.answered):
            place = next(row.place for row in rows if isinstance(row.value, Mapping))
            hint = did_you_mean(missing[0], map(str, known))
            raise DataError(
                f"{place} has no {missing[0]!r} among its columns {listed}; "
                f"pass columns={{{missing[0]!r}: 'the name it has'}}.{hint} {self.fields.expected}"
            )
        self.unused = [str(name) for name in known if name not in names.values()]
        all_text = isinstance(data, str | os.PathLike) and format_of(data) not in (".json", ".jsonl", ".parquet")
        read = self.cell if all_text else lambda _name, value, _place: value
        return [
            Row({ours: read(ours, value[name], place) for ours, name in names.items() if name in value}, place)
            if isinstance(value, Mapping)
            else Row(value, place)
            for value, place in rows
        ]


def warn_unused(unused: Sequence[str], told: set[str]) -> None:
    """Warn once of columns that no part of an example comes from; `told` remembers which were named before."""
    new = [name for name in unused if name not in told]
    if new:
        told.update(new)
        warnings.warn(f"Nothing uses the columns {', '.join(new)!s:.300}.", UserWarning, stacklevel=4)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def looks_like_a_file(text: str) -> bool:
    """Return whether a string is meant as the path of a data file."""
    return format_of(text) in FORMATS and "\n" not in text and len(text) < 1000 and bool(Path(text).name)


def _values(data: Any) -> Iterable[Any]:
    """Return the rows of a table of pandas, pyarrow or `datasets` as dictionaries, and of anything else its items."""
    if hasattr(data, "columns") and hasattr(data, "to_dict"):
        return data.to_dict("records")
    if hasattr(data, "to_pylist"):
        return data.to_pylist()
    features = getattr(data, "features", None)
    if not isinstance(features, Mapping):
        return data
    names = {name: kind.names for name, kind in features.items() if getattr(kind, "names", None)}
    return ({name: _label_name(value, names.get(name)) for name, value in row.items()} for row in data)


def _label_name(value: Any, names: Sequence[str] | None) -> Any:
    """Return the name of a `ClassLabel`, which stands in the data as its index; -1 stands for no label."""
    if names is None or not isinstance(value, int):
        return value
    return names[value] if 0 <= value < len(names) else None
