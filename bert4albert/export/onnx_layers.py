"""What each layer is as ONNX nodes; the same for every model that is made of these layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from bert4albert.checkpoint.names import part_of
from bert4albert.config import ModelConfig
from bert4albert.export.onnx_graph import Graph
from bert4albert.heads import CRF, EfficientGlobalPointer, ExitHeads, FirstToken, GlobalPointer, MeanPooling
from bert4albert.layers import (
    AttentionMask,
    Embeddings,
    Encoder,
    MaskedLMHead,
    MaskedLMTransform,
    PaddingMask,
    Pooler,
    SentenceHead,
)

# Writes the nodes of a layer: (graph, layer, values it is called with) -> the values that it returns.
Writer = Callable[..., Any]

WRITERS: dict[type[keras.layers.Layer], Writer] = {}

_LOW = -1e38  # as `layers.attention.attention_bias`
_RULED_OUT = -1e12  # as `heads.pointers`


def writes(*layers: type[keras.layers.Layer]) -> Callable[[Writer], Writer]:
    """Register a writer for kinds of layers."""

    def register(writer: Writer) -> Writer:
        WRITERS.update(dict.fromkeys(layers, writer))
        return writer

    return register


def dense(graph: Graph, layer: keras.layers.Dense, x: str, name: str, scales: str | None = "columns") -> str:
    """Write a product with a kernel and the bias, without an activation; `scales` as in `Graph.weight`."""
    product = graph("MatMul", x, graph.weight(layer.kernel, f"{name}/kernel", scales))
    return graph("Add", product, graph.weight(layer.bias, f"{name}/bias")) if layer.use_bias else product


def norm(graph: Graph, layer: keras.layers.LayerNormalization, x: str, name: str) -> str:
    """Write a layer normalisation over the last axis."""
    gamma, beta = graph.weight(layer.gamma, f"{name}/gamma"), graph.weight(layer.beta, f"{name}/beta")
    return graph("LayerNormalization", x, gamma, beta, axis=-1, epsilon=layer.epsilon)


def activate(graph: Graph, x: str, name: str) -> str:
    """Write an entry of `config.ACTIVATIONS`."""
    if name == "linear":
        return x
    if name.startswith("gelu_"):
        return graph("Gelu", x, approximate="tanh" if name == "gelu_tanh" else "none")
    if name == "silu":
        return graph("Mul", x, graph("Sigmoid", x))
    if name == "softmax":
        return graph("Softmax", x, axis=-1)
    return graph(name.capitalize(), x)


@writes(keras.layers.Dropout)
def _dropout(graph: Graph, layer: keras.layers.Layer, x: str) -> str:
    return x


@writes(keras.layers.Dense)
def _dense(graph: Graph, layer: keras.layers.Dense, x: str) -> str:
    return activate(graph, dense(graph, layer, x, layer.name, None), keras.activations.serialize(layer.activation))


@writes(AttentionMask)
def _attention_mask(graph: Graph, layer: AttentionMask, token_ids: str, segment_ids: str) -> str:
    visible = graph.expand_dims(_inside(graph, token_ids), 1)
    if layer.config.application == "encoder":
        return visible
    order = graph.expand_dims(_places(graph, token_ids), 0)
    if layer.config.application == "unilm":
        order = graph("CumSum", segment_ids, graph.constant(1, "int64"))
    before = graph("LessOrEqual", graph.expand_dims(order, 1), graph.expand_dims(order, 2))
    return graph("And", visible, before)


@writes(Embeddings)
def _embeddings(
    graph: Graph, layer: Embeddings, inputs: str, segment_ids: str = "", position_ids: str = "", reverse: bool = False
) -> str:
    table = layer.word.embeddings
    projection = layer.projection
    if reverse:
        if projection is not None:
            kernel = graph.weight(projection.kernel, "embeddings/projection/kernel")
            inputs = graph("MatMul", inputs, graph("Transpose", kernel, perm=[1, 0]))
        return graph("MatMul", inputs, graph("Transpose", graph.weight(table, "embeddings/word", "rows"), perm=[1, 0]))
    words = graph.rows(table, inputs, "embeddings/word")
    if projection is not None:
        words = dense(graph, projection, words, "embeddings/projection")
    segments = graph("Gather", graph.weight(layer.segment.embeddings, "embeddings/segment", None), segment_ids)
    summed = graph("Add", graph("Add", words, segments), _positions(graph, layer, inputs, position_ids))
    normed = norm(graph, layer.norm, summed, "embeddings/norm")
    return normed if layer.mapping is None else dense(graph, layer.mapping, normed, "embeddings/mapping")


def _positions(graph: Graph, layer: Embeddings, token_ids: str, position_ids: str) -> str:
    config: ModelConfig = layer.config
    alpha, count = config.hierarchical_position, config.max_position_embeddings
    table = graph.weight(layer.position.embeddings, "embeddings/position", None)
    length = graph.length(token_ids)
    if not position_ids and alpha is None:
        # A slice, not a lookup: a text that is too long then fails to add up.
        return graph("Slice", table, graph.constant([0], "int64"), length, graph.constant([0], "int64"))
    if not position_ids:
        position_ids = graph.cast(_places(graph, token_ids), "int32")
    if alpha is None:
        return graph("Gather", table, position_ids)
    # As `layers.embeddings.PositionEmbedding`, with the same order of operations.
    first = graph("Slice", table, *(graph.constant([k], "int64") for k in (0, 1, 0)))
    base = graph("Div", graph("Sub", table, graph("Mul", _number(graph, alpha), first)), _number(graph, 1 - alpha))
    size = graph.constant(count, "int32")
    outer = graph("Gather", base, graph("Div", position_ids, size))
    inner = graph("Gather", base, graph("Mod", position_ids, size))
    return graph("Add", graph("Mul", _number(graph, alpha), outer), graph("Mul", _number(graph, 1 - alpha), inner))


@writes(Encoder)
def _encoder(graph: Graph, layer: Encoder, hidden_states: str, mask: str) -> list[str]:
    bias = graph("Where", graph.expand_dims(mask, 1), _number(graph, 0), _number(graph, _LOW))
    outputs, before_norm = [], hidden_states
    for depth in range(layer.config.sharing.depth):
        part = _Depth(graph, layer, depth)
        attended = _attention(part, hidden_states, bias)
        hidden_states = part.norm("attention_norm", graph("Add", hidden_states, attended))
        inner = activate(graph, part.dense("intermediate", hidden_states), layer.config.hidden_act)
        before_norm = graph("Add", hidden_states, part.dense("output", inner))
        hidden_states = part.norm("output_norm", before_norm)
        outputs.append(hidden_states)
    return [*outputs, before_norm]


class _Depth:
    """The layers of one block application, with what the depth adds to them."""

    def __init__(self, graph: Graph, encoder: Encoder, depth: int) -> None:
        self.graph, self.encoder, self.depth = graph, encoder, depth
        self.added = encoder.adapters[depth].added if encoder.adapters else {}

    def dense(self, name: str, x: str) -> str:
        """Write the dense layer of this name inside the block."""
        graph, (layer, full_name) = self.graph, self._layer(name)
        outputs = dense(graph, layer, x, full_name)
        if f"{name}/lora_a" in self.added:
            lora: Any = self.encoder.config.depth_lora
            down = graph("MatMul", x, self._own(f"{name}/lora_a"))
            update = graph("MatMul", down, self._own(f"{name}/lora_b"))
            outputs = graph("Add", outputs, graph("Mul", update, _number(graph, lora.alpha / lora.rank)))
        return graph("Add", outputs, self._own(f"{name}/bias")) if f"{name}/bias" in self.added else outputs

    def norm(self, name: str, x: str) -> str:
        """Write the layer normalisation of this name inside the block."""
        graph, (layer, full_name) = self.graph, self._layer(name)
        if f"{name}/gamma" not in self.added:
            return norm(graph, layer, x, full_name)
        gamma, beta = (
            graph("Add", graph.weight(weight, f"{full_name}/{kind}"), self._own(f"{name}/{kind}"))
            for kind, weight in (("gamma", layer.gamma), ("beta", layer.beta))
        )
        return graph("LayerNormalization", x, gamma, beta, axis=-1, epsilon=layer.epsilon)

    def _layer(self, name: str) -> tuple[Any, str]:
        copy = self.encoder.config.sharing[part_of(name)][self.depth]
        layer: Any = self.encoder.blocks[copy]
        for key in name.split("/"):
            layer = layer.parts()[key]
        return layer, f"encoder/block_{copy}/{name}"

    def _own(self, name: str) -> str:
        return self.graph.weight(self.added[name], f"encoder/depth_{self.depth}/{name}")


def _attention(part: _Depth, hidden_states: str, bias: str) -> str:
    graph, config = part.graph, part.encoder.config
    heads, head_size = config.num_attention_heads, config.hidden_size // config.num_attention_heads

    def split(name: str, order: list[int]) -> str:
        projected = graph.reshape(part.dense(f"attention/{name}", hidden_states), 0, 0, heads, head_size)
        return graph("Transpose", projected, perm=order)

    query = graph("Mul", split("query", [0, 2, 1, 3]), _number(graph, head_size**-0.5))
    scores = graph("Add", graph("MatMul", query, split("key", [0, 2, 3, 1])), bias)
    context = graph("MatMul", graph("Softmax", scores, axis=-1), split("value", [0, 2, 1, 3]))
    merged = graph.reshape(graph("Transpose", context, perm=[0, 2, 1, 3]), 0, 0, heads * head_size)
    return part.dense("attention/output", merged)


@writes(ExitHeads)
def _exits(graph: Graph, layer: ExitHeads, vectors: list[str]) -> str:
    logits = [
        graph.expand_dims(dense(graph, exit_, vector, f"{layer.name}/{exit_.name}", None), 1)
        for exit_, vector in zip(layer.exits, vectors, strict=True)
    ]
    return graph("Concat", *logits, axis=1)


@writes(FirstToken)
def _first_token(graph: Graph, layer: FirstToken, hidden_states: str) -> str:
    return graph("Gather", hidden_states, graph.constant(0, "int64"), axis=1)


@writes(MeanPooling)
def _mean_pooling(graph: Graph, layer: MeanPooling, hidden_states: str, mask: str) -> str:
    weights = graph.expand_dims(graph.cast(graph.cast(mask, "bool"), "float32"), 2)
    axis = graph.constant([1], "int64")
    total = graph("ReduceSum", graph("Mul", hidden_states, weights), axis, keepdims=0)
    return graph("Div", total, graph("Max", graph("ReduceSum", weights, axis, keepdims=0), _number(graph, 1)))


@writes(Pooler)
def _pooler(graph: Graph, layer: Pooler, hidden_states: str) -> str:
    first = graph("Gather", hidden_states, graph.constant(0, "int64"), axis=1)
    return activate(graph, dense(graph, layer.dense, first, "pooler/dense"), layer.config.with_pool or "tanh")


@writes(SentenceHead)
def _sentence(graph: Graph, layer: SentenceHead, pooled: str) -> str:
    return graph("Softmax", dense(graph, layer.dense, pooled, "sentence/dense"), axis=-1)


@writes(MaskedLMTransform)
def _transform(graph: Graph, layer: MaskedLMTransform, hidden_states: str, positions: str = "") -> str:
    if positions:
        index = graph.cast(graph.expand_dims(positions, 2), "int64")
        hidden_states = graph("GatherND", hidden_states, index, batch_dims=1)
    inner = activate(
        graph, dense(graph, layer.dense, hidden_states, "masked_lm_transform/dense"), layer.config.hidden_act
    )
    return norm(graph, layer.norm, inner, "masked_lm_transform/norm")


@writes(MaskedLMHead)
def _masked_lm(graph: Graph, layer: MaskedLMHead, logits: str, **options: bool) -> str:
    logits = graph("Add", logits, graph.weight(layer.bias, "masked_lm/bias"))
    activation = layer.config.with_mlm or "softmax"
    return activate(graph, logits, activation if options.get("activate", True) else "linear")


@writes(CRF)
def _crf(graph: Graph, layer: CRF, emissions: str, *_: Any, **__: Any) -> str:
    return emissions


@writes(GlobalPointer, EfficientGlobalPointer)
def _pointer(graph: Graph, layer: GlobalPointer, hidden_states: str, mask: str) -> str:
    pairs = dense(graph, layer.pairs, hidden_states, f"{layer.name}/pairs", None)
    scores = _products(graph, layer, pairs)
    if isinstance(layer, EfficientGlobalPointer):
        biases = graph("Mul", dense(graph, layer.labels, pairs, f"{layer.name}/labels", None), _number(graph, 0.5))
        biases = graph("Transpose", biases, perm=[0, 2, 1])
        starts, ends = (
            graph("Slice", biases, *(graph.constant([k], "int64") for k in (first, first + layer.heads, 1)))
            for first in (0, layer.heads)
        )
        scores = graph("Add", graph("Add", scores, graph.expand_dims(starts, 3)), graph.expand_dims(ends, 2))
    inside = graph.cast(mask, "bool")
    allowed = graph("And", graph.expand_dims(inside, 1, 3), graph.expand_dims(inside, 1, 2))
    if layer.ordered:
        place = _places(graph, hidden_states)
        allowed = graph("And", allowed, graph("LessOrEqual", graph.expand_dims(place, 1), graph.expand_dims(place, 0)))
    return graph("Where", allowed, scores, _number(graph, _RULED_OUT))


def _products(graph: Graph, layer: GlobalPointer, pairs: str) -> str:
    size = layer.head_size
    count = 1 if isinstance(layer, EfficientGlobalPointer) else layer.heads
    split = graph("Transpose", graph.reshape(pairs, 0, 0, count, 2, size), perm=[3, 0, 2, 1, 4])
    if layer.rotary:
        frequencies = np.repeat(10000.0 ** (-2.0 * np.arange(size // 2, dtype="float32") / size), 2)
        place = graph.expand_dims(_places(graph, pairs), 1)
        angles = graph("Mul", graph.cast(place, "float32"), graph.constant(frequencies, "float32"))
        # Neighbours change places, one of them with another sign.
        turn = np.zeros((size, size))
        turn[np.arange(1, size, 2), np.arange(0, size, 2)] = -1
        turn[np.arange(0, size, 2), np.arange(1, size, 2)] = 1
        turned = graph("MatMul", split, graph.constant(turn, "float32"))
        split = graph("Add", graph("Mul", split, graph("Cos", angles)), graph("Mul", turned, graph("Sin", angles)))
    query, key = (graph("Gather", split, graph.constant(k, "int64"), axis=0) for k in (0, 1))
    product = graph("MatMul", query, graph("Transpose", key, perm=[0, 1, 3, 2]))
    return graph("Mul", product, _number(graph, size**-0.5))


@writes(PaddingMask)
def _padding_mask(graph: Graph, layer: PaddingMask, token_ids: str) -> str:
    return _inside(graph, token_ids)


def _inside(graph: Graph, token_ids: str) -> str:
    """Return what is no padding, as `layers.padding_mask` says it."""
    first = graph("Equal", _places(graph, token_ids), graph.constant(0, "int64"))
    return graph("Or", graph.cast(token_ids, "bool"), first)


def _places(graph: Graph, value: str) -> str:
    """Return 0, 1, 2, ... as int64 [length]."""
    length = graph("Squeeze", graph.length(value), graph.constant([0], "int64"))
    return graph("Range", graph.constant(0, "int64"), length, graph.constant(1, "int64"))


def _number(graph: Graph, value: float) -> str:
    return graph.constant(value, "float32")
