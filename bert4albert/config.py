"""ModelConfig: everything that decides what a model computes, read from any of the usual spellings."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bert4albert.errors import ConfigError, did_you_mean, require_choice, require_whole
from bert4albert.sharing import grouped_schedule, parse_schedule

ACTIVATIONS = ("gelu_tanh", "gelu_erf", "relu", "silu", "tanh", "sigmoid", "elu", "softmax", "linear")
APPLICATIONS = ("encoder", "lm", "unilm")
FAMILIES = ("albert", "bert", "electra")

_ACTIVATION_ALIASES = {
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_python": "gelu_erf",
    "swish": "silu",
}

_KEY_ALIASES = {
    "max_position": "max_position_embeddings",
    "segment_vocab_size": "type_vocab_size",
    "dropout_rate": "hidden_dropout_prob",
    "attention_dropout_rate": "attention_probs_dropout_prob",
    "layer_norm_epsilon": "layer_norm_eps",
}

# Keys that change the architecture in ways not built here: only these values are the architecture we build.
_ONLY_ACCEPTED: dict[str, tuple[Any, ...]] = {
    "ln_type": ("postln",),
    "position_embedding_type": ("absolute",),
    "net_structure_type": (0,),
    "gap_size": (0,),
    "num_memory_blocks": (0,),
    "down_scale_factor": (1,),
    "layers_to_keep": ([],),
    "directionality": ("bidi",),
    "pooler_type": ("first_token_transform",),
    "is_decoder": (False,),
    "is_encoder_decoder": (False,),
    "add_cross_attention": (False,),
    "tie_word_embeddings": (True,),
    "pruned_heads": ({},),
    "model_type": FAMILIES,
}

_HARMLESS = frozenset(
    """architectures bos_token_id eos_token_id pad_token_id sep_token_id cls_token_id mask_token_id
    classifier_dropout classifier_dropout_prob dtype torch_dtype transformers_version use_cache
    pooler_fc_size pooler_num_attention_heads pooler_num_fc_layers pooler_size_per_head
    summary_activation summary_last_dropout summary_type summary_use_proj
    id2label label2id num_labels problem_type finetuning_task task_specific_params tokenizer_class
    _name_or_path name_or_path output_past output_attentions output_hidden_states return_dict
    gradient_checkpointing chunk_size_feed_forward language torchscript attn_implementation
    _attn_implementation prefix use_bfloat16 id auto_map name trainable backend_dtype""".split()  # noqa: SIM905  (one word a key reads best)
)

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


_MOST_BYTES = 2**21


@dataclass(frozen=True)
class ModelConfig:
    """What a model computes: sizes, sharing schedule, heads.

    Build one with `ModelConfig.from_dict`, which reads the key spellings of Google, Hugging Face and
    bert4keras; sizes are counts, `*_prob` are probabilities.

    Attributes:
        family: 'albert', 'bert' or 'electra': whose checkpoint names the weights go by.
        sharing: the block used at each depth, one entry a block application.
        embedding_mapping: whether a Dense maps the embeddings from E to H after their norm (ALBERT).
        projected_words: whether word embeddings are projected from E to H before the sum (early albert_zh).
        hidden_act: an entry of `ACTIVATIONS`; the two forms of gelu are told apart.
        with_pool, with_mlm: the head's activation, or None for no head.
        keep_tokens, compound_tokens: how the vocabulary was reduced; `vocab_size` is the reduced size.
        hierarchical_position: alpha of the hierarchical decomposition of positions, or None.
    """

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    embedding_size: int
    sharing: tuple[int, ...]
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

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], source: str = "config", **overrides: Any) -> ModelConfig:
        """Read a config in Google's, Hugging Face's, bert4keras' or this package's own spelling.

        Arguments:
            values: the parsed JSON object.
            source: what to call it in messages.
            overrides: keys that replace those of `values`; None leaves a key as it is.

        Returns:
            The validated config. Raises `ConfigError` where a value cannot be used.
        """
        if not _is_shallow(dict(values)):
            raise ConfigError(f"{source} is nested deeper than any model's config; pass the model's config.json.")
        merged = _canonical_keys(values, source)
        merged.update(_canonical_keys({k: v for k, v in overrides.items() if v is not None}, "the arguments"))
        _refuse_other_architectures(merged, source)
        _report_unknown(merged, source)
        dialect = "hf" if {"model_type", "transformers_version"} & set(merged) else "google"
        known = {f.name for f in dataclasses.fields(cls)}
        fields = {k: v for k, v in merged.items() if k in known}
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
            dialect,
            "hidden_act",
        )
        for head, default in (("with_pool", "tanh"), ("with_mlm", "softmax")):
            fields[head] = _head_activation(fields.get(head), default, dialect, head)
        for name in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
            if name in fields and fields[name] is None:
                fields[name] = 0.0
        return cls._validated(fields, source)

    @classmethod
    def _validated(cls, fields: dict[str, Any], source: str) -> ModelConfig:
        for name, limit in _LIMITS.items():
            if name in fields:
                require_whole(name, fields[name], 1, limit, source)
        for name in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
            _require_number(name, fields.get(name, 0.0), source, 0.0, 1.0, "0 <= rate < 1")
        for name in ("layer_norm_eps", "initializer_range"):
            if name in fields:
                _require_number(name, fields[name], source, 0.0, 1.0, "0 <= value < 1")
        for name in (
            "embedding_mapping",
            "projected_words",
            "with_nsp",
            "masked_positions",
            "custom_position_ids",
        ):
            if not isinstance(fields.get(name, False), bool):
                raise ConfigError(f"{name} must be True or False; {source} gives {fields[name]!r}.")
        require_choice("application", fields.get("application", "encoder"), APPLICATIONS, source)
        require_choice("family", fields["family"], FAMILIES, source)
        if fields["hidden_size"] % fields["num_attention_heads"]:
            raise ConfigError(
                f"hidden_size {fields['hidden_size']} is not a multiple of num_attention_heads "
                f"{fields['num_attention_heads']} in {source}; every head needs the same size."
            )
        _settle_heads(fields)
        _settle_embeddings(fields, source)
        _settle_schedule(fields, source)
        return cls(**fields)

    def to_dict(self) -> dict[str, Any]:
        """Return this config as JSON values; `from_dict` reads them back equal."""
        values = dataclasses.asdict(self)
        return {k: _as_json(v) for k, v in values.items() if v is not None}

    def replace(self, **changes: Any) -> ModelConfig:
        """Return a copy with some fields changed, validated again."""
        return self._validated({**dataclasses.asdict(self), **changes}, "the changed config")

    @property
    def num_blocks(self) -> int:
        """Number of blocks with weights of their own."""
        return max(self.sharing) + 1

    @property
    def embedding_sum_size(self) -> int:
        """Size at which word, segment and position embeddings are added and normalised."""
        return self.hidden_size if self.projected_words else self.embedding_size

    @property
    def max_length(self) -> int:
        """The longest sequence the positions cover, in tokens."""
        positions = self.max_position_embeddings
        return positions if self.hierarchical_position is None else positions**2


def read_config(config: str | os.PathLike[str] | Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """Read a config's JSON object.

    Arguments:
        config: path of a JSON file, or the parsed object itself.

    Returns:
        The object, and what to call it in messages. Raises `ConfigError` if it cannot be read.
    """
    if isinstance(config, Mapping):
        return dict(config), "the config"
    if not isinstance(config, (str, os.PathLike)):
        raise ConfigError(f"config must be a path or a dict, not {type(config).__name__}: {config!r:.80}.")
    path = Path(config)
    if os.path.isfile(path) and os.path.getsize(path) > _MOST_BYTES:
        raise ConfigError(
            f"{path} is larger than {_MOST_BYTES:,} bytes, so it is no config; pass the model's config.json."
        )
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"There is no config file at {path}; pass the path of the model's JSON file.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not a readable JSON file ({error}); pass the model's config.json.") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds a JSON {type(values).__name__}, not an object of config keys.")
    return values, str(path)


def guess_family(values: Mapping[str, Any]) -> str:
    """Tell the family from a config's keys: 'albert' where only ALBERT has them, else 'bert'."""
    if values.get("model_type") in FAMILIES:
        return str(values["model_type"])
    factorised = values.get("embedding_size", values.get("hidden_size")) != values.get("hidden_size")
    return "albert" if factorised or "num_hidden_groups" in values or "inner_group_num" in values else "bert"


def canonical_activation(name: Any, dialect: str, argument: str) -> str:
    """Return the entry of `ACTIVATIONS` that `name` means; `"gelu"` is tanh for Google, erf for Hugging Face."""
    if not isinstance(name, str):
        raise ConfigError(f"{argument} must be the name of an activation, not {name!r}.")
    wanted = name.lower()
    if wanted == "gelu":
        return "gelu_erf" if dialect == "hf" else "gelu_tanh"
    wanted = _ACTIVATION_ALIASES.get(wanted, wanted)
    if wanted not in ACTIVATIONS:
        choices = ", ".join(("gelu", *ACTIVATIONS))
        raise ConfigError(f"{argument}={name!r} is not an activation this package knows; use one of {choices}.")
    return wanted


def known_keys() -> list[str]:
    """Every key a config may hold that decides something."""
    return [f.name for f in dataclasses.fields(ModelConfig)] + [*_KEY_ALIASES, *_ONLY_ACCEPTED]


def _canonical_keys(values: Mapping[str, Any], source: str) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for key, value in values.items():
        name = _KEY_ALIASES.get(key, key)
        if name in merged and merged[name] != value:
            raise ConfigError(f"{source} gives {name!r} twice, as {merged[name]!r} and as {value!r}; keep one.")
        merged[name] = value
    return merged


def _refuse_other_architectures(values: Mapping[str, Any], source: str) -> None:
    for key, accepted in _ONLY_ACCEPTED.items():
        value = values.get(key)
        if value is not None and value not in accepted:
            raise ConfigError(
                f"{source} has {key}={value!r}, an architecture this package does not build "
                f"(it builds {' or '.join(repr(a) for a in accepted)}); loading it would give wrong numbers."
            )
    heads, hidden = values.get("num_attention_heads"), values.get("hidden_size")
    for key in ("attention_head_size", "attention_key_size", "head_size"):
        size = values.get(key)
        if size is not None and isinstance(heads, int) and size * heads != hidden:
            raise ConfigError(f"{source} has {key}={size!r}; only hidden_size / num_attention_heads is supported.")


def _report_unknown(values: Mapping[str, Any], source: str) -> None:
    known = set(known_keys()) | {"attention_head_size", "attention_key_size", "head_size"}
    for key in values:
        if key in known or key in _HARMLESS:
            continue
        hint = did_you_mean(str(key), known)
        if hint:
            raise ConfigError(f"{source} has an unknown key {key!r}.{hint}")
        warnings.warn(f"{source}: the unknown key {key!r} is ignored.", stacklevel=4)


def _head_activation(value: Any, default: str, dialect: str, name: str) -> str | None:
    if value is None or value is False:
        return None
    return default if value is True else canonical_activation(value, dialect, name)


def _settle_heads(fields: dict[str, Any]) -> None:
    """The sentence head reads the pooler, generation reads the masked-LM head."""
    if fields.get("with_nsp") and not fields.get("with_pool"):
        fields["with_pool"] = "tanh"
    if fields.get("application", "encoder") != "encoder" and not fields.get("with_mlm"):
        fields["with_mlm"] = "softmax"
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
            fields[name] = _as_tuple(fields[name])
    if fields["embedding_size"] != fields["hidden_size"] and not fields.get("projected_words"):
        fields["embedding_mapping"] = True
    if fields.get("projected_words") and fields.get("embedding_mapping"):
        raise ConfigError("projected_words and embedding_mapping exclude each other: words are projected once.")


def _settle_schedule(fields: dict[str, Any], source: str) -> None:
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
    fields["sharing"] = parse_schedule(fields.get("sharing"), own)


def _require_number(name: str, value: Any, source: str, low: float, high: float, expected: str) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not low <= value < high:
        raise ConfigError(f"{name} must be {expected}; {source} gives {value!r:.80}.")


def _is_shallow(value: Any, levels: int = 8) -> bool:
    if not isinstance(value, (dict, list, tuple)):
        return True
    return levels > 0 and all(
        _is_shallow(v, levels - 1) for v in (value.values() if isinstance(value, dict) else value)
    )


def _as_json(value: Any) -> Any:
    return [_as_json(v) for v in value] if isinstance(value, (tuple, list)) else value


def _as_tuple(value: Any) -> Any:
    return tuple(_as_tuple(v) for v in value) if isinstance(value, (tuple, list)) else value
