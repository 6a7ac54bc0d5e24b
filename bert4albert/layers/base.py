"""What every layer of the trunk shares: one config, one dtype policy, one way to be saved."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any, TypeAlias

import keras

from bert4albert.config import ModelConfig
from bert4albert.errors import ConfigError


def activation(name: str) -> Callable[[Any], Any]:
    """Return the function of an entry of `config.ACTIVATIONS`."""
    if name.startswith("gelu_"):
        return lambda x: keras.ops.gelu(x, approximate=name == "gelu_tanh")
    return keras.activations.get(name)


# Keras has no public type for the tensors of its backends: arrays, symbolic tensors, and what NumPy takes for one.
Tensor: TypeAlias = Any

_WEIGHTS_FOLLOW: ContextVar[bool] = ContextVar("weights_follow", default=False)


@contextlib.contextmanager
def weights_follow(every: bool = True) -> Iterator[None]:
    """Make the layers created within start from zeros where a checkpoint is about to fill `every` weight.

    Drawing random numbers only to overwrite them takes longer than all the rest of loading.
    """
    token = _WEIGHTS_FOLLOW.set(every)
    try:
        yield
    finally:
        _WEIGHTS_FOLLOW.reset(token)


def initializer(config: ModelConfig) -> keras.initializers.Initializer:
    """Return a new truncated normal initializer; one instance used twice would draw the same numbers twice."""
    if _WEIGHTS_FOLLOW.get():
        return keras.initializers.Zeros()
    return keras.initializers.TruncatedNormal(stddev=config.initializer_range)


class ConfiguredLayer(keras.layers.Layer):
    """A layer that is fully described by the `ModelConfig`, and hands it to its parts.

    Arguments:
        config: a `ModelConfig`, or its `to_dict()` when Keras rebuilds the layer from a file.
    """

    def __init__(self, config: ModelConfig | Mapping[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.config = config if isinstance(config, ModelConfig) else ModelConfig.from_dict(config)

    def get_config(self) -> dict[str, Any]:
        """Return Keras' own settings and the `ModelConfig`. Raises `ConfigError` for a quantised layer."""
        self.refuse_quantized()
        return {**super().get_config(), "config": self.config.to_dict()}

    def refuse_quantized(self) -> None:
        """Raise `ConfigError` if a sub-layer is quantised: a config cannot say so, and its weights would not load."""
        for part in self.parts().values():
            if isinstance(part, ConfiguredLayer):
                part.refuse_quantized()
            elif getattr(part, "quantization_mode", None) is not None:
                raise ConfigError(
                    f"The layer {part.path} is quantised ({part.quantization_mode}), which a saved file cannot say: "
                    "save the model before quantising it, and quantise it again after loading."
                )

    def parts(self) -> dict[str, keras.layers.Layer]:
        """Return the sub-layers that hold weights, by their canonical names."""
        return {}

    def named_weights(self, prefix: str) -> Iterator[tuple[str, Any]]:
        """Yield (canonical name, variable) for every weight, such as 'block_0/query/kernel'."""
        for name, part in self.parts().items():
            if isinstance(part, ConfiguredLayer):
                yield from part.named_weights(f"{prefix}/{name}")
            else:
                yield from ((f"{prefix}/{name}/{weight.name}", weight) for weight in part.weights)

    def _dense(self, units: int, name: str, **kwargs: Any) -> keras.layers.Dense:
        return keras.layers.Dense(
            units, kernel_initializer=initializer(self.config), dtype=self.dtype_policy, name=name, **kwargs
        )

    def _embedding(self, kind: type[keras.layers.Embedding], rows: int, size: int, name: str) -> keras.layers.Embedding:
        return kind(rows, size, embeddings_initializer=initializer(self.config), dtype=self.dtype_policy, name=name)

    def _norm(self, name: str) -> keras.layers.LayerNormalization:
        return keras.layers.LayerNormalization(epsilon=self.config.layer_norm_eps, dtype=self.dtype_policy, name=name)

    def _dropout(self, rate: float, name: str) -> keras.layers.Dropout:
        return keras.layers.Dropout(rate, dtype=self.dtype_policy, name=name)
