"""Write weights in a dialect: change them only where the dialect cannot say them as they are, and keep the function.

Everything here works on `Weights`, names and a way to read one array at a time, so that a model in memory and a
file on disk are written by the same code, without a second copy of the model.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bert4albert.checkpoint.dialects import (
    CANONICAL,
    EARLY_BRIGHTMART,
    EARLY_BRIGHTMART_UNSHARED,
    GOOGLE_ALBERT,
    GOOGLE_BERT,
    HF_ALBERT,
    HF_BERT,
    HF_ELECTRA,
    Dialect,
)
from bert4albert.checkpoint.formats.arrays import write_arrays
from bert4albert.checkpoint.formats.safe_tensors import write_safe_tensors
from bert4albert.checkpoint.formats.tensor_file import all_finite
from bert4albert.checkpoint.formats.tf_bundle import write_tf_bundle
from bert4albert.checkpoint.names import Shape, adapter_shapes, in_block, in_copies, weight_shapes
from bert4albert.checkpoint.task_head import TaskHead
from bert4albert.config import ModelConfig
from bert4albert.config_keys import SIZE_KEYS, read_config
from bert4albert.errors import Bert4AlbertError, CheckpointError, did_you_mean
from bert4albert.files import writing
from bert4albert.sharing import fewest_groups

if TYPE_CHECKING:
    from bert4albert.text import Tokenizer

GOOGLE_DIALECTS = {d.key: d for d in (GOOGLE_ALBERT, GOOGLE_BERT, EARLY_BRIGHTMART, EARLY_BRIGHTMART_UNSHARED)}
HF_DIALECTS = {d.key: d for d in (HF_ALBERT, HF_BERT, HF_ELECTRA)}

_GOOGLE_CONFIGS = ("bert_config.json", "albert_config.json")
_MAPPING = "embeddings/mapping"
_WORDS = "embeddings/word/embeddings"


@dataclass(frozen=True)
class Weights:
    """The weights of a model by canonical name.

    Attributes:
        config: the model's config.
        read: returns the array of a name of `weight_shapes(config)`.
        dtype: 'float32' or 'float64', in which all are written.
    """

    config: ModelConfig
    read: Callable[[str], np.ndarray]
    dtype: str = "float32"

    def changed(self, read: Callable[[str], np.ndarray], **changes: Any) -> Weights:
        """Return weights with another config, whose arrays `read` gives."""
        # The application decides who sees whom, never which weights there are.
        return Weights(self.config.replace(application="encoder", **changes), read, self.dtype)


def finite(weights: Weights) -> Weights:
    """Return weights that raise `CheckpointError`, naming the weight, where one that is read is NaN or infinite."""

    def read(name: str) -> np.ndarray:
        array = weights.read(name)
        require_finite(name, array)
        return array

    return dataclasses.replace(weights, read=read)


def require_finite(name: str, array: np.ndarray, error: type[Bert4AlbertError] = CheckpointError) -> None:
    """Raise an error that names a weight, about to be saved, with values that are NaN or infinite."""
    # NumPy itself knows no bfloat16, which is not of kind "f".
    wide = array if array.dtype.kind in "fiub" else array.astype(np.float32)
    if not all_finite(wide):
        raise error(
            f"The weight {name} holds NaN or infinite values, so nothing was saved: its training diverged. Go back to "
            "an earlier state, train with a lower learning rate, or pass allow_nonfinite=True to save it all the same."
        )


def google_dialect(config: ModelConfig, key: str | None = None) -> Dialect:
    """Return the dialect for `save_google_checkpoint`: the one asked for, or the model's own.

    A model with projected words keeps the early albert_zh names, which alone can say it; BERT has BERT's,
    everything else ALBERT's.
    """
    if key is not None:
        return _chosen(GOOGLE_DIALECTS, key)
    if config.projected_words:
        return EARLY_BRIGHTMART if config.num_blocks == 1 else EARLY_BRIGHTMART_UNSHARED
    return GOOGLE_BERT if config.family == "bert" and not config.embedding_mapping else GOOGLE_ALBERT


def hf_dialect(config: ModelConfig, key: str | None = None) -> Dialect:
    """Return the dialect for `save_hf`: the one asked for, else Bert for BERT and Albert for everything else."""
    if key is not None:
        return _chosen(HF_DIALECTS, key)
    return HF_BERT if config.family == "bert" and not config.embedding_mapping else HF_ALBERT


def expressed_in(weights: Weights, dialect: Dialect) -> Weights:
    """Return the same function in weights that a dialect can say.

    Arguments:
        weights: any model's weights.
        dialect: where they are to be written.

    Returns:
        Weights with a block for every group (or depth) that the dialect counts, with words folded where it
        does not project them, with or without an embedding mapping as it stores one. Raises `CheckpointError`
        naming the setting or the weight that it cannot say.
    """
    _check_settings(weights.config, dialect)
    if dialect is CANONICAL:
        return weights.changed(weights.read)
    weights = _grouped(merged(weights) if weights.config.has_adapters else weights, dialect)
    if weights.config.projected_words and not dialect.projects_words:
        weights = _folded(weights)
    if dialect.square_mapping is True and not weights.config.embedding_mapping:
        weights = _with_identity_mapping(weights)
    elif dialect.square_mapping is False and weights.config.embedding_mapping:
        weights = _without_square_mapping(weights, dialect)
    named = dialect.names(weights.config)
    unnamed = [weight for weight in weight_shapes(weights.config) if weight not in named]
    lacking = dialect.projects_words and not weights.config.projected_words
    if unnamed or lacking:
        what = ", ".join(unnamed) if unnamed else "words that are not projected"
        raise CheckpointError(
            f"{dialect.title} has no name for {what}; build the model without it, or save in another dialect."
        )
    return weights


def write_google(weights: Weights, prefix: Path, dialect: Dialect) -> None:
    """Write a TensorFlow checkpoint and its config, whole or not at all."""
    with writing(prefix.parent, checks=[refuse_neighbours], error=CheckpointError) as new:
        google_files(weights, new / prefix.name, dialect)


def write_hf(
    weights: Weights,
    folder: Path,
    dialect: Dialect,
    tokenizer: Tokenizer | None = None,
    head: TaskHead | None = None,
) -> None:
    """Write config.json, model.safetensors and the tokenizer, whole or not at all."""
    checks = [] if tokenizer is None else [tokenizer.check_target]
    with writing(folder, checks=checks, error=CheckpointError) as new:
        hf_files(weights, new, dialect, tokenizer, head)


def write_npz(weights: Weights, path: Path) -> None:
    """Write named arrays in this package's own names, and config.json beside them, whole or not at all."""
    with writing(path.parent, error=CheckpointError) as new:
        npz_files(weights, new / path.name)


def google_files(weights: Weights, prefix: Path, dialect: Dialect) -> None:
    """Write a TensorFlow checkpoint and its config into a folder of new files."""
    weights = expressed_in(weights, dialect)
    config = prefix.with_name(_GOOGLE_CONFIGS[dialect.family == "albert"])
    config.write_text(_json(google_config(weights.config, dialect)), encoding="utf-8")
    index, data = (prefix.with_name(f"{prefix.name}.{end}") for end in ("index", "data-00000-of-00001"))
    write_tf_bundle(index, data, *_stored(weights, dialect))


def hf_files(
    weights: Weights,
    folder: Path,
    dialect: Dialect,
    tokenizer: Tokenizer | None = None,
    head: TaskHead | None = None,
) -> None:
    """Write config.json, model.safetensors and the tokenizer into a folder of new files.

    Arguments:
        weights: the trunk's.
        folder: where to write.
        dialect: whose names to write them in.
        tokenizer: the model's tokenizer, if it is to be written too.
        head: the head of a task on it, in place of those of pretraining.
    """
    if head is not None:
        if head.reads_pooler and weights.config.with_pool != "tanh":
            raise CheckpointError(
                f"The pooler has with_pool={weights.config.with_pool!r}, and that of transformers is always a tanh; "
                "train the task on build_model(..., with_pool=True)."
            )
        pooler = "tanh" if head.reads_pooler else None
        weights = weights.changed(weights.read, with_pool=pooler, with_nsp=False, with_mlm=None, masked_positions=False)
    weights = expressed_in(weights, dialect)
    config = weights.config
    values = hf_config(config, dialect)
    shapes, dtype, read = _stored(weights, dialect)
    if head is not None:
        values |= head.config(dialect.family or "")
        shapes |= {name: array.shape for name, array in head.tensors.items()}
        read = _either(head.tensors, read)
    if tokenizer is not None:
        if tokenizer.vocab_size > config.vocab_size:
            raise CheckpointError(
                f"The tokenizer has {tokenizer.vocab_size} tokens and the model only {config.vocab_size}; "
                "pass the tokenizer that the model was trained with."
            )
        tokenizer.write_files(folder)
        longest = config.max_position_embeddings if head is None else head.maxlen
        tokenizer.write_hugging_face_files(folder, longest, keep_special=bool(config.with_mlm))
    write_safe_tensors(folder / "model.safetensors", shapes, dtype, read)
    (folder / "config.json").write_text(_json(values), encoding="utf-8")


def npz_files(weights: Weights, path: Path) -> None:
    """Write named arrays in this package's own names, and config.json, into a folder of new files."""
    weights = expressed_in(weights, CANONICAL)
    write_arrays(path, *_stored(weights, CANONICAL))
    path.with_name("config.json").write_text(_json(weights.config.to_dict()), encoding="utf-8")


def refuse_neighbours(new: Path, folder: Path) -> None:
    """Raise `CheckpointError` where new files would replace the config that another checkpoint in the folder needs."""
    others = sorted(path.name for path in folder.glob("*.index") if not (new / path.name).exists())
    for config in new.glob("*_config.json"):
        there = folder / config.name
        if not others or config.name not in _GOOGLE_CONFIGS or not there.is_file():
            continue
        if ModelConfig.from_dict(*read_config(there)) != ModelConfig.from_dict(*read_config(config)):
            raise CheckpointError(
                f"{there} belongs to {others[0]} and describes another model than the one to save; "
                "save to a folder of its own."
            )


def google_config(config: ModelConfig, dialect: Dialect) -> dict[str, Any]:
    """Return a config that Google's programs read, where "gelu" is the tanh approximation."""
    values = _common_config(config, dialect)
    if dialect.family == "albert":
        # Source: google-research/albert: the keys that its own configs have beside the sizes.
        values |= {"net_structure_type": 0, "gap_size": 0, "num_memory_blocks": 0, "down_scale_factor": 1}
    return values


def hf_config(config: ModelConfig, dialect: Dialect) -> dict[str, Any]:
    """Return a config.json that transformers reads."""
    heads = "ForPreTraining" if config.with_nsp else "ForMaskedLM" if config.with_mlm else "Model"
    assert dialect.family is not None
    return {
        "architectures": [f"{dialect.family.capitalize()}{heads}"],
        "model_type": dialect.family,
        **_common_config(config, dialect),
        "layer_norm_eps": config.layer_norm_eps,
        "pad_token_id": 0,
    }


def _common_config(config: ModelConfig, dialect: Dialect) -> dict[str, Any]:
    values: dict[str, Any] = {key: getattr(config, key) for key in SIZE_KEYS}
    values["hidden_act"] = dialect.activations[config.hidden_act]
    if dialect.family != "bert":
        values["embedding_size"] = config.embedding_size
    if dialect.family == "albert":
        values |= {"num_hidden_groups": config.num_hidden_groups, "inner_group_num": config.inner_group_num}
    remembered = {"keep_tokens": config.keep_tokens, "compound_tokens": config.compound_tokens}
    return values | {key: value for key, value in remembered.items() if value is not None}


def _stored(weights: Weights, dialect: Dialect) -> tuple[dict[str, Shape], str, Callable[[str], np.ndarray]]:
    """Return the names and shapes of a dialect's tensors, their dtype, and how to read one."""
    named = {stored.name: (weight, stored) for weight, stored in dialect.names(weights.config).items()}

    def read(name: str) -> np.ndarray:
        weight, stored = named[name]
        array = weights.read(weight)
        return array.T if stored.transposed else array

    return dialect.shapes(weights.config), weights.dtype, read


def merged(weights: Weights) -> Weights:
    """Return the same function with a block for each depth, into which what the depth adds has gone."""
    config = weights.config
    added = adapter_shapes(config)
    unshared = weights.changed(weights.read, sharing="unshared", depth_lora=None, depth_bias=False)
    sources = unshared.config.sharing.sources(config.sharing)

    def read(weight: str) -> np.ndarray:
        value = weights.read(in_copies(weight, sources)[0])
        place = in_block(weight)
        if place is None:
            return value
        depth, name = f"encoder/depth_{place[0]}", place[1]
        layer, _, kind = name.rpartition("/")
        if kind != "kernel":
            return value + weights.read(f"{depth}/{name}") if name in added else value
        if config.depth_lora is None or f"{layer}/lora_a" not in added:
            return value
        first, second = (weights.read(f"{depth}/{layer}/{factor}") for factor in ("lora_a", "lora_b"))
        return value + first @ second * (config.depth_lora.alpha / config.depth_lora.rank)

    return dataclasses.replace(unshared, read=read)


def _grouped(weights: Weights, dialect: Dialect) -> Weights:
    """Count blocks as the dialect does; a schedule that its groups cannot say gets a block for each depth."""
    config = weights.config
    layers, inner = config.num_hidden_layers, config.inner_group_num
    groups = layers if dialect.numbers_layers else fewest_groups(config.sharing, layers, inner)
    grouped = weights.changed(weights.read, sharing=None, num_hidden_groups=groups, family=dialect.family)
    if dialect is EARLY_BRIGHTMART and grouped.config.num_blocks > 1:
        raise CheckpointError(
            f"{dialect.title} shares one block between all layers, and this model has {config.num_blocks}; "
            f"use {EARLY_BRIGHTMART_UNSHARED.key!r}."
        )
    sources = grouped.config.sharing.sources(config.sharing)
    return dataclasses.replace(grouped, read=lambda weight: weights.read(in_copies(weight, sources)[0]))


def _folded(weights: Weights) -> Weights:
    """Multiply the word table by its projection, so that E = H; the tied masked-LM head follows by itself."""

    def read(weight: str) -> np.ndarray:
        if weight != _WORDS:
            return weights.read(weight)
        return weights.read(weight) @ weights.read("embeddings/projection/kernel")

    return weights.changed(read, projected_words=False, embedding_size=weights.config.hidden_size)


def _with_identity_mapping(weights: Weights) -> Weights:
    size = weights.config.hidden_size
    identity = {f"{_MAPPING}/kernel": np.eye(size), f"{_MAPPING}/bias": np.zeros(size)}
    return weights.changed(
        lambda weight: identity[weight] if weight in identity else weights.read(weight), embedding_mapping=True
    )


def _without_square_mapping(weights: Weights, dialect: Dialect) -> Weights:
    """Leave out a mapping that does nothing; one that does something cannot be said where E = H."""
    config = weights.config
    if config.embedding_size != config.hidden_size:
        return weights
    kernel, bias = weights.read(f"{_MAPPING}/kernel"), weights.read(f"{_MAPPING}/bias")
    if not np.array_equal(kernel, np.eye(len(kernel))) or np.any(bias):
        raise CheckpointError(
            f"{dialect.title} has no embedding mapping where embedding_size equals hidden_size "
            f"({config.hidden_size}), and this model has one that changes the embeddings; use save_hf(model, folder), "
            "whose ALBERT always has one."
        )
    return weights.changed(weights.read, embedding_mapping=False)


def _check_settings(config: ModelConfig, dialect: Dialect) -> None:
    """Refuse settings that the dialect's own program would read as something else."""
    if config.hidden_act not in dialect.activations:
        raise CheckpointError(
            f"{dialect.title} cannot say hidden_act={config.hidden_act!r}: its program knows "
            f"{', '.join(dialect.activations)}. {_other_remedy(dialect)}"
        )
    if dialect.layer_norm_eps is not None and config.layer_norm_eps != dialect.layer_norm_eps:
        raise CheckpointError(
            f"{dialect.title} cannot say layer_norm_eps={config.layer_norm_eps}: its program always takes "
            f"{dialect.layer_norm_eps}. {_other_remedy(dialect)}"
        )


def _other_remedy(dialect: Dialect) -> str:
    if dialect.key in GOOGLE_DIALECTS:
        return "Use save_hf(model, folder), whose config names it."
    return "Convert to npz, whose config names it."


def _chosen(dialects: Mapping[str, Dialect], key: str) -> Dialect:
    if key not in dialects:
        hint = did_you_mean(str(key), dialects)
        raise CheckpointError(f"dialect must be one of {', '.join(dialects)}, not {key!r:.80}.{hint}")
    return dialects[key]


def _json(values: Mapping[str, Any]) -> str:
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"


def _either(first: Mapping[str, np.ndarray], otherwise: Callable[[str], np.ndarray]) -> Callable[[str], np.ndarray]:
    return lambda name: first[name] if name in first else otherwise(name)
