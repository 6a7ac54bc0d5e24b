"""The trunk's own layers as nodes of a graph, each under the name that bert4keras gave it.

A part has no weights of its own (but for what a condition adds to a norm): it runs layers of the trunk. So scripts find
`Transformer-11-FeedForward-Norm`, while loading, saving and cached decoding work on the trunk. Parts also carry the
implicit mask by which layers of scripts go; attention itself gets its mask as an argument.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import keras
from keras import ops

from bert4albert.bert4keras.backend import as_saved
from bert4albert.bert4keras.layers.norms import Condition, normalised, scaled
from bert4albert.bert4keras.registration import register
from bert4albert.layers import AttentionMask, Embeddings, MaskedLMHead, padding_mask
from bert4albert.layers.attention import attention_bias
from bert4albert.layers.base import ConfiguredLayer, activation, initializer
from bert4albert.layers.encoder import Block


class Part(ConfiguredLayer):
    """A node of the graph that runs layers of the trunk.

    Arguments:
        config: the `ModelConfig`.
        trunk_layers: the layers it runs, by their names here; None for new ones, as when a file is read.
    """

    is_from_bert4keras = True
    other_names: ClassVar[dict[str, str]] = {}  # of weights whose names in bert4keras differ

    def __init__(self, config: Any, trunk_layers: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.supports_masking = True
        held = trunk_layers or self.new_layers()
        self._held = tuple(name for name, layer in held.items() if layer is not None)
        for name, layer in held.items():
            setattr(self, name, layer)
            if layer is not None:
                layer.supports_masking = True  # it needs no mask, and Keras warns of layers that drop one

    def new_layers(self) -> dict[str, Any]:
        """Return new layers to run, their weights at random."""
        return {}

    def build(self, inputs_shape: Any) -> None:
        """Create the weights of layers that are new."""
        for layer in (getattr(self, name) for name in self._held):
            if not layer.built:
                layer.build(inputs_shape)
        self.built = True
        for weight in self.weights:
            name = self.other_names.get(weight.name, weight.name)
            weight.keras2_name = f"{self.name}/{name}"  # optimizers of scripts look for words in it

    def compute_output_shape(self, shape: Any, *_: Any) -> Any:
        """Return the input's shape."""
        return shape


@register
class TokenEmbedding(Part):
    """'Embedding-Token': the word embeddings; in the mode 'dense' the logits of every word.

    Its implicit mask says what is not padding; the first position always counts.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"autocast": False, **kwargs})  # ids are floats, as in Keras 2, and must stay exact

    def new_layers(self) -> dict[str, Any]:
        """Return new word embeddings."""
        embeddings = Embeddings(self.config, dtype=self.dtype_policy)
        return {"word": embeddings.word, "projection": embeddings.projection}

    @property
    def embeddings(self) -> Any:
        """The table, a variable [vocab_size, embedding_size]."""
        return self.word.embeddings

    def build(self, inputs_shape: Any) -> None:
        """Create the weights of new embeddings."""
        for layer, shape in ((self.word, None), (self.projection, (None, self.config.embedding_size))):
            if layer is not None and not layer.built:
                layer.build(shape)
        super().build(inputs_shape)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        """Return what is not padding; None where the input is no ids."""
        if len(inputs.shape) != 2:
            return previous_mask
        return padding_mask(inputs)

    def call(self, inputs: Any, mode: str = "embedding") -> Any:
        """Look words up, or compare vectors with every word."""
        if mode == "embedding":
            words = self.word(ops.cast(inputs, "int32"))
            return words if self.projection is None else self.projection(words)
        if self.projection is not None:
            inputs = ops.matmul(inputs, ops.transpose(ops.cast(self.projection.kernel, inputs.dtype)))
        return self.word(inputs, reverse=True)

    def compute_output_spec(self, inputs: Any, mode: str = "embedding") -> keras.KerasTensor:
        """Return the shape."""
        size = self.config.embedding_sum_size if mode == "embedding" else self.config.vocab_size
        return keras.KerasTensor((*inputs.shape[:2], size), dtype=self.compute_dtype)


@register
class SegmentEmbedding(Part):
    """'Embedding-Segment'."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"autocast": False, **kwargs})

    def new_layers(self) -> dict[str, Any]:
        """Return new segment embeddings."""
        return {"table": Embeddings(self.config, dtype=self.dtype_policy).segment}

    def call(self, inputs: Any) -> Any:
        """Look segments up."""
        return self.table(ops.cast(inputs, "int32"))

    def compute_output_shape(self, shape: Any) -> Any:
        """Return [batch, length, size]."""
        return (*shape, self.config.embedding_sum_size)


@register
class Sum(keras.layers.Add):
    """Keras' `Add`, which keeps the mask of the first input where the others have none, as Keras 2's did."""

    is_from_bert4keras = True

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """Return the first mask there is."""
        return next((one for one in mask or [] if one is not None), None)


@register
class PositionSum(Part):
    """'Embedding-Position': adds the embeddings of positions; the second input, if any, is their ids."""

    def new_layers(self) -> dict[str, Any]:
        """Return new position embeddings."""
        return {"table": Embeddings(self.config, dtype=self.dtype_policy).position}

    @property
    def embeddings(self) -> Any:
        """The table, a variable [positions, size]."""
        return self.table.embeddings

    def call(self, inputs: Any, position_ids: Any = None) -> Any:
        """Add the positions."""
        with keras.name_scope("input_longer_than_the_positions_of_the_model"):
            return inputs + self.table(inputs, position_ids)


@register
class Norm(Part):
    """A layer norm of the trunk, on a condition if there is one.

    Arguments:
        config, trunk_layers: as in `Part`.
        size: features of the input.
        conditional: whether there is a second input, the condition [batch, condition_size].
        hidden_units, hidden_activation: of the layer that the condition goes through first; None for none.
    """

    def __init__(
        self,
        config: Any,
        trunk_layers: Mapping[str, Any] | None = None,
        size: int = 0,
        conditional: bool = False,
        hidden_units: int | None = None,
        hidden_activation: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(config, trunk_layers, **kwargs)
        self.settings = {
            "size": size,
            "conditional": conditional,
            "hidden_units": hidden_units,
            "hidden_activation": hidden_activation,
        }
        self.condition = None
        if conditional:
            self.condition = Condition(
                size, hidden_units, hidden_activation or "linear", initializer(self.config), dtype=self.dtype_policy
            )

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        return {**super().get_config(), **self.settings}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Norm:
        """Return the layer of a config, as of a file."""
        return super().from_config(as_saved(config, "hidden_activation"))

    def new_layers(self) -> dict[str, Any]:
        """Return a new norm."""
        return {"norm": self._norm("norm")}

    def build(self, inputs_shape: Any, condition_shape: Any = None) -> None:
        """Create the weights of the condition, and of a new norm."""
        if self.condition is not None and not self.condition.built:
            self.condition.build(condition_shape)
        super().build(inputs_shape)

    @property
    def weights(self) -> list[Any]:
        """The weights in the order of bert4keras, beta first."""
        return [self.norm.beta, self.norm.gamma, *(self.condition.weights if self.condition else [])]

    def call(self, inputs: Any, condition: Any = None) -> Any:
        """Normalise."""
        if self.condition is None:
            return self.norm(inputs)
        added = self.condition(condition, ndim=len(inputs.shape))
        return scaled(normalised(inputs, self.norm.epsilon), self.norm.gamma, self.norm.beta, added)


@register
class AttentionBias(Part):
    """What the scores of attention add: nothing where a position may look, a large negative number elsewhere."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"autocast": False, **kwargs})

    def new_layers(self) -> dict[str, Any]:
        """Return the trunk's mask, which has no weights."""
        return {"mask": AttentionMask(self.config, dtype=self.dtype_policy)}

    def compute_mask(self, *_: Any) -> None:
        """Return None: these are no features of positions."""

    def call(self, inputs: Any, segment_ids: Any) -> Any:
        """Return the bias [batch, 1, 1 or length, length] for token ids and segment ids."""
        return attention_bias(self.mask(inputs, segment_ids), self.compute_dtype)

    def compute_output_spec(self, inputs: Any, segment_ids: Any) -> keras.KerasTensor:
        """Return the shape."""
        batch, rows, length = self.mask.compute_output_spec(inputs, segment_ids).shape
        return keras.KerasTensor((batch, 1, rows, length), dtype=self.compute_dtype)


@register
class SelfAttention(Part):
    """'Transformer-i-MultiHeadSelfAttention'; the second input is what `AttentionBias` gives."""

    def new_layers(self) -> dict[str, Any]:
        """Return new attention."""
        return {"attention": Block(self.config, dtype=self.dtype_policy).attention}

    def call(self, inputs: Any, bias: Any) -> Any:
        """Attend."""
        attended, _ = self.attention(inputs, bias)
        return attended


@register
class FeedForwardPart(Part):
    """'Transformer-i-FeedForward'."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.activation = activation(self.config.hidden_act)

    def new_layers(self) -> dict[str, Any]:
        """Return new layers."""
        block = Block(self.config, dtype=self.dtype_policy)
        return {"intermediate": block.intermediate, "output_dense": block.output_dense}

    def build(self, inputs_shape: Any) -> None:
        """Create the weights of new layers."""
        if not self.output_dense.built:
            self.output_dense.build((None, None, self.config.intermediate_size))
        super().build(inputs_shape)

    def call(self, inputs: Any) -> Any:
        """Feed each position through both layers."""
        return self.output_dense(self.activation(self.intermediate(inputs)))


@register
class DensePart(Part):
    """A Dense layer of the trunk and an activation.

    Arguments:
        config, trunk_layers: as in `Part`.
        units: size of the output.
        activation: an entry of `config.ACTIVATIONS`.
    """

    def __init__(
        self,
        config: Any,
        trunk_layers: Mapping[str, Any] | None = None,
        units: int = 0,
        activation: str = "linear",
        **kwargs: Any,
    ) -> None:
        self.units, self.activation_name = units, activation
        super().__init__(config, trunk_layers, **kwargs)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        return {**super().get_config(), "units": self.units, "activation": self.activation_name}

    def new_layers(self) -> dict[str, Any]:
        """Return a new layer."""
        return {"dense": self._dense(self.units, "dense")}

    def call(self, inputs: Any) -> Any:
        """Apply the layer."""
        return activation(self.activation_name)(self.dense(inputs))

    def compute_output_shape(self, shape: Any) -> Any:
        """Return [..., units]."""
        return (*shape[:-1], self.units)


@register
class WordBias(Part):
    """'MLM-Bias': adds the bias of each word."""

    other_names: ClassVar[dict[str, str]] = {"bias": "beta"}

    def new_layers(self) -> dict[str, Any]:
        """Return a new head."""
        return {"head": MaskedLMHead(self.config, dtype=self.dtype_policy)}

    def call(self, inputs: Any) -> Any:
        """Add the bias."""
        return self.head(inputs, activate=False)
