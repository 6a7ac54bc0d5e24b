"""Where a symbolic tensor came from: the one place that reads how Keras 3 remembers it.

Keras 2 scripts walk the graph (`search_layer`, `get_output_at`), for which Keras 3 has no public way.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras


def layer_of(tensor: Any) -> Any:
    """Return the layer that gave a symbolic tensor; None for a tensor with actual numbers."""
    history = getattr(tensor, "_keras_history", None)
    return None if history is None else history.operation


def inputs_of(tensor: Any) -> list[Any]:
    """Return the symbolic tensors that went into the call that gave `tensor`."""
    operation, node_index, _ = tensor._keras_history
    return list(operation._inbound_nodes[node_index].input_tensors)


def calls_of(layer: Any) -> list[tuple[list[Any], list[Any]]]:
    """Return (inputs, outputs) of every symbolic call of a layer, in order."""
    return [(list(node.input_tensors), list(node.output_tensors)) for node in layer._inbound_nodes]


def layers_before(tensor: Any, ends: Any = None) -> Iterator[Any]:
    """Yield every layer that a symbolic tensor depends on, the nearest first, and those within models.

    Arguments:
        tensor: the tensor.
        ends: layers that are yielded, but neither what is within them nor what comes before.
    """
    waiting, seen = [tensor], set()
    while waiting:
        current = waiting.pop(0)
        layer = layer_of(current)
        if layer is None or id(current) in seen:
            continue
        seen.add(id(current))
        yield layer
        if any(layer is end for end in ends or ()):
            continue
        if isinstance(layer, keras.Model):
            yield from layer.layers
        waiting.extend(inputs_of(current))
