"""The part of `K` that has a state: variables, whether a model trains, chance."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np
from keras import ops

from bert4albert.bert4keras.symbolic import require_tensorflow
from bert4albert.errors import ConfigError

floatx = keras.config.floatx


def variable(value: Any, dtype: str | None = None, name: str | None = None, constraint: Any = None) -> Any:
    """Return a new variable."""
    made = keras.Variable(value, dtype=dtype or floatx(), name=name)
    made.constraint = constraint  # which optimizers apply after each step
    return made


def constant(value: Any, dtype: str | None = None, shape: Any = None, name: str | None = None) -> Any:
    """Return a tensor of these numbers; in another shape where they fill it, or one number everywhere."""
    tensor = ops.convert_to_tensor(value, dtype=dtype or floatx())
    if shape is None:
        return tensor
    if math.prod(tensor.shape) == 1:
        return ops.broadcast_to(ops.reshape(tensor, ()), shape)
    return ops.reshape(tensor, shape)


def zeros(shape: Any, dtype: str | None = None, name: str | None = None) -> Any:
    """Return a variable of zeros; a tensor inside a function that TensorFlow draws, where no variable can be made."""
    return _filled(np.zeros, ops.zeros, shape, dtype, name)


def ones(shape: Any, dtype: str | None = None, name: str | None = None) -> Any:
    """Return a variable of ones; a tensor inside a function that TensorFlow draws, where no variable can be made."""
    return _filled(np.ones, ops.ones, shape, dtype, name)


def _filled(array: Any, tensor: Any, shape: Any, dtype: str | None, name: str | None) -> Any:
    if keras.backend.backend() == "tensorflow" and not require_tensorflow("K.zeros").executing_eagerly():
        return tensor(shape, dtype or floatx())
    return variable(array([int(size) for size in shape]), dtype, name)


def get_value(x: Any) -> np.ndarray:
    """Return a variable's value as an array."""
    return np.array(ops.convert_to_numpy(x))


eval = get_value


def set_value(x: Any, value: Any) -> None:
    """Set a variable's value."""
    x.assign(value)


def batch_get_value(variables: Iterable[Any]) -> list[np.ndarray]:
    """Return the values of variables as arrays."""
    return [get_value(item) for item in variables]


def batch_set_value(pairs: Iterable[tuple[Any, Any]]) -> None:
    """Set the values of (variable, value) pairs."""
    for item, value in pairs:
        item.assign(value)


def update(x: Any, new_x: Any) -> Any:
    """Set a variable's value, and return the variable."""
    x.assign(new_x)
    return x


def update_add(x: Any, increment: Any) -> Any:
    """Add to a variable, and return it."""
    return update(x, x + increment)


def update_sub(x: Any, decrement: Any) -> Any:
    """Subtract from a variable, and return it."""
    return update(x, x - decrement)


# Training and chance.


class _TrainingPhase(keras.layers.Layer):
    """A layer only because Keras tells layers whether they are in training."""

    def call(self, in_training: Any, otherwise: Any, training: Any = None) -> Any:
        if training is None or isinstance(training, bool):
            return in_training if training else otherwise
        return ops.where(training, in_training, otherwise)


_TRAINING_PHASE: list[_TrainingPhase] = []


def in_train_phase(x: Any, alt: Any, training: Any = None) -> Any:
    """Return `x` in training and `alt` otherwise; inside a layer, Keras knows which."""
    if not _TRAINING_PHASE:
        _TRAINING_PHASE.append(_TrainingPhase(name="training_phase"))
    x, alt = (value() if callable(value) else value for value in (x, alt))
    return _TRAINING_PHASE[0](x, alt, **({} if training is None else {"training": bool(training)}))


def in_test_phase(x: Any, alt: Any, training: Any = None) -> Any:
    """Return `alt` in training and `x` otherwise."""
    return in_train_phase(alt, x, training)


def random_normal(
    shape: Any, mean: float = 0.0, stddev: float = 1.0, dtype: str | None = None, seed: int | None = None
) -> Any:
    """Return normally distributed numbers."""
    return keras.random.normal(shape, mean, stddev, dtype or floatx(), seed)


def truncated_normal(
    shape: Any, mean: float = 0.0, stddev: float = 1.0, dtype: str | None = None, seed: int | None = None
) -> Any:
    """Return normally distributed numbers, none further than two deviations from the mean."""
    return keras.random.truncated_normal(shape, mean, stddev, dtype or floatx(), seed)


def random_uniform(
    shape: Any, minval: float = 0.0, maxval: float = 1.0, dtype: str | None = None, seed: int | None = None
) -> Any:
    """Return evenly distributed numbers from `minval` to below `maxval`."""
    wanted = dtype or floatx()
    if "int" in wanted:
        return keras.random.randint(shape, int(minval), int(maxval), wanted, seed)
    return keras.random.uniform(shape, minval, maxval, wanted, seed)


def random_binomial(shape: Any, p: float = 0.0, dtype: str | None = None, seed: int | None = None) -> Any:
    """Return 1 with probability `p`, else 0."""
    drawn = keras.random.uniform(shape, 0.0, 1.0, floatx(), seed) <= p
    return ops.cast(drawn, dtype or floatx())


random_bernoulli = random_binomial


def dropout(x: Any, level: float, noise_shape: Any = None, seed: int | None = None) -> Any:
    """Return `x` with a part `level` of it set to 0 and the rest scaled up."""
    return keras.random.dropout(x, level, noise_shape, seed)


def symbolic(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return the method as it is."""
    return method


def learning_phase() -> int:
    """Raise `ConfigError`: Keras 3 tells layers alone whether they train."""
    raise ConfigError("Keras 3 has no learning phase; give the layer's call an argument training=None and read that.")


def get_session() -> Any:
    """Raise `ConfigError`: TensorFlow 2 has no sessions."""
    raise ConfigError("There are no sessions in TensorFlow 2; call the model, or K.eval a variable, instead.")


def set_session(session: Any) -> None:
    """Raise `ConfigError`: TensorFlow 2 has no sessions."""
    get_session()
