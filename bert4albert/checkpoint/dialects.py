"""The name tables: what each program calls a weight, and which way round it stores it.

One table a dialect, read in both directions: loading and saving use the same entries. A table names
layers; how a dialect spells the weights of a layer (kernel or weight, transposed or not) is said once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from bert4albert.config import ModelConfig
from bert4albert.errors import CheckpointError
from bert4albert.weights import weight_shapes


@dataclass(frozen=True)
class Stored:
    """How a dialect stores a weight: its name there, and whether rows and columns are exchanged."""

    name: str
    transposed: bool = False


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
        key, title: for code and for people.
        family: the model family the names belong to.
        layers: canonical layer -> its name, outside the blocks.
        block: canonical layer inside a block -> its name there.
        block_prefix: where a block's layers lie; `{block}`, or `{group}` and `{inner}`, are filled in.
        weights: how the weights of a layer are spelled.
        special: weights whose whole name does not follow from their layer's.
        trunk_prefix: the prefix that files of the bare model leave out.
        marks: a pattern by which a tensor name gives this dialect away.
        maps_words: words are projected to the hidden size before the sum.
        always_maps: the embedding mapping is stored even where E = H.
    """

    key: str
    title: str
    family: str
    layers: Mapping[str, str]
    block: Mapping[str, str]
    block_prefix: str
    marks: str
    weights: Mapping[str, Stored]
    special: Mapping[str, Stored] = field(default_factory=dict)
    trunk_prefix: str = ""
    projects_words: bool = False
    always_maps: bool = False

    def stored_as(self, weight: str, inner_group_num: int = 1) -> Stored | None:
        """Return how a weight is stored; None where this dialect has no name for it."""
        if weight in self.special:
            return self.special[weight]
        layer, _, kind = weight.rpartition("/")
        spelling = self.weights[kind]
        match = re.fullmatch(r"encoder/block_(\d+)/(.+)", layer)
        if match is None:
            name = self.layers.get(layer)
        else:
            block = int(match[1])
            group, inner = divmod(block, inner_group_num)
            name = self.block_prefix.format(block=block, group=group, inner=inner) + self.block[match[2]]
        return None if name is None else Stored(name + spelling.name, spelling.transposed)

    def names(self, config: ModelConfig) -> dict[str, Stored]:
        """Return how every weight of `config` is stored; weights without a name in this dialect are left out."""
        named = ((weight, self.stored_as(weight, config.inner_group_num)) for weight in weight_shapes(config))
        return {weight: stored for weight, stored in named if stored is not None}

    def found_in(self, names: Iterable[str]) -> str | None:
        """Return the first of `names` that gives this dialect away."""
        return next((name for name in names if re.search(self.marks, name)), None)


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
)
GOOGLE_BERT = Dialect(
    key="google_bert",
    title="Google BERT",
    family="bert",
    layers=_GOOGLE_LAYERS,
    block=_GOOGLE_BERT_BLOCK,
    block_prefix="bert/encoder/layer_{block}/",
    marks=r"^bert/encoder/layer_\d+/",
    weights=_TENSORFLOW,
    special=_GOOGLE_SPECIAL,
)

DIALECTS: tuple[Dialect, ...] = (GOOGLE_ALBERT, GOOGLE_BERT)


def detect_dialect(names: Iterable[str], source: object) -> Dialect:
    """Tell whose names these are.

    Arguments:
        names: all tensor names of a file.
        source: what to call the file in messages.

    Returns:
        The dialect. Raises `CheckpointError` if the names belong to none.
    """
    names = list(names)
    for dialect in DIALECTS:
        if dialect.found_in(names) is not None:
            return dialect
    shown = ", ".join(names[:3]) or "none at all"
    raise CheckpointError(
        f"{source} is not a checkpoint of a known kind: it has {len(names)} tensors ({shown}{', ...' * (len(names) > 3)}); "
        f"known are {', '.join(d.title for d in DIALECTS)}."
    )
