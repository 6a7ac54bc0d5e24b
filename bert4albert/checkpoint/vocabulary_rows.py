"""A smaller or larger vocabulary than the file's: keep some rows, append means of others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bert4albert.errors import ConfigError


@dataclass(frozen=True)
class VocabularyRows:
    """Which rows of the file's word table the model has.

    Attributes:
        file_size: rows in the file.
        keep_tokens: old ids, in their new order; None for all.
        compound_tokens: appended rows, each a list of ids or a pair (ids, weights): the (weighted) mean of
            those rows of the already reduced table. Source: bert4keras, `keep_tokens` and `compound_tokens`.
    """

    file_size: int
    keep_tokens: Sequence[int] | None = None
    compound_tokens: Sequence[Any] | None = None

    def __post_init__(self) -> None:
        if self.keep_tokens is not None:
            _check_ids("keep_tokens", self.keep_tokens, self.file_size)
        for item in self.compound_tokens or ():
            ids, weights = _ids_and_weights(item)
            _check_ids("compound_tokens", ids, self._kept)
            if len(weights) != len(ids) or not sum(weights):
                raise ConfigError(f"compound_tokens: {item!r:.80} needs one weight a token, and weights with a sum.")

    @property
    def _kept(self) -> int:
        return self.file_size if self.keep_tokens is None else len(self.keep_tokens)

    @property
    def size(self) -> int:
        """Rows in the model."""
        return self._kept + len(self.compound_tokens or ())

    def apply(self, rows: np.ndarray) -> np.ndarray:
        """Return the model's rows of a table (or bias) of the file, [file_size, ...] -> [size, ...]."""
        if self.keep_tokens is not None:
            rows = rows[np.asarray(self.keep_tokens)]
        if self.compound_tokens is None:
            return rows
        means = [
            np.average(rows[list(ids)], 0, weights) for ids, weights in map(_ids_and_weights, self.compound_tokens)
        ]
        return np.concatenate([rows, np.asarray(means, rows.dtype)])


def _ids_and_weights(item: Any) -> tuple[Sequence[int], Sequence[float]]:
    if not isinstance(item, Sequence) or not item:
        raise ConfigError(f"compound_tokens: each entry is a list of ids or a pair (ids, weights), not {item!r:.80}.")
    if isinstance(item[0], Sequence):
        if len(item) != 2:
            raise ConfigError(f"compound_tokens: a weighted entry is a pair (ids, weights), not {item!r:.80}.")
        return item[0], item[1]
    return item, [1.0] * len(item)


def _check_ids(argument: str, ids: Any, size: int) -> None:
    valid = isinstance(ids, Sequence) and not isinstance(ids, str) and len(ids) > 0
    if not valid or not all(isinstance(i, (int, np.integer)) and 0 <= i < size for i in ids):
        raise ConfigError(f"{argument} must list token ids from 0 to {size - 1}; it is {ids!r:.80}.")
