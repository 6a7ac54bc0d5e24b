"""Pictures of what was measured: learning curves, quality against cost, and how far depths have moved."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bert4albert.errors import ConfigError
from bert4albert.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from bert4albert.depth_drift import Drift
    from bert4albert.experiment.report import Result

# Told apart also by those who see few colours (Okabe and Ito, 2008), dark ones first.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
_MARKERS = "osD^vPX*"


def draw_comparison(results: Sequence[Result], folder: Path) -> list[Path]:
    """Draw the learning curves of a comparison, and quality against trained parameters and against seconds.

    Arguments:
        results: those of `experiment.compare`.
        folder: gets `curves`, `quality` and `drift`, each as .png and .svg.

    Returns:
        The files; none where matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return []
    curves = Figure(figsize=(7, 4.2), layout="constrained")
    _draw_curves(curves.subplots(), results)
    quality = Figure(figsize=(9.5, 4.2), layout="constrained")
    left, right = quality.subplots(1, 2, sharey=True)
    trained = [[run["trainable"] / 1e6 for run in result.runs] for result in results]
    _draw_quality(left, results, trained, "million trained parameters")
    _draw_quality(right, results, [[c["seconds_per_epoch"] for c in r.costs] for r in results], "seconds an epoch")
    right.set_ylabel("")
    if len(results[0].runs) > 1:
        quality.suptitle(f"Mean and standard deviation of {len(results[0].runs)} seeds")
    drift = Figure(figsize=(9.5, 4.2), layout="constrained")
    for axes, part in zip(drift.subplots(1, 2, sharey=True), ("attention", "feed_forward"), strict=True):
        _draw_drift(axes, results, part)
    drift.suptitle("How far each depth has moved from the pretrained weights")
    return [*save(curves, folder / "curves"), *save(quality, folder / "quality"), *save(drift, folder / "drift")]


def draw_drift(found: Sequence[Drift], path: str | os.PathLike[str]) -> list[Path]:
    """Draw the distance of each part of each depth from its start, and the rank that holds 90 % of it.

    Arguments:
        found: what `bert4albert.drift` returned.
        path: where, without an ending: .png and .svg are written.

    Returns:
        The files. Raises `ConfigError` where matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ConfigError("Drawing needs matplotlib: pip install 'bert4albert[plot]'.") from None
    figure = Figure(figsize=(9.5, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    parts = list(dict.fromkeys(moved.part for moved in found))
    for i, (part, colour) in enumerate(zip(parts, _cycle(COLOURS), strict=False)):
        of_part = [moved for moved in found if moved.part == part]
        places = [moved.depth + 0.2 * (i - 1.5) for moved in of_part]
        left.bar(places, [100 * m.distance for m in of_part], 0.18, color=colour, label=part.replace("_", " "))
        ranks = [m.rank for m in of_part if m.rank is not None]
        if len(ranks) == len(places):
            right.bar(places, ranks, 0.18, color=colour)
    left.set_ylabel("distance from the start, % of its norm")
    right.set_ylabel("rank that holds 90 % of it")
    for axes in (left, right):
        axes.set_xlabel("depth")
        axes.xaxis.get_major_locator().set_params(integer=True)
        _tidy(axes)
    left.legend(frameon=False)
    return save(figure, Path(path))


def save(figure: Figure, path: Path) -> list[Path]:
    """Write a figure as .png and .svg, the same bytes each time, and return the two paths."""
    import matplotlib as mpl

    paths = []
    # Without a salt, the names inside an SVG differ from time to time; with text as text it can be searched.
    with mpl.rc_context({"svg.hashsalt": path.name, "svg.fonttype": "none"}):
        for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
            paths.append(path.with_suffix(f".{kind}"))
            write_atomically(paths[-1], partial(figure.savefig, format=kind, dpi=150, metadata=metadata))
    return paths


def _draw_curves(axes: Any, results: Sequence[Result]) -> None:
    """Draw the mean over seeds of the metric after each epoch, and a band from the worst to the best seed."""
    for result, colour, marker in zip(results, _cycle(COLOURS), _cycle(_MARKERS), strict=False):
        curves = 100 * result.curves
        epochs = range(1, curves.shape[1] + 1)
        axes.fill_between(epochs, curves.min(axis=0), curves.max(axis=0), color=colour, alpha=0.15, linewidth=0)
        axes.plot(epochs, curves.mean(axis=0), color=colour, marker=marker, markersize=5, label=result.point)
    seeds = len(results[0].runs)
    axes.set_title(f"Mean of {seeds} seeds; band: worst to best" if seeds > 1 else "One seed")
    axes.set_xlabel("epoch")
    axes.set_ylabel(_quality_label(results, "valid"))
    axes.xaxis.get_major_locator().set_params(integer=True)
    _tidy(axes)
    axes.legend(frameon=False, loc="lower right")


def _draw_quality(axes: Any, results: Sequence[Result], costs: Sequence[Sequence[float]], label: str) -> None:
    """Draw each point's mean over seeds, with its spread in both directions."""
    for result, cost, colour, marker in zip(results, costs, _cycle(COLOURS), _cycle(_MARKERS), strict=False):
        judged = 100 * result.judged
        x, y = sum(cost) / len(cost), judged.mean()
        axes.errorbar(x, y, yerr=judged.std(ddof=1) if len(judged) > 1 else None, color=colour, capsize=3)
        axes.plot(x, y, marker, color=colour, markersize=8)
        axes.annotate(result.point, (x, y), xytext=(8, 5), textcoords="offset points", color=colour)
    axes.margins(x=0.3, y=0.15)
    axes.set_xlabel(label)
    axes.set_ylabel(_quality_label(results, results[0].runs[0]["judged_on"]))
    _tidy(axes)


def _draw_drift(axes: Any, results: Sequence[Result], part: str) -> None:
    """Draw the mean over seeds of the distance of each depth's weights from the start."""
    for result, colour, marker in zip(results, _cycle(COLOURS), _cycle(_MARKERS), strict=False):
        moved = 100 * result.drift[part].mean(axis=0)
        axes.plot(range(1, len(moved) + 1), moved, color=colour, marker=marker, markersize=5, label=result.point)
    axes.set_title(part.replace("_", "-"))
    axes.set_xlabel("depth")
    if part == "attention":
        axes.set_ylabel("distance, % of the weights' norm")
    else:
        axes.legend(frameon=False)
    axes.set_ylim(bottom=0)
    axes.xaxis.get_major_locator().set_params(integer=True)
    _tidy(axes)


def _quality_label(results: Sequence[Result], split: str) -> str:
    where = {"valid": "validation", "test": "test"}[split]
    return f"{results[0].runs[0]['metric']} on the {where} examples, %"


def _tidy(axes: Any) -> None:
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _cycle(values: Sequence[str]) -> Any:
    while True:
        yield from values
