"""A Keras model as an ONNX model, layer by layer."""

from __future__ import annotations

from typing import Any

import keras
from onnx import ModelProto

from bert4albert.errors import ExportError
from bert4albert.export.onnx_graph import Graph
from bert4albert.export.onnx_layers import WRITERS


def onnx_model(model: keras.Model, quantize: str | None = None) -> ModelProto:
    """Return a functional model as ONNX, with every weight in it once.

    Arguments:
        model: made of layers of this package, Dense and Dropout, on int32 inputs [batch, length].
        quantize: 'int8' for matrices in whole numbers, which are computed with in float32.

    Returns:
        The model: inputs by their names, outputs `output_0`, ..., in float32. Raises `ExportError` for a layer that
        has no ONNX form here.
    """
    graph = Graph(quantize)
    values: dict[int, Any] = {}

    def write(layer: keras.layers.Layer, *args: Any, **kwargs: Any) -> Any:
        outputs = layer(*args, **kwargs)
        if type(layer) not in WRITERS:
            raise ExportError(
                f"The layer {layer.name!r} ({type(layer).__name__}) cannot be written as ONNX: "
                "export under TensorFlow as 'saved_model'."
            )
        args, kwargs = keras.tree.map_structure(lambda value: values.get(id(value), value), (args, kwargs))
        kwargs.pop("training", None)
        written = keras.tree.flatten(WRITERS[type(layer)](graph, layer, *args, **kwargs))
        for tensor, name in zip(keras.tree.flatten(outputs), written, strict=True):
            # The tensor too: its number is its own only while it lives.
            values[id(tensor)] = name
            alive.append(tensor)
        return outputs

    alive: list[Any] = []
    inputs = [keras.Input(tensor.shape[1:], dtype=tensor.dtype, name=tensor.name) for tensor in model.inputs]
    for tensor in inputs:
        values[id(tensor)] = tensor.name
    copy = keras.models.clone_model(model, inputs, clone_function=lambda layer: layer, call_function=write)
    outputs = {f"output_{index}": values[id(tensor)] for index, tensor in enumerate(copy.outputs)}
    shapes = {
        name: ["batch", *(f"size_{axis}" if size is None else size for axis, size in enumerate(tensor.shape[1:], 1))]
        for name, tensor in zip(outputs, copy.outputs, strict=True)
    }
    return graph.finish([tensor.name for tensor in inputs], outputs, shapes, f"{type(model).__name__} of bert4albert")
