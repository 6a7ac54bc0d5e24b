"""DataReader: the way of all data into a task, the same to train, to evaluate and to predict."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from bert4albert.errors import DataError
from bert4albert.tasks.data_files import Row
from bert4albert.tasks.example import (
    WEIGHT,
    Columns,
    Data,
    Example,
    Fields,
    Source,
    checked_text,
    looks_like_a_file,
    plain,
    warn_unused,
    weight_of,
)


class DataReader(ABC):
    """Reads examples and texts; what it needs of a task is told in `Task`."""

    fields: Fields

    def __init__(self) -> None:
        self._told: set[str] = set()

    @abstractmethod
    def answer(self, value: Any, text: Any, place: str) -> Any:
        """Return the answer of an example in the form that the task works with; `DataError` for any other."""

    def text(self, value: Any, place: str = "The text") -> Any:
        """Return what the task takes as a text.

        Arguments:
            value: a string, or a row that has names.
            place: where it stands, for errors.

        Returns:
            The text as `encode` takes it. Raises `DataError` for anything that is none.
        """
        if isinstance(value, Example):
            return value.text
        parts = self.fields.texts(value) if isinstance(value, Mapping) else [value]
        return checked_text(parts[0] if len(parts) == 1 else value, place)

    def example(self, value: Any, place: str = "The example") -> Example:
        """Return what the task takes as an example.

        Arguments:
            value: (text, answer), or a row that has names.
            place: where it stands, for errors.

        Returns:
            The `Example`. Raises `DataError` for anything that is none.
        """
        if isinstance(value, Example):
            return value
        value, weight = plain(value), 1.0
        answers = [name for name in self.fields.answers if isinstance(value, Mapping) and name in value]
        if answers:
            text, answer, weight = value, value[answers[0]], weight_of(value.get(WEIGHT, 1.0), place)
        elif isinstance(value, list | tuple) and len(value) == 2:
            text, answer = value
        else:
            raise DataError(f"{place} is {value!r:.80}. {self.fields.expected}")
        text = self.text(text, place)
        return Example(text, self.answer(plain(answer), text, place), weight, place)

    def text_of(self, example: Any) -> Any:
        """Return the text of an example, as `predict` takes it."""
        return self.example(example).text

    def cell(self, part: str, text: str, place: str) -> Any:
        """Return what a cell of a file stands for in which everything is text."""
        return text

    def read_file(self, path: str | os.PathLike[str]) -> list[Row] | None:
        """Return the rows of a file of a form that only this task has; None where there is no such form."""
        return None

    def read(self, data: Data, columns: Columns | None = None) -> list[Any]:
        """Return examples as a list, as they stand in the data. Raises `DataError` if there are none."""
        return [row.value for row in self._rows(data, columns, answered=True)]

    def examples(self, data: Data, columns: Columns | None = None) -> list[Example]:
        """Return the examples of data in any form. Raises `DataError` if there are none, or one cannot be used."""
        return [self.example(row.value, row.place) for row in self._rows(data, columns, answered=True)]

    def texts(self, data: Data, columns: Columns | None = None) -> list[Any]:
        """Return the texts of data in any form, with answers or without. Raises `DataError` if one cannot be used."""
        if isinstance(data, str) and not looks_like_a_file(data):
            raise DataError(f"predict takes a list of texts, not one: use predict([{data[:20]!r}]).")
        return [self.text(row.value, row.place) for row in self._rows(data, columns, answered=False)]

    def _rows(self, data: Data, columns: Columns | None, answered: bool) -> list[Row]:
        source = Source(self.fields, self.cell, columns, answered)
        rows = source.rows(data, self.read_file)
        warn_unused(source.unused, self._told)
        if answered and not rows:
            raise DataError("There are no examples: give at least one.")
        return rows
