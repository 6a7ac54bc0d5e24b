"""The state of a training in one folder: all that is needed to go on as if nothing had happened."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from bert4albert.backend import random_state, set_random_state
from bert4albert.errors import ConfigError, DataError, require_whole
from bert4albert.training.state_file import fill, opened_state, write_state

if TYPE_CHECKING:
    from bert4albert.training.evaluator import Evaluator

_STATE_FILE = "state.npz"


class RunState(keras.callbacks.Callback):
    """Write the state of a training after every epoch, and read it again to go on.

    It comes last among the callbacks: an epoch at whose end another one fails has not ended, and is done again.

    Arguments:
        folder: made if it does not exist.
        facts: what the run is made of, by name, as JSON values; a run goes on with the same facts only.
        model: holds the weights and the random seeds; it need not be compiled.
        evaluator: knows the best weights so far; None where nothing is evaluated.

    Attributes:
        epoch: how many epochs have ended.
        finished: whether the run has come to its end.
        stopped: whether it was to end before its last epoch.
        history: the logs of each epoch, by name.

    Raises `ConfigError` where the folder holds a run with other facts, `DataError` where its state is damaged.

    Examples:
        >>> import keras
        >>> from bert4albert.training import RunState
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        >>> state = RunState("run", {"data": "train.tsv"}, model, evaluator=None)
        >>> state.epoch, state.finished  # nothing lies in the folder yet
        (0, False)
    """

    def __init__(
        self, folder: str | os.PathLike[str], facts: Mapping[str, Any], model: keras.Model, evaluator: Evaluator | None
    ) -> None:
        super().__init__()
        self.path = Path(folder) / _STATE_FILE
        self.facts = json.loads(json.dumps(facts))
        self.evaluator = evaluator
        self.epoch, self.finished, self.stopped = 0, False, False
        self.history: dict[str, list[float]] = {}
        self._task_model = model
        self._arrays: dict[str, np.ndarray] = {}
        self._best: list[np.ndarray] = []
        if self.path.exists():
            self._read()

    def restore(self, optimizer: keras.optimizers.Optimizer | None = None) -> None:
        """Put what was read into the model, the optimizer and the evaluator; a new run stays as it is.

        Arguments:
            optimizer: built; None for a run that has finished.
        """
        if not self._arrays:
            return
        self._fill("model", self._task_model.variables)
        if optimizer is not None:
            self._fill("optimizer", optimizer.variables)
            set_random_state(self._arrays.get("random"))
            if self.evaluator is not None:
                self.evaluator.set_state(self._progress["evaluator"], self._best)
        self._arrays, self._best = {}, []

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Go on from what was read; only now, since building a model can draw random numbers."""
        self.model.optimizer.build(self.model.trainable_variables)
        self.restore(self.model.optimizer)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Write the state."""
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(float(value))
        self.epoch = epoch + 1
        values = {
            **_named("model", self._task_model.variables),
            **_named("optimizer", self.model.optimizer.variables),
        }
        evaluator = None
        if self.evaluator is not None:
            evaluator, best = self.evaluator.state()
            values |= _named("best", best)
        if (state := random_state()) is not None:
            values["random"] = state
        self._write(values, stopped=bool(self.model.stop_training), evaluator=evaluator)

    def finish(self) -> None:
        """Write the weights that the run has ended with."""
        self.finished = True
        self._write(_named("model", self._task_model.variables), stopped=True, evaluator=None)

    def _write(self, values: Mapping[str, Any], **progress: Any) -> None:
        here = {"facts": self.facts, "epoch": self.epoch, "finished": self.finished, "history": self.history}
        write_state(self.path, {**here, **progress}, values)

    def _read(self) -> None:
        with opened_state(self.path) as (self._progress, read):
            self._arrays = read()
            count = sum(name.startswith("best/") for name in self._arrays)
            self._best = [self._arrays[f"best/{place}"] for place in range(count)]
            facts = self._progress["facts"]
            self.epoch, self.finished = self._progress["epoch"], self._progress["finished"]
            self.history = self._progress["history"]
            self.stopped = self._progress["stopped"]
            require_whole("epoch", self.epoch, 0, error=DataError)
            curves = [[*map(float, values)] for values in self.history.values()]
            if not isinstance(facts, dict) or any(len(values) > self.epoch for values in curves):
                raise ValueError("its parts contradict each other")
            if self.evaluator is not None and not self.finished:
                best, epoch = (self._progress["evaluator"][name] for name in ("best", "best_epoch"))
                self._check_best(best, epoch)
        different = [name for name in {**facts, **self.facts} if facts.get(name) != self.facts.get(name)]
        if different:
            told = [f"{name} (was {facts.get(name)!r:.60}, is {self.facts.get(name)!r:.60})" for name in different]
            raise ConfigError(
                f"{self.path.parent} holds a run that differs in {', '.join(told)!s:.600}: give what it was begun "
                "with, or another folder."
            )

    def _check_best(self, best: Any, epoch: Any) -> None:
        """Raise `DataError` or `TypeError` for what no evaluator has been at."""
        require_whole("best_epoch", epoch, 0, self.epoch - 1, error=DataError)
        float(best)

    def _fill(self, owner: str, variables: Sequence[Any]) -> None:
        arrays = {name: array for name, array in self._arrays.items() if name.startswith(f"{owner}/")}
        # `fit` watches weights; what half precision did to an optimizer is what an unbroken run would go on with.
        fill(_named(owner, variables), arrays, self.path, owner, finite=owner == "model")


def _named(owner: str, values: Sequence[Any]) -> dict[str, Any]:
    return {f"{owner}/{place}": value for place, value in enumerate(values)}
