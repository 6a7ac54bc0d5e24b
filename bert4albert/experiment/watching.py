"""How far a comparison is: which run, its metric so far, the time left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from bert4albert.experiment.runs import Experiment, Run, read_run
from bert4albert.pretraining.progress import ProgressLine


class Watcher:
    """Says on standard error how far the runs of a comparison are.

    Arguments:
        experiment, runs: what is done.
        show: False for silence.
    """

    def __init__(self, experiment: Experiment, runs: Sequence[Run], show: bool) -> None:
        self._experiment, self._runs, self._show = experiment, list(runs), show
        self._known = {run.name for run in runs if experiment.file(run).exists()}
        self._line = ProgressLine("Comparing", len(self._known) / len(runs))

    def callbacks(self, run: Run) -> list[keras.callbacks.Callback]:
        """Return Keras callbacks that follow one run."""
        return [_Follow(self, run)] if self._show else []

    def look(self) -> None:
        """Say which runs have finished since the last look."""
        for run in self._runs:
            if self._show and run.name not in self._known and self._experiment.file(run).exists():
                self._known.add(run.name)
                found = read_run(self._experiment.file(run))
                best = max(found["history"][found["metric"]])
                note = f"{_title(run)}: best {found['metric']} {best:.4f};"
                self._line.show(len(self._known) / len(self._runs), note, last=True)

    def within(self, run: Run, fraction: float, note: str) -> None:
        """Say how far a run is."""
        self.look()
        self._line.show((len(self._known) + fraction) / len(self._runs), f"{_title(run)}{note};")


class _Follow(keras.callbacks.Callback):
    """Tells a `Watcher` about each step of a run."""

    def __init__(self, watcher: Watcher, run: Run) -> None:
        super().__init__()
        self._watcher, self._of_run = watcher, run
        self._epoch, self._note = 0, ""

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        epochs, steps = self.params["epochs"], self.params["steps"]
        self._watcher.within(self._of_run, (self._epoch + (batch + 1) / steps) / epochs, self._note)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        measured = {name: value for name, value in (logs or {}).items() if name != "loss"}
        self._note = "".join(f", {name} {value:.4f}" for name, value in [*measured.items()][:1])


def _title(run: Run) -> str:
    rate = "" if run.learning_rate is None else f" at {run.learning_rate:g}"
    return f"{run.point.name}{rate}, seed {run.seed}"
