"""Runs: one model trained and measured, a small file for each, and no run done twice."""

from __future__ import annotations

import contextlib
import gc
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from bert4albert.build import build_model
from bert4albert.depth_drift import distances, remember
from bert4albert.errors import DataError
from bert4albert.experiment.points import Point
from bert4albert.experiment.statistics import resamples
from bert4albert.files import claimed, write_json
from bert4albert.tasks import Task

# Other processes are asked so often, in seconds, whether they have finished or died.
_PATIENCE = 1.0


class Run(NamedTuple):
    """One model to train: a point, a learning rate (None: as the point or `Task.fit` says) and a seed."""

    point: Point
    learning_rate: float | None
    seed: int

    @property
    def name(self) -> str:
        """The name of its files."""
        rate = "" if self.learning_rate is None else f".rate{self.learning_rate:g}"
        return f"{self.point.file_name}{rate}.seed{self.seed}"


@dataclass(frozen=True)
class Experiment:
    """All that the runs of a comparison have in common.

    Arguments:
        make_task: makes an untrained task from a trunk.
        config, checkpoint: as for `build_model`.
        train, valid: examples.
        test: examples that have no say in anything that is chosen; None where there are none.
        folder: where the files go.
    """

    make_task: Callable[[Any], Task]
    config: Any
    checkpoint: Any
    train: Sequence[Any]
    valid: Sequence[Any]
    test: Sequence[Any] | None
    folder: Path

    def file(self, run: Run) -> Path:
        """The file of a finished run."""
        return self.folder / "runs" / f"{run.name}.json"

    def costs_file(self, run: Run) -> Path:
        """The file of what a run cost, which differs from time to time."""
        return self.folder / "costs" / f"{run.name}.json"

    def new_task(self, point: Point) -> Task:
        """Return the untrained task of a point."""
        return self.make_task(build_model(self.config, self.checkpoint, **point.build))


def work(experiment: Experiment, runs: Sequence[Run], callbacks: Callable[[Run], list[Any]] = lambda run: []) -> None:
    """Do all runs that are not finished and that no other process is doing, and wait for those.

    Arguments:
        experiment: what the runs have in common.
        runs: the runs, in the order in which they are tried.
        callbacks: gives Keras callbacks to watch a run with.
    """
    (experiment.folder / "runs").mkdir(parents=True, exist_ok=True)
    (experiment.folder / "costs").mkdir(exist_ok=True)
    left = list(runs)
    while left := [run for run in left if not experiment.file(run).exists()]:
        done = False
        for run in left:
            with claimed(experiment.file(run).with_suffix(".lock")) as mine:
                if mine and not experiment.file(run).exists():
                    carry_out(experiment, run, callbacks(run))
                    done = True
        if not done:
            time.sleep(_PATIENCE)
    for run in runs:  # the claim of a process that was killed after its run was written
        experiment.file(run).with_suffix(".lock").unlink(missing_ok=True)


def carry_out(experiment: Experiment, run: Run, callbacks: Sequence[Any] = ()) -> None:
    """Train and measure one model, and write its two files, what it cost first."""
    # For weights that start at random and have no seed of their own, such as those of a trunk without a checkpoint.
    keras.utils.set_random_seed(run.seed)
    watch = _Watch()
    task = experiment.new_task(run.point)
    start = remember(task.backbone)
    fit = run.point.fit if run.learning_rate is None else {**run.point.fit, "learning_rate": run.learning_rate}
    history = task.fit(
        experiment.train, experiment.valid, seed=run.seed, verbose=0, callbacks=[watch, *callbacks], **fit
    )
    found = {
        "point": run.point.name,
        "learning_rate": run.learning_rate,
        "seed": run.seed,
        "metric": task.metric,
        "history": {name: [float(value) for value in values] for name, values in history.items()},
        "trainable": sum(int(np.prod(weight.shape)) for weight in task.model.trainable_weights),
        "parameters": task.model.count_params(),
        "drift": distances(start, task.backbone),
        **_judged(task, experiment),
    }
    write_json(experiment.costs_file(run), watch.costs())
    write_json(experiment.file(run), found)
    # Keras' models refer to themselves; the next one needs the memory.
    del task
    gc.collect()


def _judged(task: Task, experiment: Experiment) -> dict[str, Any]:
    """Return what the best weights are worth, on the test examples where there are any."""
    examples = experiment.valid if experiment.test is None else experiment.test
    answers = task.predict([task.text_of(example) for example in examples])
    metrics = task.score(examples, answers)
    return {
        "judged_on": "valid" if experiment.test is None else "test",
        "examples": len(examples),
        "metrics": metrics,
        "resampled": [round(value, 6) for value in _resampled(task, examples, answers, metrics[task.metric])],
        "answers": [
            [str(example.text), str(answer), str(example.answer)]
            for example, answer in zip(map(task.example, examples[:3]), answers[:3], strict=True)
        ],
    }


def _resampled(task: Task, examples: Sequence[Any], answers: Sequence[Any], metric: float) -> list[float]:
    """Return the metric on each bootstrap sample of the examples."""
    chosen = resamples(len(examples))
    each = np.array([task.score([e], [a])[task.metric] for e, a in zip(examples, answers, strict=True)])
    if abs(each.mean() - metric) < 1e-9:  # an average over examples, unlike F1
        return each[chosen].mean(axis=1).tolist()
    return [task.score([examples[i] for i in rows], [answers[i] for i in rows])[task.metric] for rows in chosen]


def read_run(path: Path) -> dict[str, Any]:
    """Return what a file of a run holds."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is no file of a run ({error}): remove it, and the run is done again.") from None


class _Watch(keras.callbacks.Callback):
    """Measures the seconds of each epoch, without its evaluation, and the most memory of a run."""

    def __init__(self) -> None:
        super().__init__()
        self._seconds: list[float] = []
        # Forget the peak of earlier runs, where the system can (Linux).
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._began = self._ended = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._ended = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._seconds.append(self._ended - self._began)

    def costs(self) -> dict[str, float | None]:
        """Return seconds an epoch, the first of several left out, since it compiles; and megabytes."""
        seconds = statistics.median(self._seconds[1:] or self._seconds)
        return {"seconds_per_epoch": round(seconds, 3), "peak_memory_mb": _peak_memory()}


def _peak_memory() -> float | None:
    """Return the most megabytes that this process has had since its peak was forgotten; None where unknown."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return round(int(line.split()[1]) / 1024, 1)
    return None


def all_runs(points: Sequence[Point], learning_rates: Sequence[float] | None, seeds: int) -> Iterator[Run]:
    """Yield every run, seed by seed, so that a comparison that is cut short has compared something."""
    for seed in range(seeds):
        for point in points:
            for rate in learning_rates or [None]:  # type: ignore[list-item]
                yield Run(point, rate, seed)
