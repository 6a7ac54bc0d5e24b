"""What a label is: a string or a whole number, a probability for each of them, or a number to be estimated."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bert4albert.errors import DataError
from bert4albert.tasks.example import plain


def label_of(value: Any, place: str) -> str | int:
    """Return a label; `DataError` where it is none: NaN and None are what tables put where nothing stands."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if not isinstance(value, str | int):
        raise DataError(
            f"{place} has the label {value!r:.60}; expected a string or a whole number. Drop examples without a "
            "label; for numbers to be estimated there is regression=True."
        )
    return value


def number_of(value: Any, place: str) -> float:
    """Return a finite number; `DataError` for anything else."""
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise DataError(f"{place} has the label {value!r:.60}; expected a number.")
    return number


def are_numbers(value: Any) -> bool:
    """Return whether a value is a list of numbers."""
    return isinstance(value, list | tuple) and all(
        isinstance(plain(part), int | float) and not isinstance(part, bool) for part in value
    )


def soft_label_of(value: Any, labels: Sequence[Any], place: str) -> dict[Any, float]:
    """Return the probability of each label of a soft one.

    Arguments:
        value: label -> probability, or a list of probabilities in the order of `labels`.
        labels: those of the classifier, as far as they are known.
        place: where it stands, for errors.
    """
    if not isinstance(value, Mapping):
        if len(value) != len(labels):
            raise DataError(
                f"{place} has the label {value!r:.80}; expected one label, or a probability for each of the "
                f"{len(labels)} labels that labels=[...] gives."
            )
        value = dict(zip(labels, value, strict=True))
    soft = {label_of(plain(label), place): number_of(plain(part), place) for label, part in value.items()}
    if min(soft.values(), default=-1) < 0 or abs(sum(soft.values()) - 1) > 1e-3:
        raise DataError(f"{place} has the label {value!r:.80}; expected probabilities that add up to 1.")
    return soft


def in_order(labels: Iterable[Any]) -> list[Any]:
    """Return labels sorted: whole numbers first, then strings; strings that are all numbers as such, 2 before 10."""
    found = list(labels)
    if all(isinstance(label, str) and label.isascii() and label.isdigit() for label in found):
        return sorted(found, key=lambda label: (int(label), label))
    return sorted(found, key=lambda label: (isinstance(label, str), label))
