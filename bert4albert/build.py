"""build_model: a config, a checkpoint and one word about sharing become a Keras model."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping, Sequence
from typing import Any

from bert4albert.checkpoint import open_checkpoint
from bert4albert.checkpoint.dialects import Dialect, detect_dialect
from bert4albert.checkpoint.files import TensorFile
from bert4albert.checkpoint.load import plan_loading
from bert4albert.checkpoint.vocabulary import VocabularyRows
from bert4albert.config import ModelConfig, did_you_mean, guess_family, known_keys, read_config
from bert4albert.errors import CheckpointError, ConfigError
from bert4albert.model import Trunk

MODELS = ("albert", "albert_unshared", "bert")


def build_model(
    config: str | os.PathLike[str] | Mapping[str, Any],
    checkpoint: str | os.PathLike[str] | None = None,
    model: str | None = None,
    *,
    application: str = "encoder",
    with_pool: bool | str = False,
    with_nsp: bool = False,
    with_mlm: bool | str = False,
    masked_positions: bool = False,
    keep_tokens: Sequence[int] | None = None,
    compound_tokens: Sequence[Any] | None = None,
    hierarchical_position: bool | float = False,
    custom_position_ids: bool = False,
    dropout_rate: float | None = None,
    sharing: str | Sequence[int] | None = None,
    strict: bool = True,
    fresh_heads: bool = False,
    dtype: Any = None,
    name: str | None = None,
    **overrides: Any,
) -> Trunk:
    """Build an ALBERT or BERT and load its weights.

    Arguments:
        config: path of the model's JSON config, or a dict.
        checkpoint: prefix of a TensorFlow checkpoint; None for random weights.
        model: 'albert' (blocks shared as in the config), 'albert_unshared' (a block for each depth, all
            starting from the checkpoint's), 'bert'; None: what the checkpoint's names, else the config, say.
        application: 'encoder', 'lm' (each position sees those before it) or 'unilm' (segment 1 sees those
            before it, segment 0 sees all of itself); the last two imply the masked-LM head.
        with_pool: add the pooler; True for tanh, or an activation's name.
        with_nsp: add the sentence-order (ALBERT) or next-sentence (BERT) head, on the pooler.
        with_mlm: add the masked-LM head; True for softmax, or an activation's name such as 'linear'.
        masked_positions: add an input [batch, count]; the masked-LM head then computes only these positions.
        keep_tokens: old ids of the words to keep, in their new order.
        compound_tokens: words to append, each a list of new ids (or a pair ids, weights) to average.
        hierarchical_position: True (alpha 0.4) or alpha: cover positions**2 positions.
        custom_position_ids: add an input [batch, length] of position ids.
        dropout_rate: dropout after embeddings and layers, in place of the config's; `attention_dropout_rate`
            replaces the one on attention weights.
        sharing: 'shared', 'unshared', or the block used at each depth, as a list.
        strict: raise for anything missing, unexpected or mis-shaped; False leaves it in `load_report`.
        fresh_heads: let heads that the checkpoint lacks start at random.
        dtype: a dtype policy such as 'mixed_bfloat16'; None for Keras' global one.
        name: the model's name.
        overrides: config keys to replace, such as `num_hidden_layers=4` or `hidden_act='gelu_erf'`.

    Returns:
        A functional `keras.Model` on `[token_ids, segment_ids]` (and the inputs asked for), whose output is
        the sequence [batch, length, hidden_size], the head asked for, or `[pool or nsp, mlm]`. `load_report`
        says where each weight came from. Raises `ConfigError` or `CheckpointError`.
    """
    _refuse_unknown(overrides)
    values, source = read_config(config)
    file = None if checkpoint is None else open_checkpoint(checkpoint)
    dialect = None if file is None else detect_dialect(file.tensors, file.path)
    rows = _vocabulary(values, overrides, keep_tokens, compound_tokens, source)
    model_config = ModelConfig.from_dict(
        values,
        source,
        **_settings_of(model, sharing, dialect, file, values),
        application=application,
        with_pool=with_pool,
        with_nsp=with_nsp,
        with_mlm=with_mlm,
        masked_positions=masked_positions,
        hierarchical_position=hierarchical_position or None,
        custom_position_ids=custom_position_ids,
        hidden_dropout_prob=dropout_rate,
        **{
            **overrides,
            "vocab_size": rows.size,
            "keep_tokens": keep_tokens,
            "compound_tokens": compound_tokens,
        },
    )
    if file is None or dialect is None:
        return Trunk(model_config, dtype=dtype, name=name)
    plan = plan_loading(file, dialect, model_config, rows, fresh_heads)
    if strict:
        plan.check()
    trunk = Trunk(model_config, dtype=dtype, name=name)
    trunk.load_report = plan.fill(dict(trunk.named_weights()))
    return trunk


def _refuse_unknown(overrides: Mapping[str, Any]) -> None:
    arguments = [p for p in inspect.signature(build_model).parameters if p != "overrides"]
    for key in overrides:
        if key not in known_keys():
            hint = did_you_mean(key, [*arguments, *known_keys()])
            raise ConfigError(f"build_model has no argument {key!r} and configs have no such key.{hint}")


def _settings_of(
    model: str | None,
    sharing: Any,
    dialect: Dialect | None,
    file: TensorFile | None,
    values: Mapping[str, Any],
) -> dict[str, Any]:
    """What the choice of model and the file's names decide in the config."""
    if model is not None and model not in MODELS:
        hint = did_you_mean(str(model), MODELS)
        raise ConfigError(f"model must be one of {', '.join(MODELS)}, not {model!r}.{hint}")
    if model == "albert_unshared" and sharing not in (None, "unshared"):
        raise ConfigError("model='albert_unshared' and sharing=... say two things; pass model='albert' with sharing.")
    settings: dict[str, Any] = {"sharing": "unshared" if model == "albert_unshared" else sharing}
    asked = None if model is None else model.removesuffix("_unshared")
    if dialect is None or file is None:
        return settings | {"family": asked or values.get("family") or guess_family(values)}
    _refuse_other_family(asked, model, dialect, file)
    mapping = dialect.stored_as("embeddings/mapping/bias")
    return settings | {
        "family": dialect.family,
        "projected_words": dialect.projects_words,
        "embedding_mapping": not dialect.projects_words and mapping is not None and mapping.name in file.tensors,
    }


def _refuse_other_family(asked: str | None, model: str | None, dialect: Dialect, file: TensorFile) -> None:
    if asked is None or (asked == "albert") == (dialect.family == "albert"):
        return
    found = dialect.found_in(file.tensors)
    family, remedy = ("ALBERT", "'albert' or 'albert_unshared'") if dialect.family == "albert" else ("BERT", "'bert'")
    raise CheckpointError(
        f"{file.path} is {family} (found {found}). You asked for model={model!r}. Use model={remedy}."
    )


def _vocabulary(
    values: Mapping[str, Any],
    overrides: Mapping[str, Any],
    keep_tokens: Sequence[int] | None,
    compound_tokens: Sequence[Any] | None,
    source: str,
) -> VocabularyRows:
    """How the model's rows follow from the file's; a config that remembers a reduction is reduced already."""
    size = overrides.get("vocab_size", values.get("vocab_size"))
    if isinstance(size, bool) or not isinstance(size, int):
        raise ConfigError(f"vocab_size must be a whole number; {source} gives {size!r}.")
    asked = {"keep_tokens": keep_tokens, "compound_tokens": compound_tokens}
    remembered = {key: values[key] for key in asked if values.get(key) is not None}
    if not remembered:
        return VocabularyRows(size, keep_tokens, compound_tokens)
    for key, value in asked.items():
        if value is not None and list(value) != remembered.get(key):
            raise ConfigError(f"{source} was saved with another {key}, already applied; leave {key} out.")
    return VocabularyRows(size)
