"""A picture of how far the depths of a trunk have moved."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bert4albert.errors import ConfigError
from bert4albert.sharing import PARTS

if TYPE_CHECKING:
    from bert4albert.depth_drift import Drift

# Told apart also by those who see few colours (Okabe and Ito, 2008).
_COLOURS = ("#0072B2", "#56B4E9", "#D55E00", "#E69F00")


def draw_drift(found: Sequence[Drift], path: str | os.PathLike[str]) -> Path:
    """Draw the distance of each part of each depth from its start, and the rank that holds 90 % of it.

    Arguments:
        found: what `drift` returned.
        path: the file to write, such as 'drift.png' or 'drift.svg'.

    Returns:
        The path. Raises `ConfigError` where matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ConfigError("Drawing needs matplotlib: pip install 'bert4albert[plot]'.") from None
    depths = sorted({moved.depth for moved in found})
    by_place = {(moved.depth, moved.part): moved for moved in found}
    figure = Figure(figsize=(9.5, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    for i, (part, colour) in enumerate(zip(PARTS, _COLOURS, strict=True)):
        moved = [by_place[depth, part] for depth in depths]
        places = [depth + 0.2 * (i - 1.5) for depth in depths]
        left.bar(places, [100 * m.distance for m in moved], 0.18, color=colour, label=part.replace("_", " "))
        if all(m.rank is not None for m in moved):
            right.bar(places, [m.rank for m in moved], 0.18, color=colour)
    left.set_ylabel("distance from the start, % of its norm")
    right.set_ylabel("rank that holds 90 % of it")
    for axes in (left, right):
        axes.set_xlabel("depth")
        axes.set_xticks(depths)
        axes.spines[["top", "right"]].set_visible(False)
    left.legend(frameon=False)
    path = Path(path)
    figure.savefig(path, dpi=150)
    return path
