"""TextClassifier: one or several labels for a text or a pair of texts."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from bert4albert.errors import ConfigError, DataError
from bert4albert.heads import FirstToken, MeanPooling
from bert4albert.model import Trunk
from bert4albert.tasks.data_files import read_json, read_table
from bert4albert.tasks.task import Task
from bert4albert.text import Tokenizer

POOLINGS = ("cls", "mean", "pooler")
_TEXT_KEYS = ("text", "sentence", "sentence1", "second_text", "sentence2")


def pooled_output(trunk: Trunk, pooling: str = "cls") -> keras.KerasTensor:
    """Return one vector a text, [batch, hidden_size], from a trunk.

    Arguments:
        trunk: a trunk from `build_model`.
        pooling: 'cls' for the hidden state of [CLS], 'mean' for the mean over the text, 'pooler' for the trunk's
            own pooler, which it must have been built with.

    Returns:
        A symbolic tensor to put layers on. Raises `ConfigError` for a pooling that does not fit.
    """
    hidden_states, dtype = trunk.hidden_states[-1], trunk.encoder.dtype_policy
    if pooling == "cls":
        return FirstToken(dtype=dtype, name="first_token")(hidden_states)
    if pooling == "mean":
        return MeanPooling(dtype=dtype, name="mean_pooling")(hidden_states, trunk.inputs[0])
    if pooling == "pooler":
        if not trunk.config.with_pool or trunk.config.with_nsp:
            raise ConfigError("pooling='pooler' needs the trunk's pooler as output: build_model(..., with_pool=True).")
        return trunk.outputs[0]
    raise ConfigError(f"pooling must be one of {', '.join(POOLINGS)}, not {pooling!r}.")


class TextClassifier(Task):
    """Give each text, or each pair of texts, one label or several.

    An example is `(text, label)`, `(text, second_text, label)`, or a dictionary with 'text' (or 'sentence'),
    perhaps 'second_text' (or 'sentence1' and 'sentence2'), and 'label'. A text is a string, or a pair of them.
    Labels are strings or integers; with `multi_label` an example's label is a list of them, perhaps empty.
    Files are tab-separated (text, perhaps second text, label; several labels separated by '|') or JSON lines (.json,
    .jsonl), compressed with gzip (.gz) or not.

    Arguments:
        backbone: a trunk from `build_model`.
        tokenizer: its `Tokenizer`.
        labels: the labels; by default those of the training set, sorted.
        multi_label: whether a text may have any number of labels.
        pooling: as in `pooled_output`; by default what the backbone's card recommends, else 'cls'.
        dropout: on the pooled vector, in training.
        class_weights: label -> weight in the loss, 1 where it is not named; 'balanced' for weights that let all
            labels weigh equally.
        threshold: the probability from which a label is given, with `multi_label`.
        maxlen: the most tokens of a text, or of a pair together.
    """

    def __init__(
        self,
        backbone: Trunk,
        tokenizer: Tokenizer,
        labels: Sequence[str | int] | None = None,
        *,
        multi_label: bool = False,
        pooling: str | None = None,
        dropout: float = 0.1,
        class_weights: Mapping[Any, float] | str | None = None,
        threshold: float = 0.5,
        maxlen: int = 128,
    ) -> None:
        super().__init__(backbone, tokenizer, maxlen=maxlen)
        self.labels: list[Any] = [] if labels is None else list(labels)
        self.multi_label = multi_label
        self.pooling = self.backbone.card.choose("pooling", pooling, "cls")
        self.dropout = dropout
        self.class_weights: Any = class_weights
        if class_weights is not None and not isinstance(class_weights, str):
            self.class_weights = dict(class_weights)
        self.threshold = threshold
        self.metric = "micro_f1" if multi_label else "accuracy"
        if len(set(self.labels)) < len(self.labels):
            raise ConfigError(f"labels names a label twice: {self.labels!r:.80}.")
        if self.pooling not in POOLINGS:
            raise ConfigError(f"pooling must be one of {', '.join(POOLINGS)}, not {pooling!r}.")
        if isinstance(class_weights, str) and class_weights != "balanced":
            raise ConfigError(f"class_weights must be 'balanced' or a weight for each label, not {class_weights!r}.")

    @property
    def loss(self) -> Any:
        """Cross-entropy on logits, over the labels or for each of them."""
        if self.multi_label:
            return _binary_crossentropy
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def settings(self) -> dict[str, Any]:
        """Return the constructor's keyword arguments as JSON values."""
        weights = self.class_weights
        return {
            **super().settings(),
            "labels": self.labels,
            "multi_label": self.multi_label,
            "pooling": self.pooling,
            "dropout": self.dropout,
            # Pairs, since JSON turns keys that are numbers into strings.
            "class_weights": [*weights.items()] if isinstance(weights, dict) else weights,
            "threshold": self.threshold,
        }

    def read_file(self, path: str | os.PathLike[str]) -> list[Any]:
        """Return the examples of a tab-separated file, or of one of JSON lines."""
        if any(suffix in (".json", ".jsonl") for suffix in Path(path).suffixes):
            return read_json(path)
        rows = read_table(path)
        for number, row in enumerate(rows, 1):
            if len(row) not in (2, 3):
                raise DataError(
                    f"{path}, row {number} has {len(row)} columns; expected text, label or two texts, label."
                )
        if not self.multi_label:
            return list(rows)
        return [(*row[:-1], [label for label in row[-1].split("|") if label]) for row in rows]

    def learn(self, examples: Sequence[Any]) -> None:
        """Take the labels from the training set, if none were given."""
        if not self.labels:
            found = {label for example in examples for label in self._labels_of(example)}
            self.labels = sorted(found, key=lambda label: (isinstance(label, str), label))

    def check(self, examples: Sequence[Any]) -> None:
        """Raise `DataError` for a label that the model does not have."""
        known = self._index()
        for number, example in enumerate(examples):
            for label in self._labels_of(example):
                if label not in known:
                    known_labels = ", ".join(map(repr, [*known][:10])) + (", ..." if len(known) > 10 else "")
                    raise DataError(
                        f"Example {number} has the label {label!r}, which is none of the {len(known)} labels "
                        f"of this classifier: {known_labels}."
                    )

    def build_model(self) -> keras.Model:
        """Return the trunk under a dense layer that gives logits [batch, labels]."""
        if not self.labels:
            raise ConfigError("The classifier has no labels yet: give labels=[...], or fit it first.")
        trunk = self.backbone
        # Logits in full precision, whatever the trunk computes in.
        dtype = trunk.encoder.variable_dtype
        pooled = keras.layers.Dropout(self.dropout, dtype=dtype, name="head_dropout")(
            pooled_output(trunk, self.pooling)
        )
        dense = keras.layers.Dense(len(self.labels), kernel_initializer=self.initializer(), dtype=dtype, name="logits")
        return keras.Model(trunk.inputs, dense(pooled))

    def text_of(self, example: Any) -> str | tuple[str, str]:
        """Return the text or the pair of texts of an example."""
        return _split(example)[0]

    def encode(self, texts: Sequence[Any]) -> tuple[list[list[int]], list[list[int]]]:
        """Return token ids and segment ids."""
        pairs = [not isinstance(text, str) for text in texts]
        if not any(pairs):
            return self.tokenizer.encode_many(texts, maxlen=self.maxlen)
        if not all(pairs):
            raise DataError(
                f"Text {pairs.index(False)} is one text, others are pairs: give pairs of texts or single ones."
            )
        first, second = zip(*texts, strict=True)
        return self.tokenizer.encode_many(first, second, maxlen=self.maxlen)

    def columns(self, examples: Sequence[Any], encoded: Any) -> tuple:
        """Return ids and label indices, or for several labels a 0 or 1 for each; then weights if there are any."""
        index = self._index()
        chosen = np.zeros((len(examples), len(index)), "float32")
        for row, example in zip(chosen, examples, strict=True):
            row[[index[label] for label in self._labels_of(example)]] = 1
        targets = chosen if self.multi_label else chosen.argmax(axis=1)
        if self.class_weights is None:
            return encoded, targets
        return encoded, targets, self._weights(chosen)

    def decode(self, encoded: Any, batch_size: int = 32) -> list[Any]:
        """Return the label of each text, or with `multi_label` the list of its labels."""
        probabilities = self._probabilities(encoded, batch_size)
        if not self.multi_label:
            return [self.labels[best] for best in probabilities.argmax(axis=1)]
        return [
            [label for label, p in zip(self.labels, row, strict=True) if p >= self.threshold] for row in probabilities
        ]

    def predict_proba(self, texts: Sequence[Any], batch_size: int = 32) -> np.ndarray:
        """Return the probability of each label of `labels` for each text, float32 [texts, labels]."""
        if not texts:
            return np.zeros((0, len(self.labels)), "float32")
        return self._probabilities(self.encode(texts), batch_size)

    def score(self, examples: Sequence[Any], answers: Sequence[Any]) -> dict[str, float]:
        """Return accuracy (all labels of a text right) and the F1 that suits: macro, and micro for several labels."""
        index = self._index()
        expected, given = np.zeros((2, len(examples), len(index)), bool)
        for row, (example, answer) in enumerate(zip(examples, answers, strict=True)):
            expected[row, [index[label] for label in self._labels_of(example)]] = True
            given[row, [index[label] for label in (answer if self.multi_label else [answer])]] = True
        right, wanted, found = (x.sum(axis=0) for x in (expected & given, expected, given))
        metrics = {"accuracy": float((expected == given).all(axis=1).mean())}
        # A label that is neither there nor given says nothing about the classifier.
        seen = wanted + found > 0
        metrics["macro_f1"] = float((2 * right[seen] / (wanted + found)[seen]).mean()) if seen.any() else 1.0
        if self.multi_label:
            metrics["micro_f1"] = float(2 * right.sum() / (wanted + found).sum()) if seen.any() else 1.0
        return metrics

    def _index(self) -> dict[Any, int]:
        return {label: index for index, label in enumerate(self.labels)}

    def _labels_of(self, example: Any) -> list[Any]:
        label = _split(example)[1]
        if self.multi_label != isinstance(label, list | tuple | set):
            expected = "a list of labels, since multi_label=True" if self.multi_label else "one label"
            raise DataError(f"An example has the label {label!r:.80}; expected {expected}.")
        return list(label) if self.multi_label else [label]

    def _probabilities(self, encoded: Any, batch_size: int) -> np.ndarray:
        logits = ops.convert_to_tensor(self.run(self.model, encoded, batch_size))
        return ops.convert_to_numpy(ops.sigmoid(logits) if self.multi_label else ops.softmax(logits))

    def _weights(self, chosen: np.ndarray) -> np.ndarray:
        """Return the weight of each example in the loss, or of each of its labels."""
        if self.class_weights == "balanced":
            # At least 1, for a label without examples.
            count, rest = np.maximum(chosen.sum(axis=0), 1), np.maximum((1 - chosen).sum(axis=0), 1)
            if self.multi_label:
                return len(chosen) / 2 * (chosen / count + (1 - chosen) / rest)
            weights = len(chosen) / (chosen.shape[1] * count)
        else:
            if unknown := set(self.class_weights) - set(self.labels):
                raise ConfigError(f"class_weights names {unknown!r:.80}, which are none of the labels.")
            weights = np.array([self.class_weights.get(label, 1.0) for label in self.labels])
        return np.broadcast_to(weights, chosen.shape) if self.multi_label else chosen @ weights


def _split(example: Any) -> tuple[Any, Any]:
    """Return an example's text, or pair of texts, and its label."""
    if isinstance(example, Mapping):
        texts = [example[key] for key in _TEXT_KEYS if key in example]
        parts = [*texts, example["label"]] if "label" in example else []
    else:
        parts = [] if isinstance(example, str) else list(example)
    if len(parts) not in (2, 3):
        raise DataError(
            f"An example must be (text, label), (text, second text, label) or a dictionary with 'text' and 'label', "
            f"not {example!r:.80}."
        )
    return (parts[0] if len(parts) == 2 else tuple(parts[:2])), parts[-1]


def _binary_crossentropy(targets: Any, logits: Any) -> Any:
    """Return the loss of each label, [batch, labels]."""
    return ops.binary_crossentropy(ops.cast(targets, logits.dtype), logits, from_logits=True)
