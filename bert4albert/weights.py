"""The weights of a trunk by canonical name: read from it, and put into a new one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from bert4albert.checkpoint.export import Weights
from bert4albert.checkpoint.names import weight_shapes
from bert4albert.config import ModelConfig
from bert4albert.errors import CheckpointError
from bert4albert.layers.base import weights_follow
from bert4albert.model import Trunk, trunk_of


def weights_of(model: keras.Model) -> Weights:
    """Return the weights of a model's trunk by canonical name, read as they are asked for.

    Arguments:
        model: a trunk, or a model on top of one.

    Raises `CheckpointError` where adapters or quantisation have added weights that have no name.
    """
    trunk = trunk_of(model)
    variables = dict(trunk.named_weights())
    unknown = sorted(variables.keys() - weight_shapes(trunk.config))
    if unknown:
        raise CheckpointError(
            f"The model has weights that no checkpoint holds ({', '.join(unknown[:5])}); merge adapters into the "
            "weights, or undo the quantisation, before saving."
        )
    wide = any(str(variable.dtype) == "float64" for variable in variables.values())
    return Weights(trunk.config, lambda name: _as_array(variables[name]), "float64" if wide else "float32")


def _as_array(variable: Any) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(variable))


def trunk_from(config: ModelConfig, read: Callable[[str], np.ndarray], like: Trunk) -> Trunk:
    """Return a new trunk with given weights.

    Arguments:
        config: the trunk's config.
        read: returns the value of each weight by its canonical name.
        like: the trunk whose dtype policy and name it has.
    """
    with weights_follow():
        trunk = Trunk(config, dtype=like.encoder.dtype_policy, name=like.name)
    for weight, variable in trunk.named_weights():
        variable.assign(read(weight))
    return trunk
