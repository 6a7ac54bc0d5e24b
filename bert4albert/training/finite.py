"""Noticing that a training has lost its numbers, and putting back weights that still have theirs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from keras import ops

from bert4albert.errors import TrainingError


class FiniteNumbers(keras.callbacks.Callback):
    """Stop a training with a `TrainingError` as soon as its loss, or at the end of an epoch a weight, is not finite.

    The loss of a batch is that before its update, so the weights are looked at too.

    Arguments:
        first_step: how many steps were taken before this training, where one goes on.

    Examples:
        >>> import keras
        >>> import numpy as np
        >>> from bert4albert.training import FiniteNumbers
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        >>> model.compile("sgd", "mse")
        >>> model.fit(np.full((4, 2), np.nan), np.zeros((4, 1)), verbose=0, callbacks=[FiniteNumbers()])
        Traceback (most recent call last):
        bert4albert.errors.TrainingError: The loss is nan...
    """

    def __init__(self, first_step: int = 0) -> None:
        super().__init__()
        self._step = first_step
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Remember the epoch."""
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Look at the loss."""
        self._step += 1
        loss = float((logs or {}).get("loss", 0.0))
        if not math.isfinite(loss):
            raise self._error(f"The loss is {loss}")

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Look at the weights."""
        broken = next((weight.path for weight in self.model.weights if not is_finite(weight)), None)
        if broken is not None:
            raise self._error(f"The weight {broken} is not finite")

    def _error(self, what: str) -> TrainingError:
        rate = learning_rate(self.model.optimizer)
        return TrainingError(
            f"{what} at step {self._step} (epoch {self._epoch + 1}), with a learning rate of {rate:.3g}. The best "
            "weights that are finite are in place. Try a lower learning_rate, a longer warmup, an optimizer with "
            "global_clipnorm, or float32 where float16 was used, and look for odd examples."
        )


def learning_rate(optimizer: keras.optimizers.Optimizer) -> float:
    """Return the learning rate that an optimizer has now, the highest where there are several."""
    while hasattr(optimizer, "inner_optimizer"):
        optimizer = optimizer.inner_optimizer
    parts = getattr(optimizer, "optimizers", [optimizer])
    return max(float(ops.convert_to_numpy(part.learning_rate)) for part in parts)


def is_finite(variable: Any) -> bool:
    """Return whether a variable holds no NaN and no infinity; integers never do."""
    kind = keras.backend.standardize_dtype(variable.dtype)
    return "float" not in kind or bool(ops.convert_to_numpy(ops.all(ops.isfinite(variable))))


@contextmanager
def usable_afterwards(model: keras.Model, restore_best: Callable[[], None]) -> Iterator[None]:
    """Leave a model with good weights also where an error or Ctrl-C ends the `with` block.

    Those are the best ones where there are such; else after a `TrainingError` those from before the block; else the
    latest, or again those from before where the latest are lost or not finite. JAX loses the weights of a step that
    does not come to its end.

    Arguments:
        model: the model that trains inside the block.
        restore_best: puts the best weights into the model, if there are any.

    Examples:
        >>> import keras
        >>> from bert4albert import TrainingError
        >>> from bert4albert.training import usable_afterwards
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, kernel_initializer="ones")])
        >>> try:
        ...     with usable_afterwards(model, restore_best=lambda: None):
        ...         _ = model.layers[0].kernel.assign([[float("nan")], [2.0]])
        ...         raise TrainingError("The loss is nan.")
        ... except TrainingError:
        ...     print(keras.ops.convert_to_numpy(model.layers[0].kernel).tolist())
        [[1.0], [1.0]]
    """
    variables = list(model.variables)
    before = [np.array(ops.convert_to_numpy(variable)) for variable in variables]
    try:
        yield
    except BaseException as error:
        cause = _cause(error)
        lost = [not _is_there(variable) for variable in variables]
        undo = isinstance(cause, TrainingError) or any(lost)
        for variable, value in zip(variables, before, strict=True):
            if undo:
                variable.assign(value)
        restore_best()
        if cause is not error:
            raise cause from None
        raise


def _is_there(variable: Any) -> bool:
    # JAX deletes what it gives away: then reading fails, each version of Keras with an error of its own.
    try:
        return is_finite(variable)
    except (RuntimeError, ValueError, TypeError, AttributeError):
        return False


def _cause(error: BaseException) -> BaseException:
    """Return the Ctrl-C that an error came after: what Keras then tidies up can fail in its turn."""
    chain: Sequence[BaseException] = [error]
    while chain[-1].__context__ is not None and len(chain) < 10:
        chain = [*chain, chain[-1].__context__]
    return next((one for one in chain if isinstance(one, KeyboardInterrupt | TrainingError)), error)
