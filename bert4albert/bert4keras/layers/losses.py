"""`Loss`, and layers that split and join."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from bert4albert.bert4keras.registration import Layer, register


@register
class Loss(Layer):
    """A layer whose `compute_loss` is what a model trains on, for `compile(optimizer)` without a loss.

    Arguments:
        output_axis: which of the inputs is the output, a number or a list; None for all.
    """

    def __init__(self, output_axis: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.output_axis = output_axis

    def get_config(self) -> dict[str, Any]:
        """Return Keras' own settings and the output axis."""
        return {**super().get_config(), "output_axis": self.output_axis}

    def compute_loss(self, inputs: Any, mask: Any = None) -> Any:
        """Return the loss, a scalar; a script says what it is."""
        raise NotImplementedError("A Loss layer needs a method compute_loss(self, inputs, mask=None).")

    def call(self, inputs: Any, mask: Any = None) -> Any:
        """Add the loss, and return the inputs that `output_axis` names."""
        self.add_loss(self.compute_loss(inputs, mask))
        return self._chosen(inputs)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """Return the masks of the output."""
        return None if mask is None else self._chosen(mask)

    def compute_output_spec(self, inputs: Any, mask: Any = None) -> Any:
        """Return the shapes of the output."""
        specs = keras.tree.map_structure(lambda x: keras.KerasTensor(x.shape, dtype=x.dtype), inputs)
        return self._chosen(specs)

    def _chosen(self, items: Any) -> Any:
        if self.output_axis is None:
            return items
        if isinstance(self.output_axis, (list, tuple)):
            return [items[axis] for axis in self.output_axis]
        return items[self.output_axis]


@register
class Concatenate1D(Layer):
    """Join sequences [batch, length, size] along their length; one without a mask counts whole."""

    def call(self, inputs: Sequence[Any]) -> Any:
        """Join."""
        return ops.concatenate(list(inputs), axis=1)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """Join the masks, if there is any."""
        if mask is None or all(one is None for one in mask):
            return None
        masks = [
            ops.ones_like(x[..., 0], dtype="bool") if one is None else one for x, one in zip(inputs, mask, strict=True)
        ]
        return ops.concatenate(masks, axis=1)

    def compute_output_shape(self, shapes: Any) -> Any:
        """Return the shape."""
        lengths = [shape[1] for shape in shapes]
        return (shapes[0][0], None if None in lengths else sum(lengths), shapes[0][2])


@register
class BatchSplit(Layer):
    """Split each input along the batch: part 0 of all inputs' first, then part 1, as bert4keras' data parallelism did.

    Arguments:
        parts: how many parts, or a list of their relative sizes.
    """

    def __init__(self, parts: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.parts = parts

    def get_config(self) -> dict[str, Any]:
        """Return Keras' own settings and the parts."""
        return {**super().get_config(), "parts": self.parts}

    def call(self, inputs: Any) -> Any:
        """Split."""
        if isinstance(inputs, (list, tuple)):
            return [part for x in inputs for part in self.call(x)]
        batch, ends = ops.shape(inputs)[0], []
        if np.ndim(self.parts) > 0:
            ends = [int(end * 1e6) * batch // (int(sum(self.parts) * 1e6)) for end in np.cumsum(self.parts)]
        else:
            ends = [-(-batch // self.parts) * (i + 1) for i in range(self.parts)]
        return [inputs[start:end] for start, end in zip([0, *ends[:-1]], [*ends[:-1], batch], strict=True)]

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """Split the masks, where there are any."""
        if isinstance(mask, (list, tuple)):
            return [part for x, one in zip(inputs, mask, strict=True) for part in self.compute_mask(x, one)]
        if mask is None:
            return [None] * (len(self.parts) if np.ndim(self.parts) > 0 else self.parts)
        # A symbolic mask is split by a layer of its own, which is no further call of this one.
        return type(self)(self.parts)(mask) if isinstance(mask, keras.KerasTensor) else self.call(mask)

    def compute_output_spec(self, inputs: Any) -> Any:
        """Return the shapes."""
        count = len(self.parts) if np.ndim(self.parts) > 0 else self.parts
        tensors = inputs if isinstance(inputs, (list, tuple)) else [inputs]
        return [keras.KerasTensor((None, *x.shape[1:]), dtype=x.dtype) for x in tensors for _ in range(count)]


@register
class BatchConcat(Layer):
    """Join tensors along the batch; their masks too, if all have one."""

    def call(self, inputs: Sequence[Any]) -> Any:
        """Join."""
        return ops.concatenate(list(inputs), axis=0)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """Join the masks."""
        return None if mask is None or any(one is None for one in mask) else ops.concatenate(list(mask), axis=0)

    def compute_output_shape(self, shapes: Any) -> Any:
        """Return the shape."""
        return (None, *shapes[0][1:])


@register
class BiasAdd(Layer):
    """Add a bias to the last axis."""

    def build(self, shape: Any) -> None:
        """Create the bias."""
        self.bias = self.add_weight(shape=(shape[-1],), initializer="zeros", name="bias")
        self.built = True

    def call(self, inputs: Any) -> Any:
        """Add it."""
        return inputs + ops.cast(self.bias, inputs.dtype)

    def compute_output_shape(self, shape: Any) -> Any:
        """Return the input's shape."""
        return shape
