"""What a comparison found: a table, what it cost, three sentences in words, and pictures."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import methodcaller
from pathlib import Path
from typing import Any

import numpy as np

from bert4albert.experiment.points import BASELINE
from bert4albert.experiment.sentences import sentences
from bert4albert.experiment.statistics import Difference, paired_difference, supported
from bert4albert.files import write_atomically, write_json
from bert4albert.pictures import draw_comparison

# What a run cost depends on the machine and what else it does, and so is in files of its own.
_COSTS = ("seconds_per_epoch", "peak_memory_mb")


@dataclass
class Result:
    """One point: its runs at the learning rate that is best for it, a seed each, and how it differs.

    Arguments:
        point: its name.
        runs, costs: what the files of its runs hold, in the order of the seeds.
        is_baseline: whether it is what the others are compared with.
        difference: from the baseline, on the examples that the runs were judged on.
        supported: whether the difference may be claimed.
    """

    point: str
    runs: list[dict[str, Any]]
    costs: list[dict[str, Any]]
    is_baseline: bool = False
    difference: Difference = Difference(0.0)  # noqa: RUF009  (a tuple)
    supported: bool = False

    @property
    def curves(self) -> np.ndarray:
        """The metric on the validation examples, [seeds, epochs]."""
        return np.array([run["history"][run["metric"]] for run in self.runs])

    @property
    def judged(self) -> np.ndarray:
        """The metric of the best epoch's weights on the test examples, or else the validation examples, [seeds]."""
        return np.array([run["metrics"][run["metric"]] for run in self.runs])

    @property
    def resampled(self) -> np.ndarray:
        """What `judged` would be on other examples, [seeds, resamples]."""
        return np.array([run["resampled"] for run in self.runs])

    @property
    def drift(self) -> dict[str, np.ndarray]:
        """How far each depth has moved, for each part [seeds, depth]."""
        return {part: np.array([run["drift"][part] for run in self.runs]) for part in self.runs[0]["drift"]}

    def row(self) -> dict[str, Any]:
        """Return the point's row of the table."""
        curves, on_test = self.curves, self.runs[0]["judged_on"] == "test"
        difference = self.difference
        values = {
            "point": self.point,
            "learning_rate": self.runs[0]["learning_rate"],
            "seeds": len(self.runs),
            "best": _mean(curves.max(axis=1)),
            "best_spread": _spread(curves.max(axis=1)),
            "epoch_1": _mean(curves[:, 0]),
            "best_epoch": _mean(curves.argmax(axis=1) + 1),
            "area": _mean(curves.mean(axis=1)),
            "test": _mean(self.judged) if on_test else None,
            "test_spread": _spread(self.judged) if on_test else None,
            "difference": None if self.is_baseline else difference.mean,
            "low": difference.low if difference.bounded else None,
            "high": difference.high if difference.bounded else None,
            "supported": None if self.is_baseline else self.supported,
            "trainable": self.runs[0]["trainable"],
            "parameters": self.runs[0]["parameters"],
        }
        return {name: round(value, 6) if isinstance(value, float) else value for name, value in values.items()}

    def costs_row(self) -> dict[str, Any]:
        """Return the point's row of the table of costs."""
        means = {}
        for name in _COSTS:
            known = [cost[name] for cost in self.costs if cost[name] is not None]
            means[name] = round(sum(known) / len(known), 3) if known else None
        return {"point": self.point, **means}


@dataclass
class Report:
    """What `compare` found; `print` shows it.

    Attributes:
        folder: where everything is.
        metric: what is compared.
        results: a `Result` for each point.
        sentences: what is better and by how much, whether the seeds support it, what to do next.
        pictures: the pictures drawn; none without matplotlib.

    Examples:
        >>> from pathlib import Path
        >>> from bert4albert.experiment import Report
        >>> report = Report(Path("compared"), "accuracy", results=[], sentences=["One point only."], pictures=[])
        >>> report.sentences
        ['One point only.']
    """

    folder: Path
    metric: str
    results: list[Result]
    sentences: list[str]
    pictures: list[Path]

    def __str__(self) -> str:
        pictures = ", ".join(str(path) for path in self.pictures if path.suffix == ".png")
        return "\n".join(
            [
                table_of(self.results),
                "",
                *self.sentences,
                "",
                f"report    {self.folder / 'report.md'}",
                f"pictures  {pictures or 'none: they need matplotlib (pip install bert4albert[plot])'}",
            ]
        )


def write_report(
    folder: Path, points: Sequence[str], found: Sequence[Mapping[str, Any]], costs: Sequence[Mapping[str, Any]]
) -> Report:
    """Write all that a comparison found into its folder.

    Arguments:
        folder: the folder.
        points: the names of the points, in the order of the table.
        found: what the files of the runs hold.
        costs: what the files of their costs hold, in the same order.

    Returns:
        The report. `table.*` depends on nothing but the settings; seconds and memory are in `costs.*`.
    """
    results = judge([_at_best_rate(point, found, costs) for point in points])
    words = sentences(results)
    rows, cost_rows = [result.row() for result in results], [result.costs_row() for result in results]
    metric = results[0].runs[0]["metric"]
    write_json(folder / "table.json", {"metric": metric, "points": rows, "sentences": words})
    write_json(folder / "costs.json", {"points": cost_rows})
    pictures = draw_comparison(results, folder)
    shown = [f"![{path.stem}]({path.name})" for path in pictures if path.suffix == ".png"]
    texts = {
        "table.csv": _csv(rows),
        "costs.csv": _csv(cost_rows),
        "table.md": table_of(results, costs=False),
        "costs.md": _markdown([{"point": r["point"], **_shown_costs(r)} for r in cost_rows]),
        "report.md": "\n\n".join([table_of(results), *words, *shown]),
    }
    for name, text in texts.items():
        write_atomically(folder / name, methodcaller("write", f"{text.rstrip()}\n".encode()))
    return Report(folder, metric, results, words, pictures)


def judge(results: Sequence[Result]) -> list[Result]:
    """Return results with their differences from the baseline, and which of them may be claimed."""
    baseline = next((result for result in results if result.point == BASELINE), results[0])
    baseline.is_baseline = True
    others = [result for result in results if not result.is_baseline]
    for result in others:
        result.difference = paired_difference(
            result.judged, baseline.judged, result.resampled, baseline.resampled, baseline.runs[0]["examples"]
        )
    claims = supported([result.difference for result in others])
    for result, claim in zip(others, claims, strict=True):
        result.supported = claim
    return list(results)


def table_of(results: Sequence[Result], costs: bool = True) -> str:
    """Return the results as a Markdown table, metrics in points of a hundred, with or without what they cost."""
    on_test = results[0].runs[0]["judged_on"] == "test"
    metric, rows = results[0].runs[0]["metric"], []
    for result in results:
        row, shown = result.row(), {"point": result.point}
        if row["learning_rate"] is not None:
            shown["learning rate"] = f"{row['learning_rate']:g}"
        shown[f"best {metric}"] = _with_spread(row["best"], row["best_spread"])
        shown["epoch 1"] = f"{100 * row['epoch_1']:.2f}"
        shown["best epoch"] = f"{row['best_epoch']:.1f}"
        shown["area"] = f"{100 * row['area']:.2f}"
        if on_test:
            shown["test"] = _with_spread(row["test"], row["test_spread"])
        shown[f"difference on {'test' if on_test else 'valid'}"] = _with_interval(result)
        shown["trained parameters"] = f"{row['trainable']:,}"
        rows.append(shown | (_shown_costs(result.costs_row()) if costs else {}))
    return _markdown(rows)


def _at_best_rate(point: str, found: Sequence[Mapping[str, Any]], costs: Sequence[Mapping[str, Any]]) -> Result:
    """Return the runs of a point at the learning rate whose best epochs have the largest mean on `valid`."""
    of_rate: dict[Any, Result] = {}
    for run, cost in zip(found, costs, strict=True):
        if run["point"] == point:
            result = of_rate.setdefault(run["learning_rate"], Result(point, [], []))
            result.runs.append(dict(run))
            result.costs.append(dict(cost))
    return max(of_rate.values(), key=lambda result: result.curves.max(axis=1).mean())


def _shown_costs(row: Mapping[str, Any]) -> dict[str, str]:
    seconds, memory = row["seconds_per_epoch"], row["peak_memory_mb"]
    return {"s/epoch": f"{seconds:.1f}", "peak memory": "" if memory is None else f"{memory:,.0f} MB"}


def _with_spread(mean: float, spread: float | None) -> str:
    return f"{100 * mean:.2f}" + ("" if spread is None else f" ± {100 * spread:.2f}")


def _with_interval(result: Result) -> str:
    difference = result.difference
    if result.is_baseline:
        return ""
    mean = f"{100 * difference.mean:+.2f}"
    mean = f"**{mean}**" if result.supported else mean
    if not difference.bounded:
        return mean
    return f"{mean} ({100 * difference.low:+.2f} to {100 * difference.high:+.2f})"


def _markdown(rows: Sequence[Mapping[str, str]]) -> str:
    """Return a Markdown table that is also a table where Markdown is shown as text."""
    lines = [list(rows[0]), *([*row.values()] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    )


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def _mean(values: np.ndarray) -> float:
    return float(values.mean())


def _spread(values: np.ndarray) -> float | None:
    """Return the standard deviation over seeds; None for a single one."""
    return float(values.std(ddof=1)) if len(values) > 1 else None
