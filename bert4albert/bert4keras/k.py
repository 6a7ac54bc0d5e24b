"""`K`: the functions of Keras 2's backend that scripts use, over `keras.ops`.

Names, argument orders and results are those of Keras 2.3, with what bert4keras changed in it (`reshape`, `flatten`,
`where`). `gradients` and `function` work on TensorFlow only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from keras.ops import (  # noqa: F401  (what Keras 2 called the same)
    abs,
    cast,
    clip,
    cos,
    dot,
    elu,
    equal,
    exp,
    floor,
    greater,
    greater_equal,
    less,
    less_equal,
    log,
    logical_and,
    logical_not,
    logical_or,
    logsumexp,
    max,
    maximum,
    min,
    minimum,
    not_equal,
    ones_like,
    round,
    sigmoid,
    sign,
    sin,
    softmax,
    softplus,
    softsign,
    square,
    squeeze,
    stack,
    stop_gradient,
    sum,
    tan,
    tanh,
    tile,
    transpose,
    zeros_like,
)

from bert4albert.bert4keras.k_state import (  # noqa: F401
    batch_get_value,
    batch_set_value,
    constant,
    dropout,
    eval,
    get_session,
    get_value,
    in_test_phase,
    in_train_phase,
    learning_phase,
    ones,
    random_bernoulli,
    random_binomial,
    random_normal,
    random_uniform,
    set_session,
    set_value,
    symbolic,
    truncated_normal,
    update,
    update_add,
    update_sub,
    variable,
    zeros,
)
from bert4albert.bert4keras.symbolic import function, gradients  # noqa: F401
from bert4albert.errors import require_choice

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
    return ops.reshape(x, (*sizes[:start], math.prod(sizes[start:end]), *sizes[end:]))


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


def expand_dims(x: Any, axis: int = -1) -> Any:
    """Return `x` with one more axis, of size 1."""
    return ops.expand_dims(x, axis)


def reverse(x: Any, axes: Any) -> Any:
    """Return `x` with the order along these axes turned round."""
    return ops.flip(x, axes)


# Arithmetic. Where Keras 3 takes all elements by default, Keras 2 took an axis.


def argmax(x: Any, axis: int = -1) -> Any:
    """Return where the largest element along an axis is."""
    return ops.argmax(x, axis)


def argmin(x: Any, axis: int = -1) -> Any:
    """Return where the smallest element along an axis is."""
    return ops.argmin(x, axis)


def cumsum(x: Any, axis: int = 0) -> Any:
    """Return the sums of all elements up to each along an axis."""
    return ops.cumsum(x, axis)


def cumprod(x: Any, axis: int = 0) -> Any:
    """Return the products of all elements up to each along an axis."""
    return ops.cumprod(x, axis)


def sqrt(x: Any) -> Any:
    """Return the root, 0 for what is negative."""
    return ops.sqrt(ops.maximum(x, 0.0))


def pow(x: Any, a: Any) -> Any:
    """Return `x` to the power of `a`."""
    return ops.power(x, a)


def _as_number(x: Any) -> Any:
    return ops.cast(x, floatx()) if dtype(x) == "bool" else x


def mean(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Return the mean, of bools as 0 and 1."""
    return ops.mean(_as_number(x), axis=axis, keepdims=keepdims)


def prod(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Return the product, also of the sizes that `shape` gives."""
    if isinstance(x, tuple):
        return math.prod(x)
    return ops.prod(x, axis=axis, keepdims=keepdims)


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


def where(condition: Any, x: Any, y: Any) -> Any:
    """Return `x` where the condition holds, else `y`; all three broadcast, and two plain numbers are floats."""
    if not hasattr(x, "dtype") and not hasattr(y, "dtype"):
        x = ops.convert_to_tensor(x, floatx())
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
    pool_size: Any,
    strides: Any = 1,
    padding: str = "valid",
    data_format: str | None = None,
    pool_mode: str = "max",
) -> Any:
    """Return the maximum or the mean ('avg') of each window of [batch, ..., size], of as many axes as that has."""
    require_choice("pool_mode", pool_mode, ("max", "avg"))
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
