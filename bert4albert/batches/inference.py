"""What a model computes, for any number of threads; kept apart since it imports Keras.

Not by Keras' `predict`: on JAX that gives the weights away while it runs, and no other thread may ask meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from bert4albert.backend import compiled


def inference_of(model: keras.Model) -> Callable[[Any], Any]:
    """Return a function from a batch of inputs to the model's outputs as NumPy arrays, for any number of threads.

    The same function at each call, so that nothing is compiled twice, until the model has other variables, as LoRA
    and quantisation give it.

    Arguments:
        model: a Keras model whose call changes no variable.
    """
    variables = list(model.variables)
    known, run = getattr(model, "_inference", ((), None))
    if run is None or known != tuple(map(id, variables)):
        run = compiled(lambda *inputs: model(list(inputs) if len(inputs) > 1 else inputs[0], training=False), variables)
        model._inference = (tuple(map(id, variables)), run)

    def infer(inputs: Any) -> Any:
        columns = inputs if isinstance(inputs, tuple) else (inputs,)
        return keras.tree.map_structure(ops.convert_to_numpy, run(*columns))

    return infer
