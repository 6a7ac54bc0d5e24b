"""Padding: rows of different lengths to one array."""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np

from bert4albert.errors import DataError


class Ragged:
    """Rows of different lengths, kept as one flat array, any of which can be had as a padded array.

    Arguments:
        rows: lists or arrays [row_length] of numbers, or [row_length, ...] of vectors of one shape.

    Raises `DataError` if the rows do not hold numbers.
    """

    def __init__(self, rows: Sequence[Any]) -> None:
        try:
            self.lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        except TypeError as error:
            raise DataError(f"Expected every row to be a list or an array of numbers ({error}).") from error
        self._starts = np.cumsum(self.lengths) - self.lengths
        self._items = as_numbers(list(chain.from_iterable(rows)))
        self.shape = (None, None, *self._items.shape[1:])
        self.dtype = self._items.dtype

    def pad(self, rows: np.ndarray, length: int, value: float) -> np.ndarray:
        """Return the rows of these indices as an array [rows, length, ...], filled up with a value."""
        inside = np.arange(length) < self.lengths[rows, None]
        padded = np.full((*inside.shape, *self._items.shape[1:]), value, self.dtype)
        padded[inside] = self._items[(self._starts[rows, None] + np.arange(length))[inside]]
        return padded


def pad(sequences: Sequence[Any], value: float = 0, length: int | None = None, multiple: int = 1) -> np.ndarray:
    """Return rows of different lengths as one array, each filled up at its end.

    Arguments:
        sequences: rows, as lists or arrays [row_length] of numbers, or [row_length, ...] of vectors of one shape.
        value: what to fill up with: 0 for token ids; for labels, one that the loss leaves out.
        length: the length to fill up to; by default that of the longest row.
        multiple: round that length up to a multiple of this.

    Returns:
        An array [rows, length, ...], int32, or float32 if the rows hold floats. Raises `DataError` if a row is longer
        than `length`, or the rows do not hold numbers.

    Examples:
        >>> from bert4albert.batches import pad
        >>> pad([[2, 5, 3], [2, 3]]).tolist()
        [[2, 5, 3], [2, 3, 0]]
    """
    rows = Ragged(sequences)
    longest = int(rows.lengths.max(initial=0))
    if length is not None and longest > length:
        raise DataError(
            f"Row {rows.lengths.argmax()} has {longest} items, more than length={length}: cut it, or leave length out."
        )
    width = round_up(longest if length is None else length, multiple)
    return rows.pad(np.arange(len(sequences)), width, value)


def as_numbers(values: Any) -> np.ndarray:
    """Return numbers as an int32 array, or a float32 one if they are floats; DataError for anything else."""
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise DataError(
            "Expected numbers, or vectors of one shape, got lists of different lengths. "
            "Several columns are given as a tuple: (token_ids, segment_ids)."
        ) from error
    if array.size == 0 or array.dtype.kind in "biu":
        return array.astype(np.int32)
    if array.dtype.kind == "f":
        return array.astype(np.float32)
    other = next(value for value in array.flat if not isinstance(value, int | float))
    raise DataError(f"Expected numbers, got {other!r}: turn texts and labels into ids, and drop what is missing.")


def round_up(length: Any, multiple: int) -> Any:
    """Return the smallest multiple that is not below `length`, an integer or an array of them."""
    return -(-length // multiple) * multiple
