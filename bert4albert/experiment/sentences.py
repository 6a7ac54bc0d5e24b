"""A comparison in three sentences: what is better and by how much, whether the seeds support it, what to do next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bert4albert.experiment.statistics import CONFIDENCE, seeds_needed

if TYPE_CHECKING:
    from bert4albert.experiment.report import Result

_ON = {"valid": "on the validation examples", "test": "on the test examples"}


def sentences(results: Sequence[Result]) -> list[str]:
    """Return three sentences about the results of a comparison, in points of a hundred.

    No point is called better or worse unless its difference is `supported`, so never where its interval holds zero.
    """
    baseline = next(result for result in results if result.is_baseline)
    others = [result for result in results if not result.is_baseline]
    if not others:
        return [
            f"{baseline.point} reaches {_level(baseline)}; there is no other point to compare it with.",
            f"It was trained with {_seeds(baseline)}.",
            "Next: give a second point, such as unshared.",
        ]
    claimed = [result for result in others if result.supported]
    if claimed:
        return [_what_differs(claimed, baseline), _why_to_believe(claimed), _what_to_use(claimed, baseline)]
    largest = max(others, key=lambda result: abs(result.difference.mean))
    first = (
        f"Nothing can be told from {baseline.point}, which reaches {_level(baseline)}: the largest difference is that "
        f"of {largest.point}, {_gap(largest)}."
    )
    return [first, _why_not(others, largest), _what_to_try(others, largest, baseline)]


def _what_differs(claimed: Sequence[Result], baseline: Result) -> str:
    parts = [
        f"{result.point} is {_gap(result, claimed=True)}"
        for result in sorted(claimed, key=lambda result: -result.difference.mean)
    ]
    return f"Against {baseline.point}, which reaches {_level(baseline)}: {'; '.join(parts)}."


def _why_to_believe(claimed: Sequence[Result]) -> str:
    chance = max(result.difference.probability for result in claimed)
    return (
        f"The seeds support it ({_seeds(claimed[0])}): without a true difference, chance would give one as large in "
        f"{_share(chance)} of 100 comparisons{'' if len(claimed) == 1 else ' at most'}."
    )


def _what_to_use(claimed: Sequence[Result], baseline: Result) -> str:
    better = [result for result in claimed if result.difference.mean > 0]
    if not better:
        return f"Next: keep {baseline.point}."
    best = max(better, key=lambda result: result.difference.mean)
    smallest = min(better, key=lambda result: result.runs[0]["trainable"])
    times = best.runs[0]["trainable"] / baseline.runs[0]["trainable"]
    cheaper = f", or {smallest.point}, which trains fewer," if smallest is not best else ""
    return f"Next: use {best.point}, which trains {times:.2f} times as many parameters{cheaper} on data like these."


def _why_not(others: Sequence[Result], largest: Result) -> str:
    if len(largest.runs) == 1:
        return "A single seed supports no difference: how much another one would change is not known."
    beyond = [result.point for result in others if not result.difference.low <= 0 <= result.difference.high]
    if beyond:
        return (
            f"The interval of {' and '.join(beyond)} leaves zero out, but among {len(others)} comparisons with "
            f"{_seeds(largest)} that is too often chance to be claimed."
        )
    return f"The seeds do not support a winner ({_seeds(largest)}): every interval holds zero."


def _what_to_try(others: Sequence[Result], largest: Result, baseline: Result) -> str:
    if len(largest.runs) == 1:
        return "Next: three seeds or more (the same folder goes on with more seeds)."
    keep = f"Next: keep {baseline.point}"
    seeds = seeds_needed(largest.difference, len(others))
    if seeds is None:
        return f"{keep}; more seeds would not tell so small a difference on so few examples, more examples might."
    seeds = max(seeds, len(largest.runs) + 1)
    return f"{keep}, or go on: a difference like that of {largest.point} would take about {seeds} seeds."


def _level(result: Result) -> str:
    run = result.runs[0]
    return f"{run['metric']} {100 * result.judged.mean():.2f} {_ON[run['judged_on']]}"


def _gap(result: Result, claimed: bool = False) -> str:
    """Return a difference in words: as better or worse where it may be claimed, else with its sign."""
    difference = result.difference
    mean, low, high = (100 * value for value in (difference.mean, difference.low, difference.high))
    if claimed and mean < 0:
        return f"worse by {-mean:.2f} points ({100 * CONFIDENCE:.0f} % interval {-high:.2f} to {-low:.2f})"
    if claimed:
        return f"better by {mean:.2f} points ({100 * CONFIDENCE:.0f} % interval {low:.2f} to {high:.2f})"
    if not difference.bounded:
        return f"{mean:+.2f} points"
    return f"{mean:+.2f} points ({100 * CONFIDENCE:.0f} % interval {low:+.2f} to {high:+.2f})"


def _seeds(result: Result) -> str:
    return "1 seed" if len(result.runs) == 1 else f"{len(result.runs)} seeds"


def _share(probability: float) -> str:
    return "fewer than 0.1" if probability < 0.001 else f"{100 * probability:.1f}"
