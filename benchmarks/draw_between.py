"""Draw the space between shared and unshared: `python benchmarks/draw_between.py` writes docs/between.png."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from bert4albert.sharing import parse_schedule, unshared_schedule

DEPTH = 12
COLOURS = [*("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"), *("#7F7F7F", "#8C564B", "#BCBD22")]
COLOURS += ["#17BECF", "#9467BD", "#2F4B7C"]
ALBERT = parse_schedule([0] * DEPTH, unshared_schedule(DEPTH))


def copies(axes: Axes, row: float, used: tuple[int, ...], label: str, height: float = 0.7) -> None:
    """Draw a square for each depth, coloured by the copy of the weights that it uses."""
    for depth, copy in enumerate(used):
        axes.add_patch(Rectangle((depth, row), 0.9, height, color=COLOURS[copy], linewidth=0))
    axes.text(-0.4, row + height / 2, label, ha="right", va="center", fontsize=8)


def tidy(axes: Axes, title: str, rows: float) -> None:
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_xlim(-5.2, DEPTH)
    axes.set_ylim(rows, -0.3)
    axes.axis("off")


def structure(axes: Axes) -> None:
    specs = ["shared", "groups:3", "cycle:3", "cycle_rev:3", "sandwich", "middle_cycle:3", "unshared"]
    for row, spec in enumerate(specs):
        copies(axes, row, parse_schedule(spec, ALBERT).attention, spec)
    tidy(axes, "structure: which depths share", len(specs))


def part(axes: Axes) -> None:
    schedule = parse_schedule({"feed_forward": "unshared", "norm": "groups:3"}, ALBERT)
    names = ("attention", "attention_norm", "feed_forward", "output_norm")
    for row, name in enumerate(names):
        copies(axes, row, schedule[name], name.replace("_", " "))
    tidy(axes, "part: which weights share", 7)


def rank(axes: Axes) -> None:
    for row, (label, height) in enumerate((("shared", 0.0), ("depth_bias", 0.06), ("rank 8", 0.18), ("rank 64", 0.42))):
        copies(axes, 1.5 * row, ALBERT.attention, label)
        for depth in range(DEPTH if height else 0):
            axes.add_patch(Rectangle((depth, 1.5 * row + 0.75), 0.9, height, color=COLOURS[depth], linewidth=0))
    tidy(axes, "rank: what each depth adds", 7)


def time(axes: Axes) -> None:
    for row, (label, spec) in enumerate((("step 0", "shared"), ("500", "groups:3"), ("1000", "unshared"))):
        copies(axes, 2 * row, parse_schedule(spec, ALBERT).attention, label)
    tidy(axes, "time: when copies are let go", 7)


def strength(axes: Axes) -> None:
    steps = np.arange(200)
    for strength, colour in zip((0.0, 0.02, 0.1, 1.0), COLOURS, strict=False):
        apart = np.zeros(len(steps))
        for step in steps[1:]:
            apart[step] = (apart[step - 1] + 0.01) * (1 - strength)
        axes.plot(steps, apart, color=colour, linewidth=2)
        axes.text(202, apart[-1], f"{strength:g}", color=colour, fontsize=8, va="center")
    axes.set_title("strength: how far copies part, by the pull a step", fontsize=10, loc="left")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_xlabel("steps", fontsize=8)
    axes.set_ylabel("distance between copies", fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def main() -> None:
    figure = Figure(figsize=(12, 5.4), layout="constrained")
    panels = figure.subplots(2, 3)
    for axes, draw in zip(panels.flat, (structure, part, rank, time, strength), strict=False):
        draw(axes)
    words = panels.flat[5]
    words.axis("off")
    words.text(0, 0.9, "ALBERT: one copy for all depths\nBERT: one copy for each depth", va="top", fontsize=10)
    words.text(0, 0.55, "A square is a depth, a colour a copy of weights.", va="top", fontsize=9)
    words.text(0, 0.4, "Every point starts as exactly the checkpoint.", va="top", fontsize=9)
    figure.savefig(Path(__file__).parents[1] / "docs" / "between.png", dpi=130, metadata={"Software": None})


if __name__ == "__main__":
    main()
