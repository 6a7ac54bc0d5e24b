"""`BERT`, `ALBERT` and `ALBERT_Unshared`: the graph of bert4keras, drawn with the layers of a trunk."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import keras

from bert4albert.bert4keras import parts
from bert4albert.bert4keras.backend import gelu_now
from bert4albert.bert4keras.symbolic import one_or_list
from bert4albert.build import fill
from bert4albert.checkpoint.resolve import open_source, resolve
from bert4albert.config import ModelConfig
from bert4albert.errors import CheckpointError, ConfigError
from bert4albert.heads import FirstToken
from bert4albert.layers.base import initializer, weights_follow
from bert4albert.model import Trunk
from bert4albert.save import save_google_checkpoint

# What `build` takes; everything else decides the trunk's config.
_BUILD_ARGUMENTS = (
    "layer_norm_cond",
    "layer_norm_cond_hidden_size",
    "layer_norm_cond_hidden_act",
    "additional_input_layers",
)
# Arguments of bert4keras that may be given only where they ask for nothing.
NOT_OFFERED = (
    "attention_caches",
    "autoresize_weights",
    "ignore_invalid_weights",
    "residual_attention_scores",
    "shared_segment_embeddings",
)


class BERT:
    """A model under construction: its config, its trunk, its layers by name, and after `build` its Keras model.

    Arguments:
        config: path or object of the model's config.
        checkpoint: where the config's weights come from; None for random ones.
        name, prefix: the model's name, and what all layers' names begin with.
        layers: layers to use by name, in place of new ones.
        sequence_length: a fixed length of the inputs; None for any.
        settings: further arguments of `build_model`, and config keys.
    """

    model_name: str | None = "bert"
    application: str | None = None

    def __init__(
        self,
        config: str | os.PathLike[str] | Mapping[str, Any] | None = None,
        checkpoint: Any = None,
        *,
        name: str | None = None,
        prefix: str | None = None,
        layers: dict[str, Any] | None = None,
        sequence_length: int | None = None,
        segment_vocab_size: int | None = None,
        **settings: Any,
    ) -> None:
        settings = {key: value for key, value in settings.items() if key not in _BUILD_ARGUMENTS}
        for key in NOT_OFFERED:
            if settings.pop(key, None):
                raise ConfigError(f"{key} is not offered here; leave it out.")
        if self.application is not None:
            settings["application"] = self.application
        values: Mapping[str, Any] = {}
        if config is None:
            values, settings = settings, {}
        self.name, self.prefix = name, prefix or ""
        self.layers = {} if layers is None else layers
        self.sequence_length = sequence_length
        self.has_segments = segment_vocab_size != 0
        if segment_vocab_size:
            settings["segment_vocab_size"] = segment_vocab_size
        source = open_source(values if config is None else config, checkpoint)
        settings.setdefault("hidden_act", _own_activation(source.values))
        settings = {**settings, **_heads(settings)}
        self.config, self._plan = resolve(source, self.model_name, **settings)
        if self.config.has_adapters or self.config.remat:
            raise ConfigError("depth_lora, depth_bias and remat are not offered here; use bert4albert.build_model.")
        _check(self._plan, source, self.config)
        self.vocab_size, self.hidden_size = self.config.vocab_size, self.config.hidden_size
        self.embedding_size, self.intermediate_size = self.config.embedding_size, self.config.intermediate_size
        self.num_attention_heads = self.config.num_attention_heads
        self.num_hidden_layers = self.config.sharing.depth
        self.max_position = self.config.max_position_embeddings
        self.with_pool, self.with_nsp, self.with_mlm = self.config.with_pool, self.config.with_nsp, self.config.with_mlm
        self.keep_tokens, self.compound_tokens = self.config.keep_tokens, self.config.compound_tokens
        self.hidden_act, self.dropout_rate = self.config.hidden_act, self.config.hidden_dropout_prob
        self.custom_position_ids = self.config.custom_position_ids
        self.built = False

    def build(
        self,
        layer_norm_cond: Any = None,
        layer_norm_cond_hidden_size: int | None = None,
        layer_norm_cond_hidden_act: str | None = None,
        additional_input_layers: Any = None,
        **_: Any,
    ) -> None:
        """Draw the graph, and fill it from the checkpoint if there is one.

        Arguments:
            layer_norm_cond: a symbolic tensor [batch, size] on which all layer norms depend; None for none.
            layer_norm_cond_hidden_size, layer_norm_cond_hidden_act: a layer that it goes through first, in each norm.
            additional_input_layers: inputs that the model gets after its own, an input or a list.
        """
        if self.built:
            return
        fills = self._plan is not None and self._plan.fills_everything
        with weights_follow() if fills else nullcontext():
            self.trunk = Trunk(self.config)
        if self._plan is not None:
            fill(self.trunk, self._plan)
        self._condition = layer_norm_cond
        hidden_act = gelu_now() if layer_norm_cond_hidden_act == "gelu" else layer_norm_cond_hidden_act
        self._condition_layer = (layer_norm_cond_hidden_size, hidden_act)
        inputs = self.get_inputs()
        self.inputs = [*inputs, *_as_list(additional_input_layers)]
        self.outputs = _as_list(self.call(inputs))
        self.input, self.output = one_or_list(self.inputs), one_or_list(self.outputs)
        # One output stays one tensor, as scripts need it.
        self.model = keras.Model(self.inputs, self.output, name=self.name)
        self.built = True

    @property
    def initializer(self) -> keras.initializers.Initializer:
        """A new initializer for layers on top."""
        return initializer(self.config)

    def prefixed(self, name: str) -> str:
        """Return a name with the prefix before it."""
        return self.prefix + name

    def apply(self, inputs: Any = None, layer: Any = None, arguments: Any = None, **kwargs: Any) -> Any:
        """Call the layer of a name, made at the first call.

        Arguments:
            inputs: what to call it with, a list for several; None to return the layer.
            layer: its class.
            arguments: named arguments of the call.
            kwargs: the arguments of the class, `name` among them.
        """
        if layer is keras.layers.Dropout and self.dropout_rate == 0:
            return inputs
        if layer is keras.layers.Lambda:
            kwargs["arguments"], arguments = arguments or {}, None
        name = None if kwargs.get("name") is None else self.prefixed(kwargs["name"])
        if name is None or name not in self.layers:
            made = layer(**{**kwargs, "name": name})
            name = name or made.name
            self.layers[name] = made
        found = self.layers[name]
        return found if inputs is None else found(inputs, **(arguments or {}))

    def get_inputs(self) -> list[Any]:
        """Return the symbolic inputs: tokens, segments, and positions where the config has them, all floats."""
        names = ["Input-Token"]
        if self.has_segments:
            names.append("Input-Segment")
        if self.custom_position_ids:
            names.append("Input-Position")
        return [keras.Input((self.sequence_length,), name=self.prefixed(name)) for name in names]

    def call(self, inputs: list[Any]) -> Any:
        """Draw everything from inputs to outputs."""
        outputs = self.apply_embeddings(inputs)
        for index in range(self.num_hidden_layers):
            outputs = self.apply_main_layers(outputs, index)
        return self.apply_final_layers(outputs)

    def apply_embeddings(self, inputs: Sequence[Any]) -> Any:
        """Draw the embeddings."""
        token_ids, *others = inputs
        segment_ids = others.pop(0) if self.has_segments else None
        position_ids = others[:1] if self.custom_position_ids else []
        trunk = self.trunk.embeddings
        self._bias = self._part(
            parts.AttentionBias,
            _BIAS_NAMES[self.config.application],
            [token_ids, token_ids if segment_ids is None else segment_ids],
        )
        words = {"word": trunk.word, "projection": trunk.projection}
        x = self._part(parts.TokenEmbedding, "Embedding-Token", [token_ids], words)
        if segment_ids is not None:
            s = self._part(parts.SegmentEmbedding, "Embedding-Segment", [segment_ids], {"table": trunk.segment})
            x = self._sum("Embedding-Token-Segment", x, s)
        x = self._part(parts.PositionSum, "Embedding-Position", [x, *position_ids], {"table": trunk.position})
        x = self._norm("Embedding-Norm", trunk.norm, x)
        x = self._dropout("Embedding", x)
        if trunk.mapping is not None:
            x = self._dense("Embedding-Mapping", trunk.mapping, x, self.hidden_size)
        return x

    def apply_main_layers(self, inputs: Any, index: int) -> Any:
        """Draw the block application of this index, counted from 0."""
        schedule, blocks = self.config.sharing, self.trunk.encoder.blocks
        shared = self.config.num_blocks == 1 and self.config.family == "albert"

        def named(layer: str, copy: int) -> str:
            return f"Transformer-{layer}" if shared else f"Transformer-{copy}-{layer}"

        attention = named("MultiHeadSelfAttention", schedule.attention[index])
        feed_forward = named("FeedForward", schedule.feed_forward[index])
        attend, feed = blocks[schedule.attention[index]], blocks[schedule.feed_forward[index]]
        x = self._part(parts.SelfAttention, attention, [inputs, self._bias], {"attention": attend.attention})
        x = self._sum(f"{attention}-Add", inputs, self._dropout(attention, x))
        copy = schedule.attention_norm[index]
        attended = self._norm(named("MultiHeadSelfAttention-Norm", copy), blocks[copy].attention_norm, x)
        dense = {"intermediate": feed.intermediate, "output_dense": feed.output_dense}
        x = self._part(parts.FeedForwardPart, feed_forward, [attended], dense)
        x = self._sum(f"{feed_forward}-Add", attended, self._dropout(feed_forward, x))
        copy = schedule.output_norm[index]
        return self._norm(named("FeedForward-Norm", copy), blocks[copy].output_norm, x)

    def apply_final_layers(self, inputs: Any) -> Any:
        """Draw the heads; return their outputs, or the sequence where there is none."""
        outputs = []
        if self.config.with_pool:
            first = self.apply(inputs, FirstToken, name="Pooler")
            pooler = self.trunk.get_layer("pooler").dense
            x = self._dense("Pooler-Dense", pooler, first, self.hidden_size, self.config.with_pool)
            if self.config.with_nsp:
                x = self._dense("NSP-Proba", self.trunk.get_layer("sentence").dense, x, 2, "softmax")
            outputs.append(x)
        if self.config.with_mlm:
            transform, head = self.trunk.get_layer("masked_lm_transform"), self.trunk.get_layer("masked_lm")
            size = self.config.embedding_sum_size
            x = self._dense("MLM-Dense", transform.dense, inputs, size, self.config.hidden_act)
            x = self._norm("MLM-Norm", transform.norm, x)
            x = self.layers[self.prefixed("Embedding-Token")](x, mode="dense")
            x = self._part(parts.WordBias, "MLM-Bias", [x], {"head": head})
            activation = {"activation": self.config.with_mlm}
            outputs.append(self.apply(x, keras.layers.Activation, name="MLM-Activation", **activation))
        return one_or_list(outputs or [inputs])

    def load_weights_from_checkpoint(self, checkpoint: Any, mapping: Any = None) -> None:
        """Fill the model from a checkpoint of any kind that `build_model` reads.

        Raises `CheckpointError` if it does not fit, `ConfigError` for a `mapping` of one's own.
        """
        if mapping is not None:
            raise ConfigError("A mapping of one's own is not offered here; the names of every dialect are known.")
        kept: dict[str, Any] = {"keep_tokens": self.keep_tokens, "compound_tokens": self.compound_tokens}
        # Without num_hidden_groups the names in the file say how many there are: a file of an unshared model has more.
        left_out = {*kept, "num_hidden_groups"}
        values = {key: value for key, value in self.config.to_dict().items() if key not in left_out}
        source = open_source(values, checkpoint)
        if any(value is not None for value in kept.values()):
            kept["vocab_size"] = _file_vocabulary(source)  # the model's own is what was left of it
        config, plan = resolve(source, self.model_name, **kept)
        _check(plan, source, config)
        assert plan is not None  # the source has a checkpoint
        fill(self.trunk, plan)

    def save_weights_as_checkpoint(self, filename: str, mapping: Any = None, dtype: Any = None) -> None:
        """Write the weights as a TensorFlow checkpoint with Google's names, and its config beside it.

        An unshared model is written with all its layers, as one group each, where bert4keras kept only the last.
        """
        if mapping is not None or dtype is not None:
            raise ConfigError("mapping and dtype are not offered here; use bert4albert.save_google_checkpoint.")
        save_google_checkpoint(self.trunk, Path(filename))

    def _part(self, kind: Any, name: str, inputs: list[Any], trunk_layers: Any = None, **kwargs: Any) -> Any:
        full = self.prefixed(name)
        if full not in self.layers:
            self.layers[full] = kind(self.config, trunk_layers, name=full, **kwargs)
            self.layers[full].drawn_by = [self]  # in a list, which Keras leaves alone
        return self.layers[full](*inputs)

    def _norm(self, name: str, layer: Any, x: Any) -> Any:
        hidden_size, hidden_act = self._condition_layer
        given = self._condition is not None
        kwargs = {"conditional": True, "hidden_units": hidden_size, "hidden_activation": hidden_act} if given else {}
        inputs = [x, self._condition] if given else [x]
        return self._part(parts.Norm, name, inputs, {"norm": layer}, size=x.shape[-1], **kwargs)

    def _dense(self, name: str, layer: Any, x: Any, units: int, activation: str | None = None) -> Any:
        activation = activation or "linear"
        return self._part(parts.DensePart, name, [x], {"dense": layer}, units=units, activation=activation)

    def _dropout(self, name: str, x: Any) -> Any:
        return self.apply(x, keras.layers.Dropout, name=f"{name}-Dropout", rate=self.dropout_rate)

    def _sum(self, name: str, *inputs: Any) -> Any:
        return self.apply(list(inputs), parts.Sum, name=name)


class ALBERT(BERT):
    """ALBERT, its blocks shared as the config says; arguments as for `BERT`."""

    model_name = "albert"


class ALBERT_Unshared(BERT):  # noqa: N801  (its name in scripts)
    """ALBERT with a block of its own for each layer, all from the checkpoint's one; arguments as for `BERT`."""

    model_name = "albert_unshared"


_BIAS_NAMES = {
    "encoder": "Attention-Padding-Mask",
    "lm": "Attention-LM-Mask",
    "unilm": "Attention-UniLM-Mask",
}


def _own_activation(values: Mapping[str, Any]) -> str | None:
    """Return what "gelu" means now where the config says that; None for anything else."""
    return gelu_now() if values.get("hidden_act") == "gelu" and "model_type" not in values else None


def _heads(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the heads whose activation is "gelu" with what that means now."""
    return {key: gelu_now() for key in ("with_pool", "with_mlm", "hidden_act") if settings.get(key) == "gelu"}


def _check(plan: Any, source: Any, config: ModelConfig) -> None:
    """Raise `CheckpointError` for weights that the checkpoint lacks; as in bert4keras it may hold more.

    It may not hold more groups of layers: all layers would be filled from the first ones.
    """
    if plan is None:
        return
    own = config.num_hidden_groups, config.inner_group_num
    found = source.dialect.groups_in(source.file.tensors) if "{group}" in source.dialect.block_prefix else own
    if found != own:
        raise CheckpointError(
            f"{source.file.path} has {found[0]} groups of {found[1]} layers, its config {own[0]} of {own[1]}: set "
            f"num_hidden_groups to {found[0]} and inner_group_num to {found[1]} in the config."
        )
    plan.report.exempt |= dict.fromkeys(plan.report.unexpected, "not part of this model")
    plan.report.unexpected.clear()
    plan.check()
    plan.check_equal()


def _file_vocabulary(source: Any) -> int:
    name = source.dialect.stored_as("embeddings/word/embeddings").name
    if name not in source.file.tensors:
        raise CheckpointError(f"{source.file.path} has no {name}, whose rows keep_tokens and compound_tokens choose.")
    return int(source.file.tensors[name].shape[0])


def _as_list(items: Any) -> list[Any]:
    if items is None:
        return []
    return list(items) if isinstance(items, (list, tuple)) else [items]
