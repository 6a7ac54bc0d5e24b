"""ModelConfig: everything that decides what a model computes, read from any of the usual spellings."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any, NamedTuple

from bert4albert.config_keys import (
    FAMILIES,
    KEY_ALIASES,
    ONLY_ACCEPTED,
    canonical_activation,
    canonical_keys,
    guess_family,
    refuse_other_architectures,
    report_unknown,
)
from bert4albert.errors import ConfigError, did_you_mean, require_choice, require_whole
from bert4albert.sharing import PARTS, Schedule, grouped_schedule, parse_schedule

APPLICATIONS = ("encoder", "lm", "unilm")

# Above these a value is a mistake or an attack, not a model; they keep a bad file from asking for memory.
_LIMITS = {
    "vocab_size": 2**24,
    "embedding_size": 2**16,
    "hidden_size": 2**16,
    "intermediate_size": 2**18,
    "num_hidden_layers": 1024,
    "num_attention_heads": 2**12,
    "num_hidden_groups": 1024,
    "inner_group_num": 1024,
    "max_position_embeddings": 2**20,
    "type_vocab_size": 2**16,
}
_DROPOUT_RATES = ("hidden_dropout_prob", "attention_probs_dropout_prob")


class Head(NamedTuple):
    """A pretraining head: the one place that says what belongs to it.

    Attributes:
        title: what to call it in messages.
        key: the config key that asks for it.
        value: the value of that key that stands for True.
        weights: the canonical names of its weights.
    """

    title: str
    key: str
    value: str | bool
    weights: tuple[str, ...]

    @property
    def layers(self) -> set[str]:
        """The names of its layers in the trunk."""
        return {weight.split("/")[0] for weight in self.weights}


HEADS: Mapping[str, Head] = {
    "pooler": Head("the pooler", "with_pool", "tanh", ("pooler/dense/kernel", "pooler/dense/bias")),
    "sentence": Head("the sentence head", "with_nsp", True, ("sentence/dense/kernel", "sentence/dense/bias")),
    "masked_lm": Head(
        "the masked-LM head",
        "with_mlm",
        "softmax",
        (
            "masked_lm_transform/dense/kernel",
            "masked_lm_transform/dense/bias",
            "masked_lm_transform/norm/gamma",
            "masked_lm_transform/norm/beta",
            "masked_lm/bias",
        ),
    ),
}


class DepthLora(NamedTuple):
    """A low-rank update of its own for every depth (arXiv:2410.20672): kernel + alpha / rank * A @ B.

    Attributes:
        rank: columns of A and rows of B.
        parts: the parts of a block whose kernels are updated, of those that have kernels.
        alpha: scale of the update, times `rank`.
    """

    rank: int
    parts: tuple[str, ...]
    alpha: float

    def as_json(self) -> dict[str, Any]:
        """Return what `build_model(depth_lora=...)` reads."""
        return {"rank": self.rank, "parts": [*self.parts], "alpha": self.alpha}


@dataclass(frozen=True)
class ModelConfig:
    """What a model computes: sizes, sharing schedule, heads.

    Build one with `ModelConfig.from_dict`, which reads the key spellings of Google, Hugging Face and
    bert4keras; sizes are counts, `*_prob` are probabilities.

    Attributes:
        family: 'albert', 'bert' or 'electra': whose checkpoint names the weights go by.
        sharing: the copy of each part of a block that is used at each depth.
        depth_lora: the low-rank updates that each depth adds to the kernels it uses, or None.
        depth_bias: whether each depth adds offsets to the biases and norms it uses.
        remat: whether activations inside a block application are computed again for the backward pass.
        embedding_mapping: whether a Dense maps the embeddings from E to H after their norm (ALBERT).
        projected_words: whether word embeddings are projected from E to H before the sum (early albert_zh).
        hidden_act: an entry of `config_keys.ACTIVATIONS`; the two forms of gelu are told apart.
        with_pool: the pooler's activation, or None for no pooler.
        with_mlm: the masked-LM head's activation, or None for no head.
        keep_tokens: the old ids of the words that were kept; `vocab_size` is the reduced size.
        compound_tokens: the words that were appended, each made of others.
        hierarchical_position: alpha of the hierarchical decomposition of positions, or None.

    Examples:
        >>> from bert4albert import ModelConfig
        >>> config = ModelConfig.from_dict(
        ...     {
        ...         "vocab_size": 211,
        ...         "embedding_size": 16,
        ...         "hidden_size": 48,
        ...         "num_hidden_layers": 3,
        ...         "num_attention_heads": 4,
        ...     }
        ... )
        >>> config.family, config.intermediate_size
        ('albert', 192)
        >>> print(config.sharing)
        3 block applications share 1 block
        >>> print(config.replace(sharing="unshared").sharing)
        3 block applications, each with a block of its own
    """

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    embedding_size: int
    sharing: Schedule
    family: str = "albert"
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    num_hidden_groups: int = 1
    inner_group_num: int = 1
    hidden_act: str = "gelu_tanh"
    hidden_dropout_prob: float = 0.0
    attention_probs_dropout_prob: float = 0.0
    layer_norm_eps: float = 1e-12
    initializer_range: float = 0.02
    embedding_mapping: bool = False
    projected_words: bool = False
    application: str = "encoder"
    with_pool: str | None = None
    with_nsp: bool = False
    with_mlm: str | None = None
    masked_positions: bool = False
    keep_tokens: tuple[int, ...] | None = None
    compound_tokens: tuple[Any, ...] | None = None
    hierarchical_position: float | None = None
    custom_position_ids: bool = False
    depth_lora: DepthLora | None = None
    depth_bias: bool = False
    remat: bool = False

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], source: str = "config", **overrides: Any) -> ModelConfig:
        """Read a config in Google's, Hugging Face's, bert4keras' or this package's own spelling.

        Arguments:
            values: the parsed JSON object.
            source: what to call it in messages.
            overrides: keys that replace those of `values`; None leaves a key as it is. A `sharing` that says
                'shared', or leaves parts out, means that of `values` there.

        Returns:
            The validated config. Raises `ConfigError` where a value cannot be used.
        """
        if not _is_shallow(dict(values)):
            raise ConfigError(f"{source} is nested deeper than any model's config; pass the model's config.json.")
        merged = canonical_keys(values, source)
        own_sharing = merged.get("sharing")
        merged.update(canonical_keys({k: v for k, v in overrides.items() if v is not None}, "the arguments"))
        refuse_other_architectures(merged, source)
        report_unknown(merged, known_keys(), source)
        program = "hf" if {"model_type", "transformers_version"} & set(merged) else "google"
        fields = {k: v for k, v in merged.items() if k in _FIELDS}
        fields.setdefault("family", guess_family(merged))
        for name in ("hidden_size", "vocab_size", "num_hidden_layers", "num_attention_heads"):
            if name not in fields:
                raise ConfigError(f"{source} has no {name!r}; an ALBERT or BERT config needs it.")
        factorised = merged.get("model_type") in ("albert", "electra")
        fields.setdefault("embedding_size", 128 if factorised else fields["hidden_size"])
        if isinstance(fields["hidden_size"], int):
            fields.setdefault("intermediate_size", 4 * fields["hidden_size"])
        fields["hidden_act"] = canonical_activation(
            fields.get("hidden_act", "gelu_new" if merged.get("model_type") == "albert" else "gelu"),
            program,
            "hidden_act",
        )
        for head in (HEADS["pooler"], HEADS["masked_lm"]):
            fields[head.key] = _head_activation(fields.get(head.key), head, program)
        fields |= {name: 0.0 for name in _DROPOUT_RATES if fields.get(name, 0.0) is None}
        return cls._validated(fields, source, own_sharing)

    @classmethod
    def _validated(cls, fields: dict[str, Any], source: str, own_sharing: Any = None) -> ModelConfig:
        for name, limit in _LIMITS.items():
            if name in fields:
                require_whole(name, fields[name], 1, limit, source)
        for name in (*_DROPOUT_RATES, "layer_norm_eps", "initializer_range"):
            if name in fields:
                _require_number(name, fields[name], source, 0.0, 1.0, "0 <= value < 1")
        for name in _FLAGS:
            if not isinstance(fields.get(name, False), bool):
                raise ConfigError(f"{name} must be True or False; {source} gives {fields[name]!r:.80}.")
        require_choice("application", fields.get("application", "encoder"), APPLICATIONS, source)
        require_choice("family", fields["family"], FAMILIES, source)
        if fields["hidden_size"] % fields["num_attention_heads"]:
            raise ConfigError(
                f"hidden_size {fields['hidden_size']} is not a multiple of num_attention_heads "
                f"{fields['num_attention_heads']} in {source}; every head needs the same size."
            )
        _settle_heads(fields)
        _settle_embeddings(fields, source)
        _settle_schedule(fields, source, own_sharing)
        fields["depth_lora"] = _depth_lora(fields.get("depth_lora"), source)
        return cls(**fields)

    def to_dict(self) -> dict[str, Any]:
        """Return this config as JSON values; `from_dict` reads them back equal."""
        values = {name: getattr(self, name) for name in _FIELDS}
        return {key: _as_json(value) for key, value in values.items() if value is not None}

    def replace(self, **changes: Any) -> ModelConfig:
        """Return a copy with some fields changed, validated again; `sharing` counts from the groups of the config."""
        return self._validated({name: getattr(self, name) for name in _FIELDS} | changes, "the changed config")

    @property
    def own_schedule(self) -> Schedule:
        """The schedule of the checkpoint that the config belongs to, as its groups say it."""
        return grouped_schedule(self.num_hidden_layers, self.num_hidden_groups, self.inner_group_num)

    @property
    def num_blocks(self) -> int:
        """Number of copies of the part of a block that has the most."""
        return self.sharing.num_blocks

    @property
    def has_adapters(self) -> bool:
        """Whether depths add something of their own to the weights that they use."""
        return self.depth_lora is not None or self.depth_bias

    @property
    def embedding_sum_size(self) -> int:
        """Size at which word, segment and position embeddings are added and normalised."""
        return self.hidden_size if self.projected_words else self.embedding_size

    @property
    def max_length(self) -> int:
        """The longest sequence the positions cover, in tokens."""
        positions = self.max_position_embeddings
        return positions if self.hierarchical_position is None else positions**2


_FIELDS = tuple(field.name for field in dataclasses.fields(ModelConfig))
_FLAGS = tuple(field.name for field in dataclasses.fields(ModelConfig) if field.type == "bool")


def known_keys() -> list[str]:
    """Every key a config may hold that decides something."""
    return [*_FIELDS, *KEY_ALIASES, *ONLY_ACCEPTED]


def _head_activation(value: Any, head: Head, program: str) -> str | None:
    if value is None or value is False:
        return None
    return str(head.value) if value is True else canonical_activation(value, program, head.key)


def _settle_heads(fields: dict[str, Any]) -> None:
    """The sentence head reads the pooler, generation reads the masked-LM head."""
    if fields.get("with_nsp") and not fields.get("with_pool"):
        fields["with_pool"] = HEADS["pooler"].value
    if fields.get("application", "encoder") != "encoder" and not fields.get("with_mlm"):
        fields["with_mlm"] = HEADS["masked_lm"].value
    if fields.get("masked_positions") and not fields.get("with_mlm"):
        raise ConfigError("masked_positions=True needs the masked-LM head; pass with_mlm=True as well.")


def _settle_embeddings(fields: dict[str, Any], source: str) -> None:
    alpha = fields.get("hierarchical_position")
    if alpha is True:
        fields["hierarchical_position"] = 0.4
    elif alpha is False:
        fields["hierarchical_position"] = None
    elif alpha is not None:
        _require_number("hierarchical_position", alpha, source, 0.0, 1.0, "True, or 0 < alpha < 1")
        if not alpha:
            raise ConfigError("hierarchical_position=0 would place every block of positions alike; use 0 < alpha < 1.")
    for name in ("keep_tokens", "compound_tokens"):
        if fields.get(name) is not None:
            fields[name] = _token_ids(name, fields[name], source)
    if fields["embedding_size"] != fields["hidden_size"] and not fields.get("projected_words"):
        fields["embedding_mapping"] = True
    if fields.get("projected_words") and fields.get("embedding_mapping"):
        raise ConfigError("projected_words and embedding_mapping exclude each other: words are projected once.")


def _settle_schedule(fields: dict[str, Any], source: str, own_sharing: Any) -> None:
    layers, groups = fields["num_hidden_layers"], fields.get("num_hidden_groups", 1)
    inner = fields.get("inner_group_num", 1)
    if layers * inner > _LIMITS["num_hidden_layers"]:
        raise ConfigError(
            f"num_hidden_layers {layers} times inner_group_num {inner} gives more than "
            f"{_LIMITS['num_hidden_layers']} block applications in {source}; no such model exists."
        )
    if fields["family"] != "albert":
        groups, inner = layers, 1
    fields["num_hidden_groups"], fields["inner_group_num"] = groups, inner
    own = grouped_schedule(layers, groups, inner, source)
    sharing = fields.get("sharing")
    # A config's own list is for its own depth; a model of another depth needs another.
    if sharing is not own_sharing:
        own = parse_schedule(own_sharing, own)
    fields["sharing"] = parse_schedule(sharing, own)


def _depth_lora(value: Any, source: str) -> DepthLora | None:
    """Return what `depth_lora` means: None or False, a rank, or a dictionary of rank, parts and alpha."""
    if value is None or value is False or isinstance(value, DepthLora):
        return value or None
    with_kernels = ("attention", "feed_forward")
    given = dict(value) if isinstance(value, Mapping) else {"rank": value}
    for key in given:
        if key not in DepthLora._fields:
            hint = did_you_mean(str(key), DepthLora._fields)
            raise ConfigError(f"depth_lora has no {key!r:.80}; it takes {', '.join(DepthLora._fields)}.{hint}")
    require_whole("depth_lora rank", given.get("rank"), 1, _LIMITS["hidden_size"], source)
    alpha = given.get("alpha", given["rank"])
    _require_number("depth_lora alpha", alpha, source, 1e-30, 1e30, "a number above 0")
    parts = given.get("parts", with_kernels)
    parts = (parts,) if isinstance(parts, str) else parts
    if not isinstance(parts, (list, tuple)) or not parts:
        raise ConfigError(f"depth_lora parts must list some of {', '.join(with_kernels)}, not {parts!r:.80}.")
    for part in parts:
        if part not in with_kernels:
            norm = " Norms have no kernel; depth_bias=True moves them." if part in (*PARTS, "norm") else ""
            raise ConfigError(f"depth_lora parts must be some of {', '.join(with_kernels)}, not {part!r:.80}.{norm}")
    return DepthLora(int(given["rank"]), tuple(p for p in with_kernels if p in parts), float(alpha))


def _require_number(name: str, value: Any, source: str, low: float, high: float, expected: str) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    # Compared first: a huge whole number cannot be turned into a float.
    if not number or not low <= value < high or not math.isfinite(value):
        raise ConfigError(f"{name} must be {expected}; {source} gives {value!r:.80}.")


def _is_shallow(value: Any, levels: int = 8) -> bool:
    if not isinstance(value, (dict, list, tuple)):
        return True
    return levels > 0 and all(
        _is_shallow(v, levels - 1) for v in (value.values() if isinstance(value, dict) else value)
    )


def _as_json(value: Any) -> Any:
    if isinstance(value, (Schedule, DepthLora)):
        return value.as_json()
    return [_as_json(v) for v in value] if isinstance(value, (tuple, list)) else value


def _token_ids(name: str, value: Any, source: str) -> tuple[Any, ...]:
    """Return the entries of `keep_tokens` (ids) or `compound_tokens` (lists of ids, or of ids and weights)."""
    entries = _as_tuple(value.tolist() if hasattr(value, "tolist") else value)
    lists = name == "compound_tokens"
    if isinstance(entries, tuple) and _are_numbers(entries) and all(isinstance(e, tuple) == lists for e in entries):
        return entries
    raise ConfigError(f"{name} in {source} must be a list of {'lists of ' * lists}token ids, not {value!r:.80}.")


def _are_numbers(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_are_numbers, value))
    return isinstance(value, Real) and not isinstance(value, bool)


def _as_tuple(value: Any) -> Any:
    return tuple(_as_tuple(v) for v in value) if isinstance(value, (tuple, list)) else value
