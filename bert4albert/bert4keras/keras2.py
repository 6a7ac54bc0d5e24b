"""What Keras 3's own classes lack of Keras 2, for scripts whose plain `from keras ...` lines stay as they are.

`install` runs when a module of `bert4albert.bert4keras` is imported, and never otherwise. It gives names that Keras 3
does not have, and lets methods take arguments that Keras 3 refuses. What works in Keras 3 works as before: each wrapped
method hands everything else on unchanged. Nothing of this is needed by new programs.

=======================================  ================================================================
`fit_generator` and the like             call `fit`, `evaluate`, `predict`
`fit(workers=...)`, also max_queue_size  left out: Keras 3 has no such arguments
generators of `[a, b], y`                tuples in place of the lists; on TensorFlow batches of any length
targets as {output's name: array}        the array, or a list, where the model's output is no dictionary
several outputs, some a single number    get an axis before their loss is computed
`save_weights("x.weights")`, any name    Keras 3's `.weights.h5` format under that name
`save("x.model")`, `load_model`          Keras 3's `.keras` format under that name
`predict([[1, 2], [0, 0]])`              lists of numbers become arrays
`get_output_at`, `get_input_at`          the tensors of one of several calls of a layer
`Adam(lr=...)`, `optimizer.lr`           `learning_rate`
`fit` of a generator, `predict`           without XLA on TensorFlow; see `training.py`
`_make_train_function` and what follows  see `training.py` in this folder
=======================================  ================================================================
"""

from __future__ import annotations

import functools
import inspect
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import keras
import numpy as np

from bert4albert.bert4keras import keras_history, training
from bert4albert.bert4keras.generators import as_tuples, dataset_of
from bert4albert.bert4keras.symbolic import one_or_list
from bert4albert.errors import ConfigError

_GONE_FROM_FIT = ("workers", "use_multiprocessing", "max_queue_size", "wait_time")
_OPTIMIZERS = ("Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "Ftrl", "Nadam", "RMSprop", "SGD")
# What comes after the generator, in Keras 2's order.
_GENERATOR_ARGUMENTS = {
    "fit": [
        "steps_per_epoch",
        "epochs",
        "verbose",
        "callbacks",
        "validation_data",
        "validation_steps",
        "validation_freq",
    ],
    "evaluate": ["steps", "callbacks"],
    "predict": ["steps", "callbacks"],
}
_IN_TRAINING: ContextVar[Any] = ContextVar("model_in_training", default=None)


def install() -> None:
    """Add the names of Keras 2 to Keras 3; once, however often it is called."""
    if hasattr(keras.Model, "fit_generator"):
        return
    model, layer = keras.Model, keras.layers.Layer
    for name in ("fit", "evaluate", "predict"):
        for wrapper in (_without_workers, _with_tuples, _for_any_length):
            _wrap(model, name, wrapper)
    for name in ("fit", "train_on_batch"):
        _wrap(model, name, _as_keras2_trains)
    for name in ("predict", "predict_on_batch"):
        _wrap(model, name, _with_arrays)
    for name in ("compute_loss", "compute_metrics"):
        _wrap(model, name, _with_targets_by_name)
    _wrap(model, "compute_loss", _known_to_the_loss)
    _wrap(model, "compile", _remembering_weights)
    for name, suffix in (("save_weights", ".weights.h5"), ("save", ".keras")):
        _wrap(model, name, functools.partial(_saving_under_any_name, suffix))
    _wrap(model, "load_weights", functools.partial(_loading_from_any_name, ".weights.h5"))
    for module in (keras.models, keras.saving):
        _wrap(module, "load_model", functools.partial(_loading_from_any_name, ".keras"))
    model.fit_generator = _renamed("fit")
    model.evaluate_generator = _renamed("evaluate")
    model.predict_generator = _renamed("predict")
    layer.get_output_at = lambda self, node_index: _tensors_at(self, node_index, 1)
    layer.get_input_at = lambda self, node_index: _tensors_at(self, node_index, 0)
    for name in _OPTIMIZERS:
        optimizer = getattr(keras.optimizers, name)
        _wrap(optimizer, "__init__", _with_lr)
        optimizer.lr = property(
            lambda self: self.learning_rate, lambda self, value: setattr(self, "learning_rate", value)
        )
    training.install(model)


def layers_in_training() -> Iterator[Any]:
    """Yield the layers of the model whose loss is being computed; none outside a loss function."""
    model = _IN_TRAINING.get()
    waiting = [] if model is None else [model]
    for layer in waiting:
        waiting.extend(getattr(layer, "layers", []))
        yield layer


def _wrap(owner: Any, name: str, wrapper: Callable[..., Any]) -> None:
    """Replace a function by one that calls `wrapper(function, *arguments)`, where it is defined.

    Keras looks whether a class has a `compile` of its own, and would not compile what it loads if it had one.
    """
    if isinstance(owner, type):
        owner = next(cls for cls in owner.__mro__ if name in vars(cls))
    original = getattr(owner, name)

    @functools.wraps(original)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return wrapper(original, *args, **kwargs)

    setattr(owner, name, wrapped)


def _renamed(name: str) -> Callable[..., Any]:
    def call(self: Any, generator: Any, *args: Any, **kwargs: Any) -> Any:
        for old, new in (("samples_per_epoch", "steps_per_epoch"), ("nb_epoch", "epochs"), ("val_samples", "steps")):
            if old in kwargs:
                kwargs[new] = kwargs.pop(old)
        if len(args) > len(_GENERATOR_ARGUMENTS[name]):
            raise ConfigError(f"{name}_generator got {len(args)} arguments in a row; give the last ones by name.")
        kwargs.update(zip(_GENERATOR_ARGUMENTS[name], args, strict=False))
        return getattr(self, name)(generator, **kwargs)

    call.__doc__ = f"Call `{name}`, as Keras 2's `{name}_generator` is called."
    return call


def _without_workers(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return original(*args, **{key: value for key, value in kwargs.items() if key not in _GONE_FROM_FIT})


def _with_tuples(original: Callable[..., Any], self: Any, x: Any = None, *args: Any, **kwargs: Any) -> Any:
    # A tuple is inputs and targets, and a list as well, but to `predict`: there it is inputs.
    alone = original.__name__ == "predict"
    if original.__name__ == "fit" and inspect.isgenerator(x) and not args:
        kwargs.setdefault("shuffle", False)  # Keras 3 warns that it does not shuffle batches
    x = _batches(self, x, alone)
    if kwargs.get("validation_data") is not None:
        kwargs["validation_data"] = _batches(self, kwargs["validation_data"], alone)
    return original(self, x, *args, **kwargs)


def _batches(model: Any, data: Any, alone: bool) -> Any:
    if not inspect.isgenerator(data):
        return data
    batches = ((as_tuples(batch),) if alone and isinstance(batch, list) else as_tuples(batch) for batch in data)
    open_lengths = keras.backend.backend() == "tensorflow" and training.is_from_bert4keras(model)
    return dataset_of(model, batches) if open_lengths else batches


def _as_keras2_trains(original: Callable[..., Any], self: Any, *args: Any, **kwargs: Any) -> Any:
    with training.as_compiled(self), training.replaced_function(self):
        training.build_optimizer(self)
        return original(self, *args, **kwargs)


def _for_any_length(original: Callable[..., Any], self: Any, x: Any = None, *args: Any, **kwargs: Any) -> Any:
    varies = original.__name__ == "predict" or inspect.isgenerator(x)
    with training.without_xla(self) if varies else nullcontext():
        return original(self, x, *args, **kwargs)


def _with_arrays(original: Callable[..., Any], self: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
    if isinstance(x, (list, tuple)) and x and all(isinstance(item, (list, tuple)) for item in x):
        x = [np.array(item) for item in x]
    if original.__name__ == "predict" and training.is_from_bert4keras(self):
        kwargs.setdefault("verbose", 0)  # as in Keras 2: scripts predict text by text
    return original(self, x, *args, **kwargs)


def _with_targets_by_name(
    original: Callable[..., Any], self: Any, x: Any = None, y: Any = None, y_pred: Any = None, *args: Any, **kwargs: Any
) -> Any:
    if isinstance(y, dict) and not isinstance(y_pred, dict) and set(y) == set(getattr(self, "output_names", ())):
        y = [y[name] for name in self.output_names]
        y = y[0] if len(y) == 1 and not isinstance(y_pred, (list, tuple)) else y
    if isinstance(y_pred, (list, tuple)):
        # A loss that a layer computes may have no axis; Keras 3 asks each of several outputs how many examples it has.
        y_pred = [keras.ops.reshape(value, (1,)) if len(value.shape) == 0 else value for value in y_pred]
    return original(self, x, y, y_pred, *args, **kwargs)


def _known_to_the_loss(original: Callable[..., Any], self: Any, *args: Any, **kwargs: Any) -> Any:
    token = _IN_TRAINING.set(self)
    try:
        return original(self, *args, **kwargs)
    finally:
        _IN_TRAINING.reset(token)


def _remembering_weights(original: Callable[..., Any], self: Any, *args: Any, **kwargs: Any) -> Any:
    result = original(self, *args, **kwargs)
    # Keras 2 trained the weights that were trainable when the model was compiled. Not by `setattr`: Keras 3 would take
    # them for weights of the model's own and save them once more.
    self.__dict__.update(
        _collected_trainable_weights=self.trainable_weights,
        _takes_arrays=None,
        _chooses_xla="jit_compile" in kwargs,
    )
    return result


def _saving_under_any_name(
    suffix: str, original: Callable[..., Any], self: Any, filepath: Any, overwrite: bool = True, **kwargs: Any
) -> Any:
    if not isinstance(filepath, (str, os.PathLike)) or _keras3_name(filepath, suffix):
        return original(self, filepath, overwrite=overwrite, **kwargs)
    kwargs = {key: value for key, value in kwargs.items() if key not in ("include_optimizer", "save_format")}
    path = Path(filepath)
    if path.exists() and not overwrite:
        raise ConfigError(f"{path} exists; pass overwrite=True, or another name.")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        written = Path(folder) / f"weights{suffix}"
        original(self, written, **kwargs)
        os.replace(written, path)
    return None


def _loading_from_any_name(suffix: str, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    *before, filepath = args if not kwargs.get("filepath") else (*args, kwargs.pop("filepath"))
    if not isinstance(filepath, (str, os.PathLike)) or _keras3_name(filepath, suffix) or not Path(filepath).is_file():
        return original(*before, filepath, **kwargs)
    with tempfile.TemporaryDirectory() as folder:
        named = Path(folder) / f"weights{suffix}"
        try:
            named.symlink_to(Path(filepath).resolve())
        except OSError:
            shutil.copyfile(filepath, named)
        return original(*before, named, **kwargs)


def _keras3_name(filepath: Any, suffix: str) -> bool:
    """Whether Keras 3 takes this name as it is."""
    return str(filepath).endswith((suffix, ".h5", ".hdf5", ".keras"))


def _tensors_at(layer: Any, node_index: int, which: int) -> Any:
    calls = keras_history.calls_of(layer)
    try:
        return one_or_list(calls[node_index][which])
    except IndexError:
        raise ConfigError(
            f"The layer {layer.name!r} was called {len(calls)} times; there is no call {node_index}."
        ) from None


def _with_lr(original: Callable[..., Any], self: Any, *args: Any, **kwargs: Any) -> Any:
    return original(self, *args, **with_learning_rate(kwargs))


def with_learning_rate(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return named arguments of an optimizer with `lr` under its name of today; `ConfigError` for a `decay`."""
    arguments = dict(arguments)
    if "lr" in arguments:
        arguments["learning_rate"] = arguments.pop("lr")
    if arguments.pop("decay", 0):
        raise ConfigError(
            "Keras 3's optimizers have no decay; pass learning_rate=keras.optimizers.schedules.InverseTimeDecay("
            "learning_rate, decay_steps=1, decay_rate=decay)."
        )
    return arguments
