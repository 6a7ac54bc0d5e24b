"""The trunk: one functional Keras model made of embeddings, encoder and the heads asked for."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import keras

from bert4albert.backend import register
from bert4albert.checkpoint.card import Card
from bert4albert.checkpoint.load import LoadReport
from bert4albert.config import HEADS, ModelConfig
from bert4albert.errors import ConfigError
from bert4albert.layers import (
    AttentionMask,
    Embeddings,
    Encoder,
    MaskedLMHead,
    MaskedLMTransform,
    Pooler,
    SentenceHead,
)
from bert4albert.layers.base import ConfiguredLayer, initializer
from bert4albert.sharing import PARTS

_LAYER_CLASSES: dict[str, type[ConfiguredLayer]] = {
    "attention_mask": AttentionMask,
    "embeddings": Embeddings,
    "encoder": Encoder,
    "pooler": Pooler,
    "sentence": SentenceHead,
    "masked_lm_transform": MaskedLMTransform,
    "masked_lm": MaskedLMHead,
}


@register
class Trunk(keras.Model):
    """ALBERT, unshared ALBERT or BERT, as its `ModelConfig` says.

    Arguments:
        config: the `ModelConfig`.
        layers: layers to use instead of new ones, by name; how `trunk_of` puts a trunk around a user's layers.
        dtype: a dtype or dtype policy for all layers; None for Keras' global policy.
        name: the model's name.

    Inputs are `[token_ids, segment_ids]`, integers [batch, length], then position_ids where the config has
    `custom_position_ids`, and masked_positions [batch, count] where it has `masked_positions`. The output is
    the sequence [batch, length, hidden_size], or the head asked for, or the list [pool or sentence, masked LM].

    Examples:
        >>> from bert4albert import build_model
        >>> trunk = build_model("albert_tiny_zh")
        >>> [layer.name for layer in trunk.layers]
        ['token_ids', 'segment_ids', 'embeddings', 'attention_mask', 'encoder']
        >>> len(trunk.hidden_states), trunk.hidden_states[-1].shape
        (4, (None, None, 312))
        >>> name, variable = next(trunk.named_weights())
        >>> name, tuple(variable.shape)
        ('embeddings/word/embeddings', (8000, 128))
    """

    def __init__(
        self,
        config: ModelConfig,
        layers: Mapping[str, ConfiguredLayer] | None = None,
        dtype: Any = None,
        name: str | None = None,
    ) -> None:
        found = dict(layers or {})

        def layer(key: str) -> ConfiguredLayer:
            if key not in found:
                found[key] = _LAYER_CLASSES[key](config, dtype=dtype, name=key)
            return found[key]

        def ids(key: str) -> keras.KerasTensor:
            return keras.Input((None,), dtype="int32", name=key)

        inputs = [ids("token_ids"), ids("segment_ids")]
        token_ids, segment_ids = inputs
        if config.custom_position_ids:
            inputs.append(ids("position_ids"))
        embedded = layer("embeddings")(*inputs)
        encoded = layer("encoder")(embedded, layer("attention_mask")(token_ids, segment_ids))
        outputs = []
        if config.with_pool:
            outputs.append(layer("pooler")(encoded.last))
        if config.with_nsp:
            outputs[-1] = layer("sentence")(outputs[-1])
        if config.with_mlm:
            positions = []
            if config.masked_positions:
                positions.append(ids("masked_positions"))
                inputs.append(positions[0])
            vectors = layer("masked_lm_transform")(encoded.last, *positions)
            outputs.append(layer("masked_lm")(layer("embeddings")(vectors, reverse=True)))
        outputs = outputs or [encoded.last]
        super().__init__(inputs=inputs, outputs=outputs[0] if len(outputs) == 1 else outputs, name=name or "trunk")
        self.config = config
        self.load_report: LoadReport | None = None
        self.card = Card()
        self._layers_by_key = found
        # A tuple and a tensor of its own: Keras would wrap a list, and save what it tracks.
        self._hidden_states, self._before_norm = tuple(encoded.hidden_states), encoded.before_norm

    @property
    def embeddings(self) -> Embeddings:
        """The embeddings layer."""
        return self._layers_by_key["embeddings"]

    @property
    def encoder(self) -> Encoder:
        """The layer that owns the blocks and the schedule."""
        return self._layers_by_key["encoder"]

    @property
    def hidden_states(self) -> list[keras.KerasTensor]:
        """The symbolic output of every block application, first to last."""
        return list(self._hidden_states)

    @property
    def pre_norm_output(self) -> keras.KerasTensor:
        """The symbolic output of the last block application before its final norm."""
        return self._before_norm

    @property
    def initializer(self) -> keras.initializers.Initializer:
        """A new initializer for layers on top: truncated normal with the config's `initializer_range`."""
        return initializer(self.config)

    def word_logits(self, hidden_states: Any, positions: Any = None) -> Any:
        """Return the masked-LM head's logits, before its activation, of symbolic or actual hidden states.

        Arguments:
            hidden_states: [batch, length, hidden_size].
            positions: int [batch, count]: compute only these positions; None for all.

        Returns:
            [batch, length or count, vocab_size]. The model must have the masked-LM head.
        """
        transform, head = self._layers_by_key["masked_lm_transform"], self._layers_by_key["masked_lm"]
        vectors = transform(hidden_states) if positions is None else transform(hidden_states, positions)
        return head(self.embeddings(vectors, reverse=True), activate=False)

    def named_weights(self) -> Iterator[tuple[str, Any]]:
        """Yield (canonical name, variable) for every weight; `checkpoint.names.weight_shapes` lists the same names."""
        for key, layer in self._layers_by_key.items():
            yield from layer.named_weights(key)

    def summary(self, *args: Any, **kwargs: Any) -> None:
        """Print Keras' summary, then each block with its depths and parameters."""
        super().summary(*args, **kwargs)
        write = kwargs.get("print_fn") or print
        schedule = self.config.sharing
        write(f"Sharing: {schedule}.")
        for index, block in enumerate(self.encoder.blocks):
            used = {part: schedule.depths(part, index) for part in PARTS}
            places = [f"{part} at depth {', '.join(map(str, depths))}" for part, depths in used.items() if depths]
            if schedule.is_whole:
                places = [places[0].removeprefix(f"{PARTS[0]} ")]
            write(f"  block_{index}: {block.count_params():,} parameters, {'; '.join(places)}")
        if self.encoder.adapters:
            added = self.encoder.adapters[0].count_params()
            write(f"  each depth adds {added:,} parameters of its own to the weights it uses")

    def freeze_base(self) -> None:
        """Leave trainable only what the depths add to their weights, and the heads.

        Raises `ConfigError` for a model whose depths add nothing.
        """
        if not self.config.has_adapters:
            raise ConfigError(
                "freeze_base leaves only what each depth adds to its weights to train, and this model has no such "
                "weights; build it with depth_lora=8 or depth_bias=True."
            )
        self._freeze_base()

    def _freeze_base(self) -> None:
        self.embeddings.trainable = False
        self.encoder.freeze_blocks()

    def get_config(self) -> dict[str, Any]:
        """Return the `ModelConfig` with Keras' name and dtype. Raises `ConfigError` for a quantised trunk."""
        for layer in self._layers_by_key.values():
            layer.refuse_quantized()
        policy = keras.dtype_policies.serialize(self.encoder.dtype_policy)
        frozen = self.encoder.frozen and not self.embeddings.trainable
        return {**self.config.to_dict(), "name": self.name, "dtype": policy, "frozen_base": frozen}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Trunk:
        """Rebuild a trunk with random weights from `get_config`."""
        values = dict(config)
        policy = keras.dtype_policies.deserialize(values.pop("dtype"))
        name, frozen = values.pop("name"), values.pop("frozen_base", False)
        trunk = cls(ModelConfig.from_dict(values), dtype=policy, name=name)
        if frozen:
            trunk._freeze_base()
        return trunk


def trunk_of(model: keras.Model) -> Trunk:
    """Find the trunk inside a model that a user built on one, also after reloading it from a file.

    Arguments:
        model: a trunk, a model that contains one, or a model on top of a trunk's inputs and outputs.

    Returns:
        A `Trunk` with the very layers and weights of `model`. Raises `ConfigError` if there is none.

    Examples:
        >>> import keras
        >>> from bert4albert import build_model, trunk_of
        >>> trunk = build_model("albert_tiny_zh")
        >>> classifier = keras.Model(trunk.inputs, keras.layers.Dense(3)(trunk.output[:, 0]))
        >>> trunk_of(classifier).encoder is trunk.encoder
        True
    """
    layers = [model, *_layers_within(model)]
    for layer in layers:
        if isinstance(layer, Trunk):
            return layer
    found = {key: layer for key, cls in _LAYER_CLASSES.items() for layer in layers if isinstance(layer, cls)}
    if "encoder" not in found or "embeddings" not in found:
        raise ConfigError(
            f"The model {model.name!r} is not built on a bert4albert trunk; pass what build_model returned, "
            "or a model on top of it."
        )
    config = found["encoder"].config
    absent = {head.key for head in HEADS.values() if not found.keys() >= head.layers}
    heads: dict[str, Any] = {key: False if key == "with_nsp" else None for key in absent}
    if "with_mlm" in absent:
        heads["masked_positions"] = False
    # Not `ModelConfig.replace`: it would add the head that 'lm' and 'unilm' imply, and the user left it out.
    return Trunk(dataclasses.replace(config, **heads), found, name="trunk")


def _layers_within(model: Any) -> Iterator[keras.layers.Layer]:
    for layer in getattr(model, "layers", []):
        yield layer
        yield from _layers_within(layer)
