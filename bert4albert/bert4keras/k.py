"""`K`: the functions of Keras 2's backend that scripts use, over `keras.ops`.

Names, argument orders and results are those of Keras 2.3, with what bert4keras changed in it (`reshape`, `flatten`,
`where`). `gradients` and `function` work on TensorFlow only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from keras.ops import (  # noqa: F401  (what Keras 2 called the same)
    abs,
    argmax,
    argmin,
    clip,
    cos,
    cumprod,
    cumsum,
    elu,
    equal,
    exp,
    expand_dims,
    floor,
    greater,
    greater_equal,
    less,
    less_equal,
    log,
    logical_and,
    logical_not,
    logical_or,
    maximum,
    minimum,
    not_equal,
    ones_like,
    round,
    sigmoid,
    sign,
    sin,
    softplus,
    softsign,
    sqrt,
    square,
    squeeze,
    stack,
    stop_gradient,
    tan,
    tanh,
    tile,
    transpose,
    zeros_like,
)

from bert4albert.bert4keras.symbolic import function, gradients  # noqa: F401
from bert4albert.errors import ConfigError

epsilon, set_epsilon = keras.config.epsilon, keras.config.set_epsilon
floatx, set_floatx = keras.config.floatx, keras.config.set_floatx
image_data_format = keras.config.image_data_format
clear_session, name_scope = keras.utils.clear_session, keras.name_scope


def __getattr__(name: str) -> Any:
    raise AttributeError(f"K has no {name!r} here: write it with keras.ops.")


# What Keras 2 called otherwise, or with other arguments. Shapes first.


def shape(x: Any) -> tuple[Any, ...]:
    """Return the sizes of a tensor's axes, as a tuple; on TensorFlow the unknown ones are scalar tensors."""
    return ops.shape(x)


def int_shape(x: Any) -> tuple[int | None, ...]:
    """Return the sizes that are known, None for the others."""
    return tuple(x.shape)


def ndim(x: Any) -> int:
    """Return the number of axes."""
    return len(x.shape)


def dtype(x: Any) -> str:
    """Return the name of a tensor's dtype."""
    return keras.backend.standardize_dtype(x.dtype)


def cast(x: Any, dtype: str) -> Any:
    """Return `x` with another dtype."""
    return ops.cast(x, dtype)


def cast_to_floatx(x: Any) -> Any:
    """Return an array with Keras' default float dtype."""
    return np.asarray(x, dtype=floatx())


def reshape(x: Any, *arguments: Any) -> Any:
    """Return `x` in another shape; as in bert4keras, `(shape, axis, ...)` splits single axes instead."""
    if len(arguments) == 1:
        return ops.reshape(x, arguments[0])
    sizes: list[list[Any]] = [[size] for size in ops.shape(x)]
    for new, axis in zip(arguments[::2], arguments[1::2], strict=True):
        known = int(np.prod([size for size in new if size != -1]))
        sizes[axis] = [sizes[axis][0] // known if size == -1 else size for size in new]
    return ops.reshape(x, [size for of_axis in sizes for size in of_axis])


def flatten(x: Any, start: int | None = None, end: int | None = None) -> Any:
    """Return `x` with the axes from `start` to `end` joined to one."""
    sizes = ops.shape(x)
    start, end = start or 0, end or len(sizes)
    start, end = (i + len(sizes) if i < 0 else i for i in (start, end))
    joined: Any = 1
    for size in sizes[start:end]:
        joined = joined * size
    return ops.reshape(x, (*sizes[:start], joined, *sizes[end:]))


def permute_dimensions(x: Any, pattern: Sequence[int]) -> Any:
    """Return `x` with its axes in another order."""
    return ops.transpose(x, pattern)


def concatenate(tensors: Sequence[Any], axis: int = -1) -> Any:
    """Join tensors along an axis."""
    return ops.concatenate(list(tensors), axis=axis)


def repeat(x: Any, n: int) -> Any:
    """Repeat vectors [batch, size] to [batch, n, size]."""
    return ops.repeat(ops.expand_dims(x, 1), n, axis=1)


def repeat_elements(x: Any, rep: int, axis: int) -> Any:
    """Repeat each element along an axis."""
    return ops.repeat(x, rep, axis=axis)


def temporal_padding(x: Any, padding: tuple[Any, Any] = (1, 1)) -> Any:
    """Add zeros before and after axis 1 of [batch, length, size]."""
    batch, _, size = ops.shape(x)
    before, after = (ops.zeros((batch, length, size), x.dtype) for length in padding)
    return ops.concatenate([before, x, after], axis=1)


def gather(reference: Any, indices: Any) -> Any:
    """Return the rows of `reference` at `indices`."""
    return ops.take(reference, ops.cast(indices, "int32"), axis=0)


def one_hot(indices: Any, num_classes: Any) -> Any:
    """Return one-hot vectors of integers."""
    return ops.one_hot(ops.cast(indices, "int32"), int(num_classes))


def arange(start: Any, stop: Any = None, step: int = 1, dtype: str = "int32") -> Any:
    """Return numbers from `start` to before `stop`, or from 0 to before `start`."""
    return ops.arange(*((0, start) if stop is None else (start, stop)), step, dtype=dtype)


def eye(size: int, dtype: str | None = None, name: str | None = None) -> Any:
    """Return an identity matrix."""
    return ops.eye(size, dtype=dtype or floatx())


# Arithmetic.


def _as_number(x: Any) -> Any:
    return ops.cast(x, floatx()) if dtype(x) == "bool" else x


def mean(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Return the mean, of bools as 0 and 1."""
    return ops.mean(_as_number(x), axis=axis, keepdims=keepdims)


def sum(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Return the sum."""
    return ops.sum(x, axis=axis, keepdims=keepdims)


def prod(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Return the product, also of the sizes that `shape` gives."""
    if isinstance(x, tuple):
        return flatten_sizes(x)
    return ops.prod(x, axis=axis, keepdims=keepdims)


def flatten_sizes(sizes: Iterable[Any]) -> Any:
    """Return the product of the sizes of axes."""
    product: Any = 1
    for size in sizes:
        product = product * size
    return product


def max(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Return the maximum."""
    return ops.max(x, axis=axis, keepdims=keepdims)


def min(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Return the minimum."""
    return ops.min(x, axis=axis, keepdims=keepdims)


def std(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Return the standard deviation."""
    return ops.std(_as_number(x), axis=axis, keepdims=keepdims)


def var(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Return the variance."""
    return ops.var(_as_number(x), axis=axis, keepdims=keepdims)


def any(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Return whether any element is true."""
    return ops.any(ops.cast(x, "bool"), axis=axis, keepdims=keepdims)


def all(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Return whether all elements are true."""
    return ops.all(ops.cast(x, "bool"), axis=axis, keepdims=keepdims)


def logsumexp(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Return log(sum(exp(x)))."""
    return ops.logsumexp(x, axis=axis, keepdims=keepdims)


def pow(x: Any, a: Any) -> Any:
    """Return `x` to the power of `a`."""
    return ops.power(x, a)


def dot(x: Any, y: Any) -> Any:
    """Return the product over the last axis of `x` and the second to last of `y`."""
    return ops.dot(x, y)


def batch_dot(x: Any, y: Any, axes: Any = None) -> Any:
    """Return the product of each row's `x` and `y`, over one axis of each."""
    axes = (ndim(x) - 1, ndim(y) - 2 if ndim(y) > 2 else 1) if axes is None else axes
    axes = (axes, axes) if isinstance(axes, int) else axes
    letters, others = "abcdefg"[: ndim(x)], "amnopqr"[: ndim(y)]
    first, second = (axis % ndim(tensor) for axis, tensor in zip(axes, (x, y), strict=True))
    others = others[:second] + letters[first] + others[second + 1 :]
    kept = letters[:first] + letters[first + 1 :] + others[1:second] + others[second + 1 :]
    product = ops.einsum(f"{letters},{others}->{kept}", x, y)
    return ops.expand_dims(product, 1) if len(kept) == 1 else product


def l2_normalize(x: Any, axis: Any = None) -> Any:
    """Return `x` divided by its length."""
    return x / ops.sqrt(ops.maximum(ops.sum(ops.square(x), axis=axis, keepdims=True), 1e-12))


def relu(x: Any, alpha: float = 0.0, max_value: float | None = None) -> Any:
    """Return the positive part, and `alpha` times the negative one."""
    positive = ops.relu(x) if max_value is None else ops.clip(x, 0, max_value)
    return positive - alpha * ops.relu(-x) if alpha else positive


def softmax(x: Any, axis: int = -1) -> Any:
    """Return exp(x) / sum(exp(x))."""
    return ops.softmax(x, axis=axis)


def where(condition: Any, x: Any, y: Any) -> Any:
    """Return `x` where the condition holds, else `y`; all three broadcast, as in bert4keras."""
    return ops.where(ops.cast(condition, "bool"), x, y)


def switch(condition: Any, then: Any, otherwise: Any) -> Any:
    """Return `then` where the condition holds, else `otherwise`; either may be a function."""
    then, otherwise = (value() if callable(value) else value for value in (then, otherwise))
    condition = ops.cast(condition, "bool")
    while 0 < ndim(condition) < ndim(then):
        condition = ops.expand_dims(condition, -1)
    return ops.where(condition, then, otherwise)


def pool2d(
    x: Any,
    pool_size: tuple[int, int],
    strides: tuple[int, int] = (1, 1),
    padding: str = "valid",
    data_format: str | None = None,
    pool_mode: str = "max",
) -> Any:
    """Return the maximum or the mean ('avg') of each window."""
    pool = ops.max_pool if pool_mode == "max" else ops.average_pool
    return pool(x, pool_size, strides, padding, data_format)


# Losses: of probabilities unless from_logits, each element between epsilon and 1 - epsilon.


def categorical_crossentropy(target: Any, output: Any, from_logits: bool = False, axis: int = -1) -> Any:
    """Return -log of the probability of the right class, `target` one-hot."""
    return ops.categorical_crossentropy(target, output, from_logits=from_logits, axis=axis)


def sparse_categorical_crossentropy(target: Any, output: Any, from_logits: bool = False, axis: int = -1) -> Any:
    """Return -log of the probability of the right class, `target` an integer of any dtype."""
    target = ops.reshape(ops.cast(target, "int32"), ops.shape(output)[:-1])
    return ops.sparse_categorical_crossentropy(target, output, from_logits=from_logits, axis=axis)


def binary_crossentropy(target: Any, output: Any, from_logits: bool = False) -> Any:
    """Return -log of the probability of the right one of two classes."""
    return ops.binary_crossentropy(ops.cast(target, dtype(output)), output, from_logits=from_logits)


# Variables.


def variable(value: Any, dtype: str | None = None, name: str | None = None, constraint: Any = None) -> Any:
    """Return a new variable."""
    return keras.Variable(value, dtype=dtype or floatx(), name=name)


def constant(value: Any, dtype: str | None = None, shape: Any = None, name: str | None = None) -> Any:
    """Return a tensor of these numbers."""
    tensor = ops.convert_to_tensor(value, dtype=dtype or floatx())
    return tensor if shape is None else ops.broadcast_to(tensor, shape)


def zeros(shape: Any, dtype: str | None = None, name: str | None = None) -> Any:
    """Return a variable of zeros."""
    return variable(np.zeros([int(size) for size in shape]), dtype, name)


def ones(shape: Any, dtype: str | None = None, name: str | None = None) -> Any:
    """Return a variable of ones."""
    return variable(np.ones([int(size) for size in shape]), dtype, name)


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


def symbolic(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function as it is."""
    return function


def learning_phase() -> int:
    """Raise `ConfigError`: Keras 3 tells layers alone whether they train."""
    raise ConfigError("Keras 3 has no learning phase; give the layer's call an argument training=None and read that.")


def get_session() -> Any:
    """Raise `ConfigError`: TensorFlow 2 has no sessions."""
    raise ConfigError("There are no sessions in TensorFlow 2; call the model, or K.eval a variable, instead.")


def set_session(session: Any) -> None:
    """Raise `ConfigError`: TensorFlow 2 has no sessions."""
    get_session()
