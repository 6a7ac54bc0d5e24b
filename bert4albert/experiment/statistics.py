"""How far apart two points are: the paired difference, how sure it is, and what more seeds would show.

A difference is uncertain for two reasons. *Seeds*: another seed would have trained two other models. Of a few seeds the
spread itself is known badly, for which Student's t makes up; to draw three seeds again and again instead gives
intervals that are far too short. *Examples*: others would have asked other questions, of all seeds alike, so that more
seeds do not help; a bootstrap shows how much they move the difference of all seeds together. The two variances
add up, and the quantile is the mean of Student's t for each, weighted by them (Cochran and Cox, 1950).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

CONFIDENCE = 0.95
# A little below 5 %, so that of a hundred comparisons without a difference seldom more than five claim one.
CLAIM_LEVEL = 0.04
RESAMPLES = 200
# Three seeds can agree by chance to the last example, on which no certainty may be built.
_LEAST_SHARE = 0.1
_CONFIDENCES = 1 - np.geomspace(1.0, 1e-7, 2_001)


class Difference(NamedTuple):
    """How much better one point is than another.

    Attributes:
        mean: the mean over seeds of the difference of their metrics.
        low, high: the interval that holds the true difference with `CONFIDENCE`; without bounds with a single seed.
        probability: how often a difference as large would come up if there was none; 1 with a single seed.
        by_seeds: the standard deviation of the difference between two seeds.
        by_examples: the standard deviation that the choice of examples gives to all seeds alike.
        examples: how many there were.
    """

    mean: float
    low: float = -math.inf
    high: float = math.inf
    probability: float = 1.0
    by_seeds: float = 0.0
    by_examples: float = 0.0
    examples: int = 1

    @property
    def bounded(self) -> bool:
        """Whether there is an interval."""
        return math.isfinite(self.low)


def resamples(examples: int, count: int = RESAMPLES) -> np.ndarray:
    """Return which examples each bootstrap sample has, [count, examples]: the same ones for every run."""
    return np.random.default_rng(0).integers(0, examples, (count, examples))


def paired_difference(
    metrics: npt.ArrayLike,
    baseline: npt.ArrayLike,
    resampled: npt.ArrayLike,
    baseline_resampled: npt.ArrayLike,
    examples: int,
    confidence: float = CONFIDENCE,
) -> Difference:
    """Return how much better a point is than the baseline, seed by seed.

    Arguments:
        metrics, baseline: the metric of each seed, in the same order, [seeds].
        resampled, baseline_resampled: for each seed its metric on each of the `resamples`, [seeds, count].
        examples: how many examples the metric was measured on.
        confidence: of the interval.

    Returns:
        The difference and its interval.
    """
    differences = np.subtract(metrics, baseline)
    mean, seeds = float(differences.mean()), len(differences)
    if seeds < 2:
        return Difference(mean)
    covariance = np.cov(np.subtract(resampled, baseline_resampled))
    # What examples do to one seed is in the spread over seeds; what they do to all alike is not.
    alike = max(float(covariance.sum() - covariance.trace()) / (seeds * (seeds - 1)), 0.0)
    own = max(float(covariance.diagonal().mean()) - alike, 0.0)
    by_seeds = max(float(differences.std(ddof=1)), _LEAST_SHARE * own**0.5)
    # Where a few examples all agree, resampling them shows no doubt; the next one may still be another case.
    by_examples = max(alike**0.5, 1 / examples if mean else 0.0)
    found = Difference(mean, by_seeds=by_seeds, by_examples=by_examples, examples=examples)
    half = float(_distance(confidence, found, seeds))
    probability = float(np.interp(abs(mean), _distance(_CONFIDENCES, found, seeds), 1 - _CONFIDENCES)) if mean else 1.0
    return found._replace(low=mean - half, high=mean + half, probability=probability)


def supported(differences: Sequence[Difference], level: float = CLAIM_LEVEL) -> list[bool]:
    """Return which of several differences may be claimed; at most `level` of such sets have a false claim (Holm, 1979).

    A difference whose own interval holds zero is never claimed.
    """
    order = sorted(range(len(differences)), key=lambda i: differences[i].probability)
    claimed = [False] * len(differences)
    for rank, i in enumerate(order):
        one = differences[i]
        if one.probability > level / (len(differences) - rank):
            break
        claimed[i] = one.low > 0 or one.high < 0
    return claimed


def seeds_needed(difference: Difference, comparisons: int = 1, most: int = 30) -> int | None:
    """Return how many seeds would tell a difference of this size from none among several comparisons.

    None where even `most` would not.
    """
    for seeds in range(2, most + 1):
        if _distance(1 - CLAIM_LEVEL / comparisons, difference, seeds) <= abs(difference.mean):
            return seeds
    return None


def _distance(confidence: Any, difference: Difference, seeds: int) -> Any:
    """Return how far the mean over seeds of a difference is from the truth at most, with these confidences."""
    from_seeds, from_examples = difference.by_seeds**2 / seeds, difference.by_examples**2
    total = from_seeds + from_examples
    if not total:
        return np.zeros_like(confidence)
    of_examples = _student(confidence, max(min(difference.examples, RESAMPLES) - 1, 1))
    return (from_seeds * _student(confidence, seeds - 1) + from_examples * of_examples) / total**0.5


def _student(confidence: Any, degrees: int) -> Any:
    """Return how far from zero Student's t is at most, with these confidences."""
    return np.interp(confidence, *_student_distribution(degrees))


@functools.cache
def _student_distribution(degrees: int) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities, and the distance from zero within which Student's t is with each of them."""
    # With t = sqrt(degrees) tan(angle) the density is a power of the cosine.
    edges = np.linspace(0.0, np.pi / 2, 100_001)
    within = np.cumsum(np.cos((edges[:-1] + edges[1:]) / 2) ** (degrees - 1))
    return np.concatenate([[0.0], within[:-1]]) / within[-1], degrees**0.5 * np.tan(edges[:-1])
