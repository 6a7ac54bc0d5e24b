"""What configs are spelled like: one table of activations, one of keys, both read and written by the dialects."""

from __future__ import annotations

import os
import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bert4albert.errors import ConfigError, did_you_mean
from bert4albert.plain_files import read_json

FAMILIES = ("albert", "bert", "electra")

_MOST_BYTES = 2**21
_SHOWN_KEYS = 5


@dataclass(frozen=True)
class Activation:
    """How configs name an activation.

    Attributes:
        google: its name in the configs of Google's programs; None where they lack it.
        hf: its name in those of Hugging Face; None where they lack it.
        also: other names that are read.
    """

    google: str | None = None
    hf: str | None = None
    also: tuple[str, ...] = ()


# "gelu" is the tanh approximation in Google's programs and the exact one, by erf, in Hugging Face's.
ACTIVATIONS: Mapping[str, Activation] = {
    "gelu_tanh": Activation("gelu", "gelu_new", ("gelu_fast", "gelu_pytorch_tanh")),
    "gelu_erf": Activation(None, "gelu", ("gelu_python",)),
    "relu": Activation("relu", "relu"),
    "silu": Activation(None, "silu", ("swish",)),
    "tanh": Activation("tanh", "tanh"),
    "sigmoid": Activation(None, "sigmoid"),
    "elu": Activation(),
    "softmax": Activation(),
    "linear": Activation("linear", "linear"),
}

# The keys that Google's and Hugging Face's configs share, written as they are; and other spellings that are read.
SIZE_KEYS = (
    "attention_probs_dropout_prob",
    "hidden_dropout_prob",
    "hidden_size",
    "initializer_range",
    "intermediate_size",
    "max_position_embeddings",
    "num_attention_heads",
    "num_hidden_layers",
    "type_vocab_size",
    "vocab_size",
)
KEY_ALIASES = {
    "max_position": "max_position_embeddings",
    "segment_vocab_size": "type_vocab_size",
    "dropout_rate": "hidden_dropout_prob",
    "attention_dropout_rate": "attention_probs_dropout_prob",
    "layer_norm_epsilon": "layer_norm_eps",
}

# Keys that change the architecture in ways not built here: only these values are the architecture we build.
ONLY_ACCEPTED: Mapping[str, tuple[Any, ...]] = {
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

_HEAD_SIZES = ("attention_head_size", "attention_key_size", "head_size")

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
    try:
        return read_json(path, _MOST_BYTES), str(path)
    except FileNotFoundError:
        raise ConfigError(f"There is no config file at {path}; pass the path of the model's JSON file.") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} is not a readable JSON file ({error}); pass the model's config.json.") from None


def guess_family(values: Mapping[str, Any]) -> str:
    """Tell the family that a config names, or its keys: 'albert' where only ALBERT has them, else 'bert'."""
    for key in ("family", "model_type"):
        if values.get(key) in FAMILIES:
            return str(values[key])
    factorised = values.get("embedding_size", values.get("hidden_size")) != values.get("hidden_size")
    return "albert" if factorised or "num_hidden_groups" in values or "inner_group_num" in values else "bert"


def canonical_activation(name: Any, program: str, argument: str) -> str:
    """Return the entry of `ACTIVATIONS` that a name means.

    Arguments:
        name: the name.
        program: 'google' or 'hf': whose config it stands in.
        argument: what to call it in messages.

    Returns:
        The canonical name. Raises `ConfigError` for one that is not known.
    """
    if not isinstance(name, str):
        raise ConfigError(f"{argument} must be the name of an activation, not {name!r:.80}.")
    wanted = name.lower()
    for canonical, spelled in ACTIVATIONS.items():
        if wanted == getattr(spelled, program):
            return canonical
    for canonical, spelled in ACTIVATIONS.items():
        if wanted in (canonical, spelled.google, spelled.hf, *spelled.also):
            return canonical
    choices = ", ".join(("gelu", *ACTIVATIONS))
    raise ConfigError(f"{argument}={name!r:.80} is not an activation this package knows; use one of {choices}.")


def canonical_keys(values: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return a config under its canonical keys. Raises `ConfigError` where two spellings of a key disagree."""
    merged: dict[str, Any] = {}
    for key, value in values.items():
        name = KEY_ALIASES.get(key, key)
        if name in merged and merged[name] != value:
            raise ConfigError(f"{source} gives {name!r} twice, as {merged[name]!r:.80} and as {value!r:.80}; keep one.")
        merged[name] = value
    return merged


def refuse_other_architectures(values: Mapping[str, Any], source: str) -> None:
    """Raise `ConfigError` for a config of an architecture that is not built here."""
    for key, accepted in ONLY_ACCEPTED.items():
        value = values.get(key)
        if value is not None and value not in accepted:
            raise ConfigError(
                f"{source} has {key}={value!r:.80}, an architecture this package does not build "
                f"(it builds {' or '.join(repr(a) for a in accepted)}); loading it would give wrong numbers."
            )
    heads, hidden = values.get("num_attention_heads"), values.get("hidden_size")
    for key in _HEAD_SIZES:
        size = values.get(key)
        if size is not None and size != "" and not (_is_whole(size) and _is_whole(heads) and size * heads == hidden):
            raise ConfigError(f"{source} has {key}={size!r:.80}; only hidden_size / num_attention_heads is supported.")


def report_unknown(values: Mapping[str, Any], known: Collection[str], source: str) -> None:
    """Raise `ConfigError` for a key that looks like a misspelt one, and warn of the others that decide nothing."""
    unknown = [key for key in values if key not in known and key not in _HARMLESS and key not in _HEAD_SIZES]
    for key in unknown[:_SHOWN_KEYS]:
        hint = did_you_mean(str(key), known)
        if hint:
            raise ConfigError(f"{source} has an unknown key {str(key)[:80]!r}.{hint}")
        warnings.warn(f"{source}: the unknown key {str(key)[:80]!r} is ignored.", stacklevel=5)
    if len(unknown) > _SHOWN_KEYS:
        more = len(unknown) - _SHOWN_KEYS
        warnings.warn(f"{source}: {more:,} more unknown keys are ignored.", stacklevel=5)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
