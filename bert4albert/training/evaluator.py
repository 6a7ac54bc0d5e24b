"""Evaluator: a metric of your own after each epoch, and the best weights at the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import keras
import numpy as np

from bert4albert.errors import ConfigError
from bert4albert.training.moving_average import MovingAverage


class Evaluator(keras.callbacks.Callback):
    """Evaluate after each epoch, and end the training with the weights of the best one.

    The metrics appear in Keras' progress bar and history.

    Arguments:
        evaluate: returns metrics by name.
        metric: the metric that is to become large.
        patience: stop after this many epochs in a row without a better value; None for never.
        average: the optimizer whose averaged weights are evaluated and kept, where there is one.

    Attributes:
        best: the best value of the metric so far, None before the first epoch has ended.
    """

    def __init__(
        self,
        evaluate: Callable[[], Mapping[str, float]],
        metric: str,
        patience: int | None = None,
        average: MovingAverage | None = None,
    ) -> None:
        super().__init__()
        self.evaluate = evaluate
        self.metric = metric
        self.patience = patience
        self.average = average
        self.best: float | None = None
        self.best_epoch = 0
        self._best_weights: list[np.ndarray] = []

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Evaluate, remember the weights if they are the best, and stop where patience is at an end."""
        with self.average.averaged() if self.average is not None else nullcontext():
            metrics = dict(self.evaluate())
            if self.metric not in metrics:
                raise ConfigError(f"The evaluation gives {', '.join(metrics)}, but no {self.metric!r}.")
            if self.best is None or metrics[self.metric] > self.best:
                self.best, self.best_epoch = metrics[self.metric], epoch
                self._best_weights = [np.array(weight) for weight in self.model.get_weights()]
        if logs is not None:
            logs.update(metrics)
        if self.patience is not None and epoch - self.best_epoch >= self.patience:
            self.model.stop_training = True

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Put the best weights into the model."""
        self.restore_best()

    def restore_best(self) -> None:
        """Put the best weights so far into the model, once."""
        if self._best_weights:
            self.model.set_weights(self._best_weights)
            self._best_weights = []
