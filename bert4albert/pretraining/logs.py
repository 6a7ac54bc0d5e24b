"""What a run says while it goes on: a progress bar, a CSV file, TensorBoard's files, and a picture at the end."""

from __future__ import annotations

import csv
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bert4albert.files import explained, write_atomically
from bert4albert.pretraining.progress import ProgressLine

_COLUMNS = ("step", "tokens", "seconds", "split", "loss")


class RunLog:
    """The log of a run, continued where its folder has one.

    Arguments:
        folder: where `log.csv`, `curves.png` and `tensorboard/` go.
        every: steps between two lines about training.
        step: the step the run is at; lines about later ones, from before an interruption, are dropped.
        steps: the last step.
        tokens_per_step: the tokens of a step, padding included, a teacher's passages not.
        measures: what is measured beside the loss.
        tensorboard: whether to write TensorBoard's files too.
    """

    def __init__(
        self,
        folder: Path,
        every: int,
        step: int,
        steps: int,
        tokens_per_step: int,
        measures: Iterable[str],
        tensorboard: bool,
    ) -> None:
        self._folder, self._every, self._steps, self._tokens_per_step = folder, every, steps, tokens_per_step
        self._columns = (*_COLUMNS, *measures)
        self._path = folder / "log.csv"
        rows = [row for row in read_log(self._path) if row["step"] <= step]
        write_atomically(self._path, lambda file: file.write(_as_csv(rows, self._columns).encode()))
        self._seconds = rows[-1]["seconds"] if rows else 0.0
        self._step, self._last = step, time.monotonic()
        self._progress = ProgressLine("Pretraining", step / steps)
        self._board = _TensorBoard(folder / "tensorboard") if tensorboard else None
        self._held_out = ""
        self._measured: list[Mapping[str, float]] = []

    def add(self, measured: Mapping[str, float]) -> None:
        """Note what was measured on one batch."""
        self._measured.append(measured)

    def training(self, step: int, last: bool) -> None:
        """Log the averages since the last line, where it is time for one."""
        if step % self._every and not last:
            return
        now = time.monotonic()
        tokens, seconds = (step - self._step) * self._tokens_per_step, now - self._last
        self._seconds += seconds
        self._step, self._last = step, now
        measured, self._measured = average(self._measured), []
        self._add(step, "train", measured)
        note = f"step {step:,} {_in_words(measured)}{self._held_out} {tokens / seconds:,.0f} tokens/s"
        self._progress.show(step / self._steps, note, last)

    def validation(self, step: int, measured: Mapping[str, float]) -> None:
        """Log what was measured on held-out documents; its time does not count as training."""
        self._last = time.monotonic()
        self._held_out = f" (held out: {_in_words(measured)})"
        self._add(step, "valid", measured)

    def close(self) -> None:
        """Draw the curves."""
        draw_curves(read_log(self._path), self._folder / "curves.png")

    def _add(self, step: int, split: str, measured: Mapping[str, float]) -> None:
        row = {"step": step, "tokens": step * self._tokens_per_step, "seconds": round(self._seconds, 1), "split": split}
        row |= {name: round(float(value), 5) for name, value in measured.items()}
        with explained(self._path), self._path.open("a", encoding="utf-8", newline="") as file:
            file.write(_as_csv([row], self._columns, header=False))
        if self._board is not None:
            self._board.write(step, split, measured)


def average(measured: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of each number."""
    return {name: sum(float(one[name]) for one in measured) / len(measured) for name in measured[0]}


def read_log(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a run's log.csv, numbers as numbers; an empty list where there is no file."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        # A line that a crash cut short has fewer fields.
        rows = [row for row in csv.DictReader(file) if None not in row.values()]
    whole = ("step", "tokens")
    return [
        {key: value if key == "split" else int(value) if key in whole else float(value) for key, value in row.items()}
        for row in rows
    ]


def draw_curves(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw loss and accuracies over tokens, if matplotlib is installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for split, style in (("train", "-"), ("valid", "o-")):
        chosen = [row for row in rows if row["split"] == split]
        tokens = [row["tokens"] / 1e6 for row in chosen]
        lines = ((left, "mlm_loss"), (right, "mlm_accuracy"), (right, "sop_accuracy"), (right, "vector_cosine"))
        for axes, name in ((axes, name) for axes, name in lines if chosen and name in chosen[0]):
            axes.plot(tokens, [row[name] for row in chosen], style, label=f"{name} {split}", markersize=3, linewidth=1)
    for axes, title in ((left, "loss"), (right, "accuracy")):
        axes.set_xlabel("million tokens")
        axes.set_title(title)
        axes.grid(alpha=0.3)
        axes.legend()
    write_atomically(path, lambda file: figure.savefig(file, format="png", dpi=120))


class _TensorBoard:
    """TensorBoard's event files, written without the package `tensorboard`, which `tf.summary` asks for."""

    def __init__(self, folder: Path) -> None:
        import tensorflow as tf

        self._tf = tf
        self._files = {}
        for split in ("train", "valid"):
            (folder / split).mkdir(parents=True, exist_ok=True)
            path = folder / split / f"events.out.tfevents.{time.time_ns()}"
            self._files[split] = tf.io.TFRecordWriter(str(path))
            self._record(split, file_version="brain.Event:2")

    def write(self, step: int, split: str, measured: Mapping[str, float]) -> None:
        summary = self._tf.compat.v1.Summary
        values = [summary.Value(tag=name, simple_value=float(value)) for name, value in measured.items()]
        self._record(split, step=step, summary=summary(value=values))

    def _record(self, split: str, **content: Any) -> None:
        event = self._tf.compat.v1.Event(wall_time=time.time(), **content)
        self._files[split].write(event.SerializeToString())
        self._files[split].flush()


def _as_csv(rows: list[dict[str, Any]], columns: Sequence[str], header: bool = True) -> str:
    lines = [",".join(columns)] if header else []
    lines += [",".join(str(row[column]) for column in columns) for row in rows]
    return "".join(f"{line}\n" for line in lines)


def _in_words(measured: Mapping[str, float]) -> str:
    words = f"loss {measured['loss']:.3f} words {measured['mlm_accuracy']:.1%} order {measured['sop_accuracy']:.1%}"
    return words + (f" vectors {measured['vector_cosine']:.3f}" if "vector_cosine" in measured else "")
