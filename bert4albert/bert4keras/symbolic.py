"""`K.gradients` and `K.function`: values that are computed when a function made of them is called. TensorFlow only."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from bert4albert.errors import ConfigError


def require_tensorflow(what: str) -> Any:
    """Return the `tensorflow` module; `ConfigError` on another backend, naming `what` cannot work there."""
    if keras.backend.backend() != "tensorflow":
        raise ConfigError(
            f"{what} works on TensorFlow only, and Keras runs on {keras.backend.backend()}: set "
            "KERAS_BACKEND=tensorflow, or use bert4albert.training, which works on every backend."
        )
    import tensorflow as tf

    return tf


class Lazy(ABC):
    """A value that `K.function` computes. It can be added to; nothing else can be done with it before."""

    @abstractmethod
    def compute(self, model: keras.Model, data: tuple[Any, Any, Any], outputs: dict[int, Any]) -> Any:
        """Return the value.

        Arguments:
            model: the model that `outputs` were computed by.
            data: inputs, targets and sample weights.
            outputs: id of a symbolic tensor -> its value.
        """

    def __add__(self, other: Any) -> Lazy:
        return _Sum(self, other)

    __radd__ = __add__

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"A value of K.gradients has no {name!r} before K.function computes it; compute it under a "
            "tf.GradientTape instead."
        )


class _Sum(Lazy):
    def __init__(self, lazy: Lazy, other: Any) -> None:
        self.lazy, self.other = lazy, other

    def compute(self, *arguments: Any) -> Any:
        other = self.other.compute(*arguments) if isinstance(self.other, Lazy) else self.other
        return ops.convert_to_tensor(self.lazy.compute(*arguments)) + other


class TotalLoss(Lazy):
    """What Keras 2 called `model.total_loss`: the loss of a compiled model on the data that a function is called with.

    Arguments:
        model: the compiled model.
    """

    def __init__(self, model: keras.Model) -> None:
        self.model = model

    def compute(self, model: keras.Model, data: tuple[Any, Any, Any], outputs: dict[int, Any]) -> Any:
        """Return the loss, without dropout as Keras 2 computed it there."""
        x, y, sample_weight = data
        predicted = [outputs[id(tensor)] for tensor in self.model.outputs]
        return self.model.compute_loss(x, y, one_or_list(predicted), sample_weight, training=False)


class _Gradient(Lazy):
    def __init__(self, loss: Any, of: Any) -> None:
        self.loss, self.of = loss, of

    def compute(self, *arguments: Any) -> Any:
        loss, of = (_value(tensor, *arguments) for tensor in (self.loss, self.of))
        return _graph_gradients(loss, [of])[0]


class Feed:
    """The place of a target or of sample weights among the inputs of `K.function`, as Keras 2 models had them.

    Arguments:
        kind: 'target' or 'sample_weight'.
    """

    def __init__(self, model: keras.Model, kind: str) -> None:
        self.model, self.kind = model, kind


def gradients(loss: Any, variables: Sequence[Any]) -> list[Any]:
    """Return the gradients of a loss, as Keras 2's `K.gradients` did.

    Arguments:
        loss: a tensor inside a layer or a loss function; or a symbolic tensor, or `model.total_loss`.
        variables: what to derive by: variables, or tensors that the loss was computed from.

    Returns:
        One gradient for each variable: at once inside a layer or a loss function, where the gradient of a table of
        embeddings has `.values` as in Keras 2; otherwise a value for `K.function` to compute. Raises `ConfigError`
        on another backend, and for a loss that has its numbers already.
    """
    tf = require_tensorflow("K.gradients")
    if isinstance(loss, (Lazy, keras.KerasTensor)):
        return [_Gradient(loss, variable) for variable in variables]
    if tf.executing_eagerly():
        raise ConfigError(
            "K.gradients derives what is still to be computed: inside a layer, inside a loss function, or by "
            "K.function. Derive actual numbers under a tf.GradientTape."
        )
    return _graph_gradients(loss, variables)


def function(
    inputs: Sequence[Any], outputs: Sequence[Any], updates: Any = None, name: str | None = None
) -> Callable[[Sequence[Any]], Any]:
    """Return a function from arrays to arrays, as Keras 2's `K.function` did; without dropout.

    Arguments:
        inputs: symbolic inputs of a model, and what `model._feed_targets` and `model._feed_sample_weights` list.
        outputs: symbolic tensors, and values of `K.gradients`.
        updates: must be left out: Keras 3 has no update operations.
        name: not used.

    Returns:
        A function of a list of arrays, one for each input (more are ignored). Raises `ConfigError` for updates.
    """
    if updates:
        raise ConfigError("K.function cannot run updates in Keras 3; assign variables after calling it.")
    single = not isinstance(outputs, (list, tuple))
    wanted = [outputs] if single else list(outputs)
    symbolic = [tensor for tensor in inputs if not isinstance(tensor, Feed)]
    model = keras.Model(symbolic, _symbolic_of(wanted, inputs))
    model_outputs = [id(tensor) for tensor in model.outputs]

    def compute(x: Any, y: Any, sample_weight: Any) -> list[Any]:
        computed = model(x, training=False)
        values = dict(zip(model_outputs, keras.tree.flatten(computed), strict=True))
        for tensor, value in zip(symbolic, x, strict=True):
            values.setdefault(id(tensor), value)
        # As tensors: the gradient of a table of embeddings has the rows that were read, and no more.
        return [ops.convert_to_tensor(_value(tensor, model, (x, y, sample_weight), values)) for tensor in wanted]

    if any(isinstance(tensor, Lazy) for tensor in wanted):
        compute = require_tensorflow("K.function of gradients").function(
            compute, autograph=False, reduce_retracing=True
        )

    def call(arrays: Sequence[Any]) -> list[np.ndarray]:
        given = dict(zip(range(len(inputs)), arrays, strict=False))
        x = [ops.convert_to_tensor(given[i], inputs[i].dtype) for i in given if not isinstance(inputs[i], Feed)]
        y, weights = (
            [given[i] for i in given if getattr(inputs[i], "kind", "") == k] for k in ("target", "sample_weight")
        )
        result = compute(x, _tensors(y), _tensors(weights))
        return [ops.convert_to_numpy(value) for value in result]

    return call if not single else lambda arrays: call(arrays)[0]


def _graph_gradients(loss: Any, of: Sequence[Any]) -> list[Any]:
    import tensorflow as tf

    return tf.gradients(loss, [variable.value if isinstance(variable, keras.Variable) else variable for variable in of])


def _value(tensor: Any, model: Any, data: Any, outputs: dict[int, Any]) -> Any:
    if isinstance(tensor, Lazy):
        return tensor.compute(model, data, outputs)
    return outputs[id(tensor)] if isinstance(tensor, keras.KerasTensor) else tensor


def _symbolic_of(wanted: Sequence[Any], inputs: Sequence[Any]) -> list[Any]:
    """Return the symbolic tensors that the wanted values are computed from, each once."""
    found: dict[int, Any] = {}
    waiting = list(wanted)
    for item in waiting:
        if isinstance(item, keras.KerasTensor):
            found[id(item)] = item
        elif isinstance(item, TotalLoss):
            waiting.extend(item.model.outputs)
        elif isinstance(item, _Gradient):
            waiting.extend([item.loss, item.of])
        elif isinstance(item, _Sum):
            waiting.extend([item.lazy, item.other])
    given = {id(tensor) for tensor in inputs}
    return [tensor for key, tensor in found.items() if key not in given] or list(found.values())


def _tensors(arrays: Sequence[Any]) -> Any:
    return one_or_list([ops.convert_to_tensor(array) for array in arrays])


def one_or_list(values: list[Any]) -> Any:
    """Return the only value as it is, several as a list, None for none."""
    return values[0] if len(values) == 1 else values or None
