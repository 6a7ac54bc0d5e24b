"""An ONNX graph that grows node by node, with each weight in it once however often it is used."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from onnx import ModelProto, TensorProto, checker, helper, numpy_helper

from bert4albert import __version__
from bert4albert.errors import ExportError

# The first with Gelu in both forms; 17 brought LayerNormalization.
OPSET = 20
_IR_VERSION = 9

_TYPES = {
    "float32": TensorProto.FLOAT,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
    "bool": TensorProto.BOOL,
}


class Graph:
    """Nodes and weights; a value of the graph is the name of a tensor.

    Calling it adds a node: `graph("MatMul", x, kernel)` returns the name of the product.

    Arguments:
        quantize: 'int8' to hold matrices in whole numbers with scales; None for float32.
    """

    def __init__(self, quantize: str | None = None) -> None:
        self._quantize = quantize
        self._nodes: list[Any] = []
        self._weights: dict[str, Any] = {}
        self._names: dict[Any, str] = {}

    def __call__(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node and return the name of its output."""
        name = f"{operator}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, inputs, [name], name, **attributes))
        return name

    def weight(self, variable: Any, name: str, scales: str | None = "columns") -> str:
        """Return the name of a vector or matrix of weights, which is written once.

        Arguments:
            variable: the weights.
            name: what to call them.
            scales: what has a scale of its own where matrices are held in whole numbers: 'columns', or 'rows' for a
                table; None for a matrix that is small and that answers hang on, which stays float32.
        """
        if self._quantize and scales and len(variable.shape) == 2:
            key = "float32", id(variable)
            if key not in self._names:
                axis = 0 if scales == "rows" else 1
                self._names[key] = self("DequantizeLinear", *self._whole_numbers(variable, name, axis), axis=axis)
            return self._names[key]
        if id(variable) not in self._names:
            self._names[id(variable)] = self._add(name, _float_array(variable))
        return self._names[id(variable)]

    def rows(self, variable: Any, index: str, name: str) -> str:
        """Return the rows of a table of weights at these indices."""
        if not self._quantize:
            return self("Gather", self.weight(variable, name), index)
        numbers, scale = self._whole_numbers(variable, name, axis=0)
        row, scale = self("Gather", numbers, index), self.expand_dims(self("Gather", scale, index), -1)
        return self("Mul", self.cast(row, "float32"), scale)

    def constant(self, value: Any, dtype: str) -> str:
        """Return the name of a small constant, equal ones written once."""
        array = np.asarray(value, dtype)
        key = array.tobytes(), array.shape, dtype
        if key not in self._names:
            self._names[key] = self._add(f"constant_{len(self._names)}", array)
        return self._names[key]

    def cast(self, value: str, dtype: str) -> str:
        """Return a value as another dtype."""
        return self("Cast", value, to=_TYPES[dtype])

    def expand_dims(self, value: str, *axes: int) -> str:
        """Return a value with new axes of size 1."""
        return self("Unsqueeze", value, self.constant(axes, "int64"))

    def reshape(self, value: str, *shape: int) -> str:
        """Return a value in another shape, where 0 keeps the size of an axis and -1 is what is left."""
        return self("Reshape", value, self.constant(shape, "int64"))

    def length(self, value: str) -> str:
        """Return the size of axis 1 as int64 [1]."""
        return self("Shape", value, start=1, end=2)

    def finish(
        self, inputs: list[str], outputs: dict[str, str], shapes: dict[str, list[Any]], about: str
    ) -> ModelProto:
        """Return the model.

        Arguments:
            inputs: names of the inputs, int32 [batch, length].
            outputs: name of each output -> the value that it is.
            shapes: shape of each output, a string for a size that depends on the input.
            about: what the model is, a sentence.
        """
        for name, value in outputs.items():
            self._nodes.append(helper.make_node("Identity", [value], [name], f"{name}_output"))
        graph = helper.make_graph(
            self._nodes,
            "bert4albert",
            [helper.make_tensor_value_info(name, TensorProto.INT32, ["batch", "length"]) for name in inputs],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shapes[name]) for name in outputs],
            list(self._weights.values()),
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=_IR_VERSION,
            producer_name="bert4albert",
            producer_version=__version__,
            doc_string=about,
        )
        if model.ByteSize() >= 2**31:
            raise ExportError("The model is larger than the 2 GB that an ONNX file holds: export it as 'saved_model'.")
        checker.check_model(model)
        return model

    def _whole_numbers(self, variable: Any, name: str, axis: int) -> tuple[str, str]:
        """Return the names of a matrix in int8 and of the scale of each of its rows (axis 0) or columns (1)."""
        if id(variable) not in self._names:
            array = _float_array(variable)
            scale = np.maximum(np.abs(array).max(axis=1 - axis) / 127, np.finfo("float32").tiny).astype("float32")
            whole = np.round(array / np.expand_dims(scale, 1 - axis)).astype("int8")
            self._names[id(variable)] = self._add(name, whole)
            self._names["scale", id(variable)] = self._add(f"{name}/scale", scale)
        return self._names[id(variable)], self._names["scale", id(variable)]

    def _add(self, name: str, array: np.ndarray) -> str:
        unique = name if name not in self._weights else f"{name}_{len(self._weights)}"
        self._weights[unique] = numpy_helper.from_array(np.asarray(array, order="C"), unique)
        return unique


def _float_array(variable: Any) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(variable, "float32")))
