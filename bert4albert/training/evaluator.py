"""Evaluator: a metric of your own after each epoch, and the best weights at the end."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import keras
import numpy as np

from bert4albert.errors import ConfigError
from bert4albert.training.moving_average import MovingAverage


class Evaluator(keras.callbacks.Callback):
    """Evaluate after each epoch, and end the training with the weights of the best one.

    The metrics appear in Keras' progress bar and history, under their own names and as `val_<name>`, so that callbacks
    written for `validation_data` find them.

    Arguments:
        evaluate: returns metrics by name.
        metric: the metric that is to become large.
        patience: stop after this many epochs in a row without a better value; None for never.
        average: the optimizer whose averaged weights are evaluated and kept, where there is one.
        dataset: what the loss is taken on, as `val_loss`; None for no such loss.

    Attributes:
        best: the best value of the metric so far, None before the first epoch has ended.
        best_epoch: the epoch that had it, counted from 0.

    Examples:
        >>> import keras
        >>> import numpy as np
        >>> from bert4albert.training import Evaluator
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        >>> model.compile("sgd", "mse")
        >>> values = iter([0.5, 0.9, 0.7])
        >>> evaluator = Evaluator(lambda: {"accuracy": next(values)}, metric="accuracy")
        >>> x, y = np.ones((4, 2)), np.zeros((4, 1))
        >>> model.fit(x, y, epochs=3, verbose=0, callbacks=[evaluator]).history["accuracy"]
        [0.5, 0.9, 0.7]
        >>> evaluator.best
        0.9
    """

    def __init__(
        self,
        evaluate: Callable[[], Mapping[str, float]],
        metric: str,
        patience: int | None = None,
        average: MovingAverage | None = None,
        dataset: Any = None,
    ) -> None:
        super().__init__()
        self.evaluate = evaluate
        self.metric = metric
        self.patience = patience
        self.average = average
        self.dataset = dataset
        self.best: float | None = None
        self.best_epoch = 0
        self._best_weights: list[np.ndarray] = []

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Evaluate, remember the weights if they are the best, and stop where patience is at an end."""
        with self.average.averaged() if self.average is not None else nullcontext():
            metrics = dict(self.evaluate())
            if self.metric not in metrics:
                raise ConfigError(f"The evaluation gives {', '.join(metrics)}, but no {self.metric!r}.")
            value = metrics[self.metric]
            # A metric that is not a number is never the best, and weights come first: Ctrl-C may fall between.
            if self.best is None or value > self.best or math.isnan(self.best):
                weights = [np.array(weight) for weight in self.model.get_weights()]
                self._best_weights, self.best, self.best_epoch = weights, value, epoch
            as_validation = {f"val_{name}": value for name, value in metrics.items()}
            if self.dataset is not None:
                as_validation["val_loss"] = self.model.evaluate(self.dataset, verbose=0, return_dict=True)["loss"]
        if logs is not None:
            logs.update(metrics, **as_validation)
        if self.patience is not None and epoch - self.best_epoch >= self.patience:
            self.model.stop_training = True

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Put the best weights into the model, and say which they are."""
        if self._best_weights and self.params.get("verbose"):
            print(f"The weights of epoch {self.best_epoch + 1} are in place ({self.metric} {self.best:.4f}).")
        self.restore_best()

    def restore_best(self) -> None:
        """Put the best weights so far into the model, once."""
        if self._best_weights:
            self.model.set_weights(self._best_weights)
            self._best_weights = []

    def state(self) -> tuple[dict[str, Any], list[np.ndarray]]:
        """Return the best value and its epoch, as JSON, and the best weights."""
        return {"best": self.best, "best_epoch": self.best_epoch}, self._best_weights

    def set_state(self, values: Mapping[str, Any], weights: list[np.ndarray]) -> None:
        """Go on from what `state` returned."""
        self.best, self.best_epoch, self._best_weights = values["best"], values["best_epoch"], weights
