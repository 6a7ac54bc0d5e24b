"""One vector for a text, from the hidden states of a trunk."""

from __future__ import annotations

from collections.abc import Callable

import keras

from bert4albert.errors import ConfigError, require_choice
from bert4albert.heads import FirstToken, MeanPooling
from bert4albert.layers import padding_of
from bert4albert.model import Trunk

POOLINGS = ("cls", "mean", "pooler")


def pooled_output(trunk: Trunk, pooling: str = "cls") -> keras.KerasTensor:
    """Return one vector a text, [batch, hidden_size], from a trunk.

    Arguments:
        trunk: a trunk from `build_model`.
        pooling: 'cls' for the hidden state of [CLS], 'mean' for the mean over the text, 'pooler' for the trunk's
            own pooler, which it must have been built with.

    Returns:
        A symbolic tensor to put layers on. Raises `ConfigError` for a pooling that does not fit.

    Examples:
        >>> from bert4albert import build_model
        >>> from bert4albert.tasks import pooled_output
        >>> pooled_output(build_model("albert_tiny_zh"), "mean").shape
        (None, 312)
    """
    return pooler(trunk, pooling)(trunk.hidden_states[-1])


def pooler(trunk: Trunk, pooling: str = "cls") -> Callable[[keras.KerasTensor], keras.KerasTensor]:
    """Return what makes one vector a text of the hidden states of any depth; arguments as in `pooled_output`."""
    require_choice("pooling", pooling, POOLINGS)
    dtype = trunk.encoder.dtype_policy
    if pooling == "cls":
        return FirstToken(dtype=dtype, name="first_token")
    if pooling == "mean":
        inside, mean = padding_of(trunk), MeanPooling(dtype=dtype, name="mean_pooling")
        return lambda hidden_states: mean(hidden_states, inside)
    if not trunk.config.with_pool or trunk.config.with_nsp:
        raise ConfigError("pooling='pooler' needs the trunk's pooler as output: build_model(..., with_pool=True).")
    return trunk.get_layer("pooler")
