"""What a depth adds to the weights it shares with others: low-rank updates of kernels, offsets of biases and norms."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
from keras import ops

from bert4albert.backend import register
from bert4albert.checkpoint.names import adapter_shapes
from bert4albert.layers.base import ConfiguredLayer, Tensor


@register
class DepthAdapter(ConfiguredLayer):
    """The weights that one depth adds to those of its block; made new, it adds nothing.

    A kernel becomes kernel + alpha / rank * A @ B with B zero at first (LoRA, arXiv:2106.09685; one for each depth of
    a shared block: arXiv:2410.20672); a bias, gamma or beta gets an offset, zero at first.

    Examples:
        >>> import keras
        >>> from bert4albert import build_model
        >>> model = build_model("albert_tiny_zh", depth_lora={"rank": 4, "parts": ["attention"]})
        >>> adapter = model.encoder.adapters[0]
        >>> tuple(adapter.added["attention/query/lora_a"].shape)
        (312, 4)
        >>> float(keras.ops.max(keras.ops.abs(adapter.kernel_update("attention/query"))))
        0.0
    """

    def build(self, input_shape: Any = None) -> None:
        """Create the weights."""
        self.added = {
            name: self.add_weight(
                shape=shape,
                initializer=keras.initializers.HeUniform() if name.endswith("lora_a") else "zeros",
                name=name.replace("/", "_"),
            )
            for name, shape in adapter_shapes(self.config).items()
        }
        self.built = True

    def named_weights(self, prefix: str) -> Iterator[tuple[str, Any]]:
        """Yield (canonical name, variable) for every weight."""
        yield from ((f"{prefix}/{name}", weight) for name, weight in self.added.items())

    def kernel_update(self, name: str) -> Tensor | None:
        """Return what is added to the kernel of a layer, such as 'attention/query'; None for nothing."""
        lora = self.config.depth_lora
        if lora is None or f"{name}/lora_a" not in self.added:
            return None
        return ops.matmul(self.added[f"{name}/lora_a"], self.added[f"{name}/lora_b"]) * (lora.alpha / lora.rank)


def apply_dense(layer: keras.layers.Dense, inputs: Tensor, adapter: DepthAdapter | None, name: str) -> Tensor:
    """Return the output of a dense layer with what a depth adds to it.

    Arguments:
        layer: the layer, without an activation.
        inputs: [..., rows of the kernel].
        adapter: what the depth adds; None for nothing.
        name: the layer's name inside the block, such as 'attention/query'.
    """
    if adapter is None:
        return layer(inputs)
    update, offset = adapter.kernel_update(name), adapter.added.get(f"{name}/bias")
    if update is None or layer.quantization_mode is not None:
        outputs = layer(inputs)
        if update is not None:
            outputs = outputs + ops.matmul(inputs, update)
    else:
        # Moving the kernel once is cheaper than two products on all positions.
        outputs = ops.matmul(inputs, layer.kernel + update) + layer.bias
    return outputs if offset is None else outputs + offset


def apply_norm(
    layer: keras.layers.LayerNormalization, inputs: Tensor, adapter: DepthAdapter | None, name: str
) -> Tensor:
    """Return the output of a layer normalisation whose gamma and beta a depth has moved; arguments as above."""
    if adapter is None or f"{name}/gamma" not in adapter.added:
        return layer(inputs)
    gamma, beta = layer.gamma + adapter.added[f"{name}/gamma"], layer.beta + adapter.added[f"{name}/beta"]
    return ops.cast(ops.layer_normalization(inputs, gamma, beta, layer.axis, layer.epsilon), layer.compute_dtype)
