"""Training as Keras 2 did it, as far as scripts reach into it: replaced train functions, weights fixed when compiled.

The examples of bert4keras for adversarial training replace `model.train_function` by a function from a list of arrays
(inputs, targets, sample weights) to a list of results. `fit` and `train_on_batch` call such a function here too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from keras import ops

from bert4albert.bert4keras.symbolic import Feed, TotalLoss, one_or_list, require_tensorflow


def install(model: type[keras.Model]) -> None:
    """Add the attributes by which Keras 2 scripts reach into training to the class `keras.Model`."""
    model._make_train_function = make_train_function
    model.total_loss = _Computed(TotalLoss)
    model._feed_inputs = _Computed(lambda self: list(self.inputs))
    model._feed_targets = _Computed(lambda self: [Feed(self, "target") for _ in self.outputs])
    model._feed_sample_weights = _Computed(lambda self: [Feed(self, "sample_weight") for _ in self.outputs])


class _Computed:
    """An attribute that is computed; unlike a property it gives way to one that a model sets itself."""

    def __init__(self, compute: Callable[[Any], Any]) -> None:
        self.compute = compute

    def __get__(self, model: Any, kind: Any = None) -> Any:
        return self if model is None else self.compute(model)


def is_from_bert4keras(model: keras.Model) -> bool:
    """Whether a model is built on what `build_transformer_model` gives."""
    return any(
        getattr(layer, "is_from_bert4keras", False) or (isinstance(layer, keras.Model) and is_from_bert4keras(layer))
        for layer in model.layers
    )


def make_train_function(model: keras.Model) -> None:
    """Set `model.train_function` to one that takes a list of arrays, as Keras 2's did, for scripts to replace."""
    require_tensorflow("Replacing a model's train_function")
    model.train_function = None
    with without_xla(model):
        model.make_train_function()
    on_iterator = model.train_function

    def train_on_arrays(arrays: list[Any]) -> list[Any]:
        x, y, _ = _parted(model, arrays)
        logs = on_iterator(iter([(x, y)]))
        return [np.asarray(ops.convert_to_numpy(value)) for value in keras.tree.flatten(logs)]

    model.train_function = train_on_arrays
    model._takes_arrays = on_iterator


@contextmanager
def replaced_function(model: keras.Model) -> Iterator[None]:
    """Let Keras 3 call a train function that takes a list of arrays, inside a `with` block."""
    function = getattr(model, "train_function", None)
    if function is None or getattr(model, "_takes_arrays", None) in (None, function):
        yield
        return
    model.train_function = _on_iterator(model, function)
    try:
        yield
    finally:
        model.train_function = function


@contextmanager
def without_xla(model: keras.Model) -> Iterator[None]:
    """Leave XLA out on TensorFlow inside a `with` block: it would compile anew for each length of batches.

    Only for models from `build_transformer_model` for which `compile(jit_compile=...)` asks for nothing.
    """
    chosen = keras.backend.backend() != "tensorflow" or getattr(model, "_chooses_xla", False)
    if chosen or not is_from_bert4keras(model):
        yield
        return
    before, model.jit_compile = model.jit_compile, False
    try:
        yield
    finally:
        model.jit_compile = before


@contextmanager
def as_compiled(model: keras.Model) -> Iterator[None]:
    """Train the weights that were trainable when the model was compiled, inside a `with` block, as Keras 2 did.

    Only for models from `build_transformer_model`: Keras 3 goes by what is trainable when training begins.
    """
    collected = getattr(model, "_collected_trainable_weights", None)
    if collected is None or not is_from_bert4keras(model):
        yield
        return
    wanted = {id(variable) for variable in collected}
    changed = [variable for variable in model.variables if variable.trainable != (id(variable) in wanted)]
    changed = [variable for variable in changed if variable.trainable or id(variable) in wanted]
    for variable in changed:
        variable.trainable = not variable.trainable
    try:
        yield
    finally:
        for variable in changed:
            variable.trainable = not variable.trainable


def build_optimizer(model: keras.Model) -> None:
    """Create the optimizer's variables before TensorFlow draws the train function, which is drawn again otherwise.

    Only for models from `build_transformer_model`.
    """
    optimizer = getattr(model, "optimizer", None)
    if keras.backend.backend() != "tensorflow" or optimizer is None or optimizer.built:
        return
    if is_from_bert4keras(model) and model.trainable_variables:
        with model.distribute_strategy.scope():
            optimizer.build(model.trainable_variables)


def _on_iterator(model: keras.Model, function: Callable[[list[Any]], Any]) -> Callable[[Any], dict[str, Any]]:
    def train(iterator: Any) -> dict[str, Any]:
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(next(iter(iterator)))
        arrays = [np.array(ops.convert_to_numpy(value)) for value in keras.tree.flatten([x, y])]
        weights = keras.tree.flatten(sample_weight) if sample_weight is not None else []
        ones = [np.ones(len(arrays[0]), "float32") for _ in model.outputs]
        function([*arrays, *([np.array(ops.convert_to_numpy(value)) for value in weights] or ones)])
        return model.get_metrics_result()

    return train


def _parted(model: keras.Model, arrays: list[Any]) -> tuple[Any, Any, Any]:
    """Return the inputs, targets and sample weights that a list of arrays holds."""
    first, second = len(model.inputs), len(model.inputs) + len(model.outputs)
    parts = [[np.asarray(array) for array in part] for part in (arrays[:first], arrays[first:second], arrays[second:])]
    return tuple(map(one_or_list, parts))
