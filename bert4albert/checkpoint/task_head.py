"""The head of a classifier or tagger in a Hugging Face folder: one dense layer, and the labels in the config."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bert4albert.checkpoint.resolve import Source, heads_in
from bert4albert.errors import CheckpointError

SEQUENCE, TOKEN = "ForSequenceClassification", "ForTokenClassification"
_TENSORS = ("classifier.weight", "classifier.bias")
# What transformers calls the dropout on the head's input.
_DROPOUT_KEYS = {"albert": "classifier_dropout_prob", "bert": "classifier_dropout"}


@dataclass(frozen=True)
class TaskHead:
    """A dense layer on each token or on the pooler.

    Attributes:
        kind: `SEQUENCE` or `TOKEN`.
        labels: what each output stands for, in their order.
        kernel, bias: [hidden_size, labels] and [labels].
        problem: what `transformers` calls the loss, such as 'multi_label_classification'; None for its own choice.
        dropout: on the layer's input, in training.
        maxlen: the most tokens of a text.
    """

    kind: str
    labels: Sequence[Any]
    kernel: np.ndarray
    bias: np.ndarray
    problem: str | None = None
    dropout: float = 0.1
    maxlen: int = 512

    @property
    def reads_pooler(self) -> bool:
        """Whether the head stands on the pooler."""
        return self.kind == SEQUENCE

    @property
    def tensors(self) -> dict[str, np.ndarray]:
        """The tensors of the file."""
        return {_TENSORS[0]: self.kernel.T, _TENSORS[1]: self.bias}

    def config(self, family: str) -> dict[str, Any]:
        """Return the keys of `config.json` that tell of the head."""
        if family not in _DROPOUT_KEYS:
            raise CheckpointError(
                f"transformers has no {family} classifier with this head; leave dialect=... out, to save as Albert."
            )
        labels = [str(label) for label in self.labels]
        return {
            "architectures": [f"{family.capitalize()}{self.kind}"],
            "id2label": {str(index): label for index, label in enumerate(labels)},
            "label2id": {label: index for index, label in enumerate(labels)},
            _DROPOUT_KEYS[family]: self.dropout,
            **({} if self.problem is None else {"problem_type": self.problem}),
        }


def read_head(source: Source, kind: str, maxlen: int) -> TaskHead:
    """Return the head of a folder.

    Arguments:
        source: the open folder, all its tensors in sight.
        kind: the kind that is wanted, `SEQUENCE` or `TOKEN`.
        maxlen: the most tokens of a text.

    Returns:
        The head. Raises `CheckpointError` where there is none, another or more than one.
    """
    file, values = source.file, source.values
    assert file is not None
    others = [head.removeprefix("with_") for head, there in heads_in(source).items() if there and head != "with_pool"]
    missing = [name for name in _TENSORS if name not in file.tensors]
    if missing or others:
        found = ", ".join(others) or "none"
        what = "has no classifier" if missing else f"has more than one head: a classifier and {found}"
        raise CheckpointError(
            f"{file.path} {what}, and one is needed (heads of pretraining found: {found}); "
            "give a folder whose architecture is ForSequenceClassification or ForTokenClassification."
        )
    _check_kind(source, kind)
    kernel, bias = (file.read(name) for name in _TENSORS)
    if kernel.ndim != 2 or bias.shape != kernel.shape[:1]:
        raise CheckpointError(
            f"{file.path}: classifier.weight has shape {kernel.shape} and classifier.bias {bias.shape}; expected "
            "[labels, hidden_size] and [labels]."
        )
    dropout = next((values[key] for key in _DROPOUT_KEYS.values() if values.get(key) is not None), 0.1)
    labels = _labels_of(source, len(bias))
    return TaskHead(kind, labels, kernel.T, bias, values.get("problem_type"), float(dropout), maxlen)


def _check_kind(source: Source, kind: str) -> None:
    """Both kinds have tensors of the same names; the config says which it is, else the pooler does."""
    named = " ".join(map(str, source.values.get("architectures") or []))
    pooled = bool(heads_in(source)["with_pool"])
    found = SEQUENCE if SEQUENCE in named else TOKEN if TOKEN in named else SEQUENCE if pooled else TOKEN
    if found != kind:
        other = "Tagger" if found == TOKEN else "TextClassifier"
        raise CheckpointError(f"{source.name} is {found}, expected {kind}: use {other}.from_hf(folder).")


def _labels_of(source: Source, count: int) -> list[str]:
    named = source.values.get("id2label") or {str(index): f"LABEL_{index}" for index in range(count)}
    try:
        labels = [str(named[str(index)]) for index in range(count)]
    except (KeyError, TypeError):
        raise CheckpointError(
            f"{source.name} names the labels {named!r:.80}, but the classifier has {count}: each needs a name."
        ) from None
    if len(named) != count or len(set(labels)) != count:
        raise CheckpointError(
            f"{source.name} has {len(named)} labels ({len(set(labels))} different ones) in id2label, and the "
            f"classifier {count}: mend the config."
        )
    return labels
