"""All that differs by backend: registering, compiling, seeds."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import keras
import numpy as np

from bert4albert.errors import Bert4AlbertError, ConfigError

# What constructors raise when a file gives them something else than was saved.
_UNUSABLE = (TypeError, ValueError, KeyError, IndexError, AttributeError, ArithmeticError, RecursionError, ImportError)

_MOST_LEVELS = 200  # of a config: more than models within models have

_Registered = TypeVar("_Registered", bound=Callable[..., Any])


def register(registered: _Registered, package: str = "bert4albert") -> _Registered:
    """Register a layer, model, optimizer or loss for Keras' files.

    A config in a file that does not fit its class is a `ConfigError`. Within a package each name is given once: Keras
    would silently read the files of one class as those of the other.
    """
    name = f"{package}>{registered.__name__}"
    taken = keras.saving.get_registered_object(name)
    if taken is not None and taken.__module__ != registered.__module__:
        raise TypeError(f"{name} is registered already, by {taken.__module__}; use another name or package.")
    in_files = keras.saving.register_keras_serializable(package=package)
    return in_files(_guarded(registered) if isinstance(registered, type) else registered)


def _guarded(cls: type) -> type:
    read = cls.from_config.__func__  # type: ignore[attr-defined]

    @functools.wraps(read)
    def from_config(owner: type, *args: Any, **kwargs: Any) -> Any:
        try:
            if _nested_deeper((args, kwargs), _MOST_LEVELS):
                raise ValueError("it is nested too deeply")  # Else it would be read, and fail when it is written.
            return read(owner, *args, **kwargs)
        except Bert4AlbertError:
            raise
        except _UNUSABLE as error:
            raise ConfigError(
                f"A {owner.__name__} cannot be made from its config ({error}): the file is damaged or of another "
                "version, save the model again."
            ) from error

    cls.from_config = classmethod(from_config)  # type: ignore[attr-defined]
    return cls


def _nested_deeper(value: Any, levels: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return levels == 0 or any(_nested_deeper(item, levels - 1) for item in inner)


def concrete(tensor: Any) -> np.ndarray | None:
    """Return the values of a tensor that lie in this processor's memory; None while a function is traced."""
    if isinstance(tensor, np.ndarray):
        return tensor
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return tensor.numpy() if tf.executing_eagerly() and isinstance(tensor, tf.Tensor) else None
    if backend == "jax":
        import jax

        return None if isinstance(tensor, jax.core.Tracer) or not isinstance(tensor, jax.Array) else np.asarray(tensor)
    import torch

    known = type(tensor) is torch.Tensor and tensor.device.type == "cpu" and not torch.jit.is_tracing()
    return tensor.numpy() if known and not torch.compiler.is_compiling() else None


def compiles() -> bool:
    """Return whether `compiled` compiles: new input shapes then cost time, so that few of them are better."""
    return keras.backend.backend() in ("tensorflow", "jax")


def compiles_each_shape() -> bool:
    """Return whether `compiled` compiles anew for each combination of input shapes, and not once for all of them."""
    return keras.backend.backend() == "jax" or (keras.backend.backend() == "tensorflow" and _has_tensorflow_gpu())


def _has_tensorflow_gpu() -> bool:
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU"))


def compiled(function: Callable[..., Any], variables: Sequence[Any]) -> Callable[..., Any]:
    """Return a function that computes the same without gradients, compiled where the backend has a compiler.

    Arguments:
        function: takes and returns arrays, or structures of arrays; must not change variables.
        variables: the Keras variables that it reads. Their values are those at the time of each call.

    Returns:
        The compiled function: by XLA on JAX, and on TensorFlow where there is a GPU, once for each combination
        of input shapes; a graph on TensorFlow without a GPU; on PyTorch it runs operation by operation.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        # On a CPU XLA gains next to nothing here and compiles for seconds; Keras' own default is the same.
        has_gpu = _has_tensorflow_gpu()
        # A function object of its own, since TensorFlow warns of retracing where several models share one.
        return tf.function(
            lambda *arguments: function(*arguments),
            jit_compile=has_gpu,
            reduce_retracing=not has_gpu,
            autograph=False,
        )
    if backend == "jax":
        import jax

        # A compiled JAX function sees only its arguments: variables it closed over would stay as they were.
        def stateless(values: Sequence[Any], *arguments: Any) -> Any:
            with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
                return function(*arguments)

        run = jax.jit(stateless)
        return lambda *arguments: run([variable.value for variable in variables], *arguments)
    import torch

    return torch.inference_mode()(function)


@contextmanager
def seeded_dropout(model: keras.Model, seed: int) -> Iterator[None]:
    """Start the random numbers of all dropout layers of a model from a seed, inside a `with` block.

    Arguments:
        model: the model that trains inside the block.
        seed: the seed; the same one drops the same units again.

    Examples:
        >>> import keras
        >>> import numpy as np
        >>> from bert4albert.training import seeded_dropout
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dropout(0.5)])
        >>> outputs = []
        >>> for _ in range(2):
        ...     with seeded_dropout(model, seed=1):
        ...         outputs.append(keras.ops.convert_to_numpy(model(np.ones((1, 8)), training=True)))
        >>> bool((outputs[0] == outputs[1]).all())
        True
    """
    for index, variable in enumerate(model.variables):
        if variable.name == "seed_generator_state":
            variable.assign(np.array([seed, index], variable.dtype))
    if keras.backend.backend() != "torch":
        yield
        return
    import torch

    # There Keras' dropout draws from PyTorch's own state, unless each layer has a seed.
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def random_state() -> np.ndarray | None:
    """Return the state of the random numbers that no variable holds: PyTorch's; None on other backends."""
    if keras.backend.backend() != "torch":
        return None
    import torch

    return torch.random.get_rng_state().numpy()


def set_random_state(state: np.ndarray | None) -> None:
    """Go on from a state that `random_state` returned."""
    if state is not None and keras.backend.backend() == "torch":
        import torch

        torch.random.set_rng_state(torch.from_numpy(state))
