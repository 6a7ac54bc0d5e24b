"""`build_transformer_model`, and the classes that its `model` argument names."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from typing import Any

import keras
from keras.models import Model

from bert4albert.bert4keras.backend import K
from bert4albert.bert4keras.layers import *  # noqa: F403  (scripts import layers from here too)
from bert4albert.bert4keras.transformer import ALBERT, BERT, NOT_OFFERED, ALBERT_Unshared
from bert4albert.config import known_keys
from bert4albert.errors import ConfigError, did_you_mean, require_choice

__all__ = [
    "ALBERT",
    "BERT",
    "ALBERT_Unshared",
    "K",
    "Model",
    "build_transformer_model",
    "extend_with_language_model",
    "extend_with_unified_language_model",
    "keras",
]

MODELS: Mapping[str, type[BERT]] = {
    "albert": ALBERT,
    "albert_unshared": ALBERT_Unshared,
    "bert": BERT,
    "roberta": BERT,
}
_ELSEWHERE = {
    "electra": "bert4albert.build_model, which reads ELECTRA",
    "gpt": "transformers or keras-hub",
    "gpt2": "transformers or keras-hub",
    "gpt2_ml": "bert4keras itself",
    "mt5": "transformers",
    "nezha": "transformers before version 4.45",
    "roformer": "transformers",
    "roformer_v2": "bert4keras itself",
    "t5": "transformers or keras-hub",
}


def build_transformer_model(
    config_path: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    checkpoint_path: Any = None,
    model: str | type[BERT] = "bert",
    application: str = "encoder",
    return_keras_model: bool = True,
    **kwargs: Any,
) -> Any:
    """Build a model from a config, and load a checkpoint.

    Arguments:
        config_path: path of the config; None to give all its keys by name.
        checkpoint_path: where the weights are; None for random ones.
        model: 'bert', 'roberta' (the same), 'albert', 'albert_unshared'; or a class of one's own, made from `BERT`.
        application: 'encoder', 'lm' or 'unilm'.
        return_keras_model: whether to return the Keras model, or the `BERT` with the model as its `model`.
        kwargs: `with_pool`, `with_nsp`, `with_mlm`, `keep_tokens`, `compound_tokens`, `hierarchical_position`,
            `custom_position_ids`, `sequence_length`, `segment_vocab_size` (0: no segment input), `prefix`, `name`,
            `layers`, `layer_norm_cond`, `layer_norm_cond_hidden_size`, `layer_norm_cond_hidden_act`,
            `additional_input_layers`, `dropout_rate`, `attention_dropout_rate`, and the keys of configs.

    Returns:
        A `keras.Model`, or a `BERT`. "gelu" in the config means what `set_gelu` says. Raises `ConfigError` or
        `CheckpointError`.
    """
    kind = _class_of(model)
    application = application.lower()
    require_choice("application", application, ("encoder", "lm", "unilm"))
    if application == "lm":
        kind = extend_with_language_model(kind)
    elif application == "unilm":
        kind = extend_with_unified_language_model(kind)
    if isinstance(model, str):
        _refuse_unknown(kwargs)
    transformer = kind(config=config_path, checkpoint=checkpoint_path, **kwargs)
    transformer.build(**kwargs)
    return transformer.model if return_keras_model else transformer


def extend_with_language_model(BaseModel: type[BERT]) -> type[BERT]:  # noqa: N803  (its name in bert4keras)
    """Return a class like `BaseModel` whose positions see only those before them."""
    return type("LanguageModel", (BaseModel,), {"application": "lm"})


def extend_with_unified_language_model(BaseModel: type[BERT]) -> type[BERT]:  # noqa: N803
    """Return a class like `BaseModel` for sequence to sequence, segment 0 to segment 1 (arXiv:1905.03197)."""
    return type("UnifiedLanguageModel", (BaseModel,), {"application": "unilm"})


def _class_of(model: str | type[BERT]) -> type[BERT]:
    if not isinstance(model, str):
        return model
    name = model.lower()
    if name in MODELS:
        return MODELS[name]
    family = next((other for other in sorted(_ELSEWHERE, reverse=True) if name.startswith(other)), None)
    if family is not None:
        raise ConfigError(f"model={model!r} is not built here, only {', '.join(MODELS)}; use {_ELSEWHERE[family]}.")
    raise ConfigError(f"There is no model {model!r}; use {', '.join(MODELS)}.{did_you_mean(name, MODELS)}")


def _refuse_unknown(arguments: Mapping[str, Any]) -> None:
    own = [*inspect.signature(BERT.__init__).parameters, *inspect.signature(BERT.build).parameters]
    known = [*own, *known_keys(), *NOT_OFFERED]
    for key in arguments:
        if key not in known:
            raise ConfigError(f"build_transformer_model has no argument {key!r}.{did_you_mean(key, known)}")
