"""Classifiers and taggers to and from folders of transformers; what their methods of these names do."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypeVar

from bert4albert.checkpoint.task_head import SEQUENCE, TOKEN, TaskHead
from bert4albert.errors import CheckpointError
from bert4albert.from_hugging_face import read_folder
from bert4albert.text.spans import split_tag

if TYPE_CHECKING:
    from bert4albert.tasks.classification import TextClassifier
    from bert4albert.tasks.tagging import Tagger

AnyClassifier = TypeVar("AnyClassifier", bound="TextClassifier")
AnyTagger = TypeVar("AnyTagger", bound="Tagger")

_SEVERAL, _NUMBER = "multi_label_classification", "regression"


def classifier_from_hf(kind: type[AnyClassifier], folder: str | os.PathLike[str], maxlen: int) -> AnyClassifier:
    """Return the classifier in a folder; see `TextClassifier.from_hf`."""
    trunk, tokenizer, head = read_folder(folder, SEQUENCE, maxlen)
    regression = head.problem == _NUMBER or (head.problem is None and len(head.labels) == 1)
    task = kind(
        trunk,
        tokenizer,
        None if regression else head.labels,
        multi_label=head.problem == _SEVERAL,
        regression=regression,
        pooling="pooler",
        dropout=head.dropout,
        maxlen=head.maxlen,
    )
    task.model.get_layer("logits").set_weights([head.kernel, head.bias])
    return task


def classifier_head(task: TextClassifier) -> TaskHead:
    """Return the head as `save_hf` writes it. Raises `CheckpointError` for one that cannot leave."""
    if task.pooling != "pooler" or task.exits:
        what = "exits=True" if task.exits else f"pooling={task.pooling!r}"
        raise CheckpointError(
            f"A classifier with {what} cannot leave: ForSequenceClassification of transformers has one classifier, on "
            "the pooler. Train it with build_model(..., with_pool=True), pooling='pooler' and without exits."
        )
    kernel, bias = task.model.get_layer("logits").get_weights()
    problem = _NUMBER if task.regression else _SEVERAL if task.multi_label else None
    return TaskHead(SEQUENCE, task.labels or ["LABEL_0"], kernel, bias, problem, task.dropout, task.maxlen)


def tagger_from_hf(kind: type[AnyTagger], folder: str | os.PathLike[str], maxlen: int) -> AnyTagger:
    """Return the tagger in a folder; see `Tagger.from_hf`."""
    trunk, tokenizer, head = read_folder(folder, TOKEN, maxlen)
    labels = dict.fromkeys(label for prefix, label in map(split_tag, head.labels) if prefix != "O")
    task = kind(
        trunk,
        tokenizer,
        [*labels],
        method="softmax",
        tags=head.labels,
        dropout=head.dropout,
        maxlen=head.maxlen,
    )
    task.model.get_layer("logits").set_weights([head.kernel, head.bias])
    return task


def tagger_head(task: Tagger) -> TaskHead:
    """Return the head as `save_hf` writes it. Raises `CheckpointError` for a method that cannot leave."""
    if task.method != "softmax":
        raise CheckpointError(
            f"A tagger with method={task.method!r} cannot leave: ForTokenClassification of transformers has a tag for "
            "each token and nothing more. Train it with method='softmax'."
        )
    kernel, bias = task.model.get_layer("logits").get_weights()
    return TaskHead(TOKEN, task.all_tags, kernel, bias, None, task.dropout, task.maxlen)
