"""save_google_checkpoint and save_hf: a model goes back to the tools that others use."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import keras

from bert4albert.checkpoint.export import finite, google_dialect, hf_dialect, write_google, write_hf
from bert4albert.weights import weights_of

if TYPE_CHECKING:
    from bert4albert.checkpoint.task_head import TaskHead
    from bert4albert.text import Tokenizer


@runtime_checkable
class HasHead(Protocol):
    """A task that stands on a trunk."""

    model: keras.Model
    tokenizer: Tokenizer

    def hugging_face_head(self) -> TaskHead | None:
        """Return the head as transformers has it, None for one of pretraining; `CheckpointError` for any other."""


def save_google_checkpoint(
    model: keras.Model,
    path: str | os.PathLike[str],
    dialect: str | None = None,
    *,
    allow_nonfinite: bool = False,
) -> None:
    """Write a TensorFlow checkpoint with Google's names, and its config beside it.

    Arguments:
        model: what `build_model` returned, or any model on top of it; the trunk and its pretraining heads
            are saved.
        path: the checkpoint's prefix, such as 'out/albert_model.ckpt'; `albert_config.json` or
            `bert_config.json` goes into the same folder.
        dialect: 'google_albert', 'google_bert', 'early_brightmart' or 'early_brightmart_unshared'; None for
            the model's own: BERT's names for BERT, the early albert_zh names for a model with projected
            words, else ALBERT's.
        allow_nonfinite: save weights that are NaN or infinite too, such as to look into them.

    An unshared ALBERT is written with a group for each layer; the words of early albert_zh are folded into
    one table where the dialect does not project them. The files are written all or none. Raises
    `CheckpointError` where Google's programs would compute something else (an erf gelu, another epsilon), a
    weight is not finite, or the files cannot be written.

    Examples:
        >>> from bert4albert import build_model, save_google_checkpoint
        >>> model = build_model("albert_tiny_zh")
        >>> save_google_checkpoint(model, "google/albert_model.ckpt")
        >>> again = build_model("google/albert_config.json", "google/albert_model.ckpt")
        >>> again.load_report.dialect
        'Google ALBERT'
    """
    weights = weights_of(model) if allow_nonfinite else finite(weights_of(model))
    write_google(weights, Path(path), google_dialect(weights.config, dialect))


def save_hf(
    model: keras.Model | HasHead,
    folder: str | os.PathLike[str],
    tokenizer: Tokenizer | None = None,
    dialect: str | None = None,
    *,
    allow_nonfinite: bool = False,
) -> None:
    """Write a folder that transformers and `build_model` read: config.json, model.safetensors, tokenizer.

    Arguments:
        model: what `build_model` returned, or any model on top of it, whose trunk and pretraining heads are saved;
            or a `TextClassifier` or a `Tagger`, which is saved with its head, labels and tokenizer, as
            `...ForSequenceClassification` or `...ForTokenClassification`.
        folder: where to write; made if it does not exist.
        tokenizer: the model's tokenizer, which is written too, also as a `tokenizer.json` with the same ids; by
            default that of a task.
        dialect: 'hf_albert', 'hf_bert' or 'hf_electra'; None for Bert's names for BERT and Albert's for
            everything else, which can say every model.
        allow_nonfinite: save weights that are NaN or infinite too, such as to look into them.

    An unshared ALBERT is written with a group for each layer, ELECTRA as an unshared ALBERT, and a model
    without an embedding mapping with one that does nothing. Raises `CheckpointError` where the dialect cannot
    say the model, a weight is not finite, or the files cannot be written. The set of files is written whole or not
    at all.

    Examples:
        >>> from bert4albert import build_model, save_hf
        >>> model = build_model("albert_tiny_zh", model="albert_unshared")
        >>> save_hf(model, "my_model")
        >>> print(build_model("my_model").config.sharing)
        4 block applications, each with a block of its own
    """
    head = None
    if isinstance(model, HasHead):
        head, tokenizer, model = model.hugging_face_head(), tokenizer or model.tokenizer, model.model
    weights = weights_of(model) if allow_nonfinite else finite(weights_of(model))
    write_hf(weights, Path(folder), hf_dialect(weights.config, dialect), tokenizer, head)
