"""How close answers are to the right ones: labels and numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def label_metrics(expected: np.ndarray, given: np.ndarray, micro: bool) -> dict[str, float]:
    """Return accuracy (all labels of a text right), macro F1, and micro F1 if asked for.

    Arguments:
        expected, given: bool [texts, labels].
        micro: whether to add the F1 over all labels together.
    """
    right, wanted, found = (x.sum(axis=0) for x in (expected & given, expected, given))
    metrics = {"accuracy": float((expected == given).all(axis=1).mean())}
    # A label that is neither there nor given says nothing about the classifier.
    seen = wanted + found > 0
    metrics["macro_f1"] = float((2 * right[seen] / (wanted + found)[seen]).mean()) if seen.any() else 1.0
    if micro:
        metrics["micro_f1"] = float(2 * right.sum() / (wanted + found).sum()) if seen.any() else 1.0
    return metrics


def pearson(expected: Sequence[float] | np.ndarray, given: Sequence[float] | np.ndarray) -> float:
    """Return the correlation of two lists of numbers, 0 where one of them does not vary."""
    x, y = (np.asarray(values, "float64") - np.mean(values) for values in (expected, given))
    scale = np.sqrt((x**2).sum() * (y**2).sum())
    return float((x * y).sum() / scale) if scale > 0 else 0.0


def spearman(expected: Sequence[float], given: Sequence[float]) -> float:
    """Return the correlation of the ranks of two lists of numbers; equal numbers share the mean of their ranks."""
    return pearson(_ranks(expected), _ranks(given))


def _ranks(values: Sequence[float]) -> np.ndarray:
    _, inverse, counts = np.unique(np.asarray(values, "float64"), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]
