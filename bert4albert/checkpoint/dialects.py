"""The name tables: what each program calls a weight, and which way round it stores it.

One table a dialect, read in both directions: loading and saving use the same entries. A table names
layers; how a dialect spells the weights of a layer (kernel or weight, transposed or not) is said once.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field, replace

from bert4albert.checkpoint.formats.selected import patterns_for
from bert4albert.checkpoint.names import Shape, in_block, weight_shapes
from bert4albert.config import ModelConfig
from bert4albert.config_keys import ACTIVATIONS
from bert4albert.errors import CheckpointError


@dataclass(frozen=True)
class Stored:
    """How a dialect stores a weight: its name there, and whether rows and columns are exchanged."""

    name: str
    transposed: bool = False

    def oriented(self, shape: Shape) -> Shape:
        """Return the shape that a weight of this shape has as it is stored; and the other way round."""
        return shape[::-1] if self.transposed else shape


_TENSORFLOW = {
    "kernel": Stored("/kernel"),
    "bias": Stored("/bias"),
    "gamma": Stored("/gamma"),
    "beta": Stored("/beta"),
    "embeddings": Stored(""),
}
_PYTORCH = {
    "kernel": Stored(".weight", transposed=True),
    "bias": Stored(".bias"),
    "gamma": Stored(".weight"),
    "beta": Stored(".bias"),
    "embeddings": Stored(".weight"),
}


@dataclass(frozen=True)
class Dialect:
    """One program's names for the weights.

    Attributes:
        key: its name in code.
        title: its name for people.
        family: the model family the names belong to; None where the config says it.
        layers: canonical layer -> its name, outside the blocks.
        block: canonical layer inside a block -> its name there.
        block_prefix: where a block's layers lie; `{block}`, or `{group}` and `{inner}`, are filled in.
        marks: a pattern by which a tensor name gives this dialect away.
        weights: how the weights of a layer are spelled.
        special: weights whose whole name does not follow from their layer's.
        trunk_prefix: the prefix that files of the bare model leave out.
        square_mapping: whether an embedding mapping is stored where E = H; None where a model may do either.
        repeats: tensors that repeat a weight, as PyTorch writes the two ends of tied weights.
        exempt: patterns of tensors that are no weights of the models built here, with the reason.
        activations: canonical activation -> its name in the program's configs; others it does not know.
        layer_norm_eps: the epsilon that the program fixes; None where its config gives it.
    """

    key: str
    title: str
    family: str | None
    layers: Mapping[str, str]
    block: Mapping[str, str]
    block_prefix: str
    marks: str
    weights: Mapping[str, Stored]
    special: Mapping[str, Stored] = field(default_factory=dict)
    trunk_prefix: str = ""
    square_mapping: bool | None = False
    repeats: Mapping[str, str] = field(default_factory=dict)
    exempt: Mapping[str, str] = field(default_factory=dict)
    activations: Mapping[str, str] = field(default_factory=dict)
    layer_norm_eps: float | None = None

    @property
    def projects_words(self) -> bool:
        """Whether words are projected to the hidden size before the sum."""
        return "embeddings/projection/kernel" in self.special

    @property
    def numbers_layers(self) -> bool:
        """Whether there is a block for each layer, so that nothing is shared."""
        return self.family is not None and "{block}" in self.block_prefix

    def stored_as(self, weight: str, inner_group_num: int = 1) -> Stored | None:
        """Return how a weight is stored; None where this dialect has no name for it."""
        if self is CANONICAL:
            return Stored(weight)
        if weight in self.special:
            return self.special[weight]
        layer, _, kind = weight.rpartition("/")
        place = in_block(layer)
        if place is None:
            name = self.layers.get(layer)
        else:
            block, layer = place
            group, inner = divmod(block, inner_group_num)
            name = self.block_prefix.format(block=block, group=group, inner=inner) + self.block[layer]
        if name is None:
            return None
        spelling = self.weights[kind]
        return Stored(name + spelling.name, spelling.transposed)

    def finds(self, weight: str, names: Container[str]) -> bool:
        """Return whether the tensor of a weight is among the `names` of a file."""
        stored = self.stored_as(weight)
        return stored is not None and stored.name in names

    def names(self, config: ModelConfig) -> dict[str, Stored]:
        """Return how every weight of `config` is stored; weights without a name in this dialect are left out."""
        named = ((weight, self.stored_as(weight, config.inner_group_num)) for weight in weight_shapes(config))
        return {weight: stored for weight, stored in named if stored is not None}

    def shapes(self, config: ModelConfig) -> dict[str, Shape]:
        """Return the shape of every tensor that a file of this dialect has for the model of `config`."""
        shapes = weight_shapes(config)
        return {stored.name: stored.oriented(shapes[weight]) for weight, stored in self.names(config).items()}

    def found_in(self, names: Iterable[str]) -> str | None:
        """Return the first of `names` that gives this dialect away."""
        return next((name for name in names if re.search(self.marks, name)), None)

    def groups_in(self, names: Iterable[str]) -> tuple[int, int]:
        """Return how many groups, and blocks in a group, the names have; (1, 1) where they number neither."""
        pattern = re.escape(self.block_prefix)
        for number in ("block", "group", "inner"):
            pattern = pattern.replace(re.escape("{" + number + "}"), r"(\d{1,6})")
        found = [tuple(map(int, match.groups())) for match in map(re.compile(pattern).match, names) if match]
        largest = [max(numbers) + 1 for numbers in zip(*found, strict=True)]
        return (largest[0] if largest else 1), (largest[1] if len(largest) == 2 else 1)

    def spelled_as_in(self, names: Iterable[str]) -> Dialect:
        """Return this dialect as a file spells it: without the trunk's prefix, or with the old norm names."""
        names = list(names)
        dialect = self
        if not any(name.startswith(self.trunk_prefix) for name in names):
            bare = {layer: name.removeprefix(self.trunk_prefix) for layer, name in self.layers.items()}
            dialect = replace(self, layers=bare, block_prefix=self.block_prefix.removeprefix(self.trunk_prefix))
        if self.weights is _PYTORCH and any(name.endswith(".gamma") for name in names):
            dialect = replace(dialect, weights={**self.weights, "gamma": Stored(".gamma"), "beta": Stored(".beta")})
        return dialect


_GOOGLE_LAYERS = {
    "embeddings/word": "bert/embeddings/word_embeddings",
    "embeddings/segment": "bert/embeddings/token_type_embeddings",
    "embeddings/position": "bert/embeddings/position_embeddings",
    "embeddings/norm": "bert/embeddings/LayerNorm",
    "pooler/dense": "bert/pooler/dense",
    "masked_lm_transform/dense": "cls/predictions/transform/dense",
    "masked_lm_transform/norm": "cls/predictions/transform/LayerNorm",
}
_GOOGLE_SPECIAL = {
    "sentence/dense/kernel": Stored("cls/seq_relationship/output_weights", transposed=True),
    "sentence/dense/bias": Stored("cls/seq_relationship/output_bias"),
    "masked_lm/bias": Stored("cls/predictions/output_bias"),
}
_GOOGLE_BERT_BLOCK = {
    "attention/query": "attention/self/query",
    "attention/key": "attention/self/key",
    "attention/value": "attention/self/value",
    "attention/output": "attention/output/dense",
    "attention_norm": "attention/output/LayerNorm",
    "intermediate": "intermediate/dense",
    "output": "output/dense",
    "output_norm": "output/LayerNorm",
}
_GOOGLE_ACTIVATIONS = {name: spelled.google for name, spelled in ACTIVATIONS.items() if spelled.google}
GOOGLE_ALBERT = Dialect(
    key="google_albert",
    title="Google ALBERT",
    family="albert",
    layers={**_GOOGLE_LAYERS, "embeddings/mapping": "bert/encoder/embedding_hidden_mapping_in"},
    block={
        "attention/query": "attention_1/self/query",
        "attention/key": "attention_1/self/key",
        "attention/value": "attention_1/self/value",
        "attention/output": "attention_1/output/dense",
        "attention_norm": "LayerNorm",
        "intermediate": "ffn_1/intermediate/dense",
        "output": "ffn_1/intermediate/output/dense",
        "output_norm": "LayerNorm_1",
    },
    block_prefix="bert/encoder/transformer/group_{group}/inner_group_{inner}/",
    marks=r"^bert/encoder/transformer/group_",
    weights=_TENSORFLOW,
    special=_GOOGLE_SPECIAL,
    activations=_GOOGLE_ACTIVATIONS,
    layer_norm_eps=1e-12,
)
GOOGLE_BERT = replace(
    GOOGLE_ALBERT,
    key="google_bert",
    title="Google BERT",
    family="bert",
    layers=_GOOGLE_LAYERS,
    block=_GOOGLE_BERT_BLOCK,
    block_prefix="bert/encoder/layer_{block}/",
    marks=r"^bert/encoder/layer_\d+/",
)
# Source: brightmart/albert_zh, modeling.py: `share_parameter_across_layers` decides between the two scopes.
EARLY_BRIGHTMART = replace(
    GOOGLE_BERT,
    key="early_brightmart",
    title="early brightmart ALBERT",
    family="albert",
    block_prefix="bert/encoder/layer_shared/",
    marks=r"^bert/encoder/layer_shared/",
    special={**_GOOGLE_SPECIAL, "embeddings/projection/kernel": Stored("bert/embeddings/word_embeddings_2")},
)
EARLY_BRIGHTMART_UNSHARED = replace(
    EARLY_BRIGHTMART,
    key="early_brightmart_unshared",
    title="early brightmart ALBERT, not shared",
    block_prefix="bert/encoder/layer_{block}/",
    marks=r"^bert/embeddings/word_embeddings_2$",
)


def _in_dots(layers: Mapping[str, str], trunk: str = "bert") -> dict[str, str]:
    """Return Google's names of layers as Hugging Face spells them, the trunk named otherwise."""
    return {layer: re.sub("^bert", trunk, name.replace("/", ".")) for layer, name in layers.items()}


_GOOGLE_EMBEDDINGS = {layer: name for layer, name in _GOOGLE_LAYERS.items() if layer.startswith("embeddings/")}
_POSITION_IDS = {r"(^|\.)embeddings\.position_ids$": "position numbers, which every model knows"}
_HF_ACTIVATIONS = {name: spelled.hf for name, spelled in ACTIVATIONS.items() if spelled.hf}
HF_ALBERT = Dialect(
    key="hf_albert",
    title="Hugging Face Albert",
    family="albert",
    layers={
        **_in_dots(_GOOGLE_EMBEDDINGS, "albert"),
        "embeddings/mapping": "albert.encoder.embedding_hidden_mapping_in",
        "pooler/dense": "albert.pooler",
        "masked_lm_transform/dense": "predictions.dense",
        "masked_lm_transform/norm": "predictions.LayerNorm",
        "masked_lm": "predictions",
        "sentence/dense": "sop_classifier.classifier",
    },
    block={
        "attention/query": "attention.query",
        "attention/key": "attention.key",
        "attention/value": "attention.value",
        "attention/output": "attention.dense",
        "attention_norm": "attention.LayerNorm",
        "intermediate": "ffn",
        "output": "ffn_output",
        "output_norm": "full_layer_layer_norm",
    },
    block_prefix="albert.encoder.albert_layer_groups.{group}.albert_layers.{inner}.",
    marks=r"^(albert\.)?encoder\.albert_layer_groups\.",
    weights=_PYTORCH,
    trunk_prefix="albert.",
    square_mapping=True,
    repeats={
        "predictions.decoder.weight": "embeddings/word/embeddings",
        "predictions.decoder.bias": "masked_lm/bias",
    },
    exempt=_POSITION_IDS,
    activations=_HF_ACTIVATIONS,
)
HF_BERT = Dialect(
    key="hf_bert",
    title="Hugging Face Bert",
    family="bert",
    layers={
        **_in_dots(_GOOGLE_LAYERS),
        "masked_lm": "cls.predictions",
        "sentence/dense": "cls.seq_relationship",
    },
    block=_in_dots(_GOOGLE_BERT_BLOCK),
    block_prefix="bert.encoder.layer.{block}.",
    marks=r"^(bert\.)?encoder\.layer\.\d+\.",
    weights=_PYTORCH,
    trunk_prefix="bert.",
    repeats={
        "cls.predictions.decoder.weight": "embeddings/word/embeddings",
        "cls.predictions.decoder.bias": "masked_lm/bias",
    },
    exempt=_POSITION_IDS,
    activations=_HF_ACTIVATIONS,
)
HF_ELECTRA = replace(
    HF_BERT,
    key="hf_electra",
    title="Hugging Face Electra",
    family="electra",
    layers={**_in_dots(_GOOGLE_EMBEDDINGS, "electra"), "embeddings/mapping": "electra.embeddings_project"},
    block_prefix="electra.encoder.layer.{block}.",
    marks=r"^electra\.encoder\.|^embeddings_project\.",
    trunk_prefix="electra.",
    repeats={},
    exempt={**_POSITION_IDS, r"^discriminator_predictions\.": "the head that told replaced tokens"},
)

# It needs no tables: every weight is stored under its canonical name.
CANONICAL = Dialect(
    key="bert4albert",
    title="bert4albert",
    family=None,
    layers={},
    block={},
    block_prefix="encoder/block_{block}/",
    marks=r"^encoder/block_\d+/",
    weights={},
    square_mapping=None,
    activations={name: name for name in ACTIVATIONS},
)

# In the order in which they are looked for: the more particular marks first.
DIALECTS: tuple[Dialect, ...] = (
    GOOGLE_ALBERT,
    EARLY_BRIGHTMART,
    EARLY_BRIGHTMART_UNSHARED,
    GOOGLE_BERT,
    HF_ALBERT,
    HF_ELECTRA,
    HF_BERT,
    CANONICAL,
)


def detect_dialect(names: Iterable[str], source: object, model_type: str | None = None) -> Dialect:
    """Tell whose names these are.

    Arguments:
        names: all tensor names of a file.
        source: what to call the file in messages.
        model_type: what the config calls the model; it decides for a bare Electra with E = H, whose names
            are BERT's.

    Returns:
        The dialect, spelled as the file spells it. Raises `CheckpointError` if the names belong to none.
    """
    names = list(names)
    found = next((dialect for dialect in DIALECTS if dialect.found_in(names) is not None), None)
    if found is None:
        shown = ", ".join(names[:3]) or "none at all"
        more = ", ..." if len(names) > 3 else ""
        raise CheckpointError(
            f"{source} is not a checkpoint of a known kind: it has {len(names)} tensors ({shown}{more}); "
            f"known are {', '.join(d.title for d in DIALECTS)}.{_prefix_hint(names)}"
        )
    if found is HF_BERT and model_type == HF_ELECTRA.family and not any(n.startswith("bert.") for n in names):
        found = replace(HF_ELECTRA, marks=HF_BERT.marks)
    return found.spelled_as_in(names)


def _prefix_hint(names: list[str]) -> str:
    """Return what to pass where the names of a known dialect stand behind a prefix of their own."""
    for dialect in DIALECTS:
        pattern = dialect.marks.split("|")[0].removeprefix("^")
        match = next(filter(None, (re.search(rf"[./]{pattern}", name) for name in names)), None)
        if match is None:
            continue
        prefix = match.string[: match.start() + 1]
        if dialect.trunk_prefix and prefix.endswith(f".{dialect.trunk_prefix}"):
            prefix = prefix.removesuffix(dialect.trunk_prefix)
        with_it = [name for name in names if name.startswith(prefix)]
        others = patterns_for([name for name in names if not name.startswith(prefix)], with_it)
        ignore = f", ignore={others!r}" if others else ""
        return f" To load {dialect.title} from it: build_model(..., prefix={prefix!r}{ignore})."
    return ""
