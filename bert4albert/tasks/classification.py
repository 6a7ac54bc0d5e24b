"""TextClassifier: one or several labels for a text or a pair of texts."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any, Self

import keras
import numpy as np
from keras import ops

from bert4albert.checkpoint.task_head import TaskHead
from bert4albert.errors import ConfigError, DataError, require_choice
from bert4albert.heads import ExitHeads
from bert4albert.model import Trunk
from bert4albert.tasks.data_files import json_cell
from bert4albert.tasks.early_exit import EarlyExit, check_confidence, draw_exits
from bert4albert.tasks.example import Columns, Data, Example, Fields, checked_text, plain
from bert4albert.tasks.hugging_face_tasks import classifier_from_hf, classifier_head
from bert4albert.tasks.labels import are_numbers, in_order, label_of, number_of, soft_label_of
from bert4albert.tasks.losses import LOSSES, LOSSES_OF_EXITS
from bert4albert.tasks.metrics import label_metrics, pearson, spearman
from bert4albert.tasks.pooled import POOLINGS, pooled_output, pooler
from bert4albert.tasks.task import Task
from bert4albert.text import Tokenizer


class TextClassifier(Task):
    """Give each text, or each pair of texts, one label or several, or a number.

    An example is `(text, label)`, `(text, second_text, label)`, or a row with 'text' (or 'sentence'), perhaps
    'second_text' (or 'sentence1' and 'sentence2'), 'label', and perhaps 'weight'. A text is a string, or a pair of
    them. Labels are strings or integers; with `multi_label` an example's label is a list of them, perhaps empty. A
    label may also be soft: a probability for each of them, as a dictionary, or as a list in the order of `labels`.
    Tab-separated files without a header hold text, perhaps second text, label; several labels are separated by '|'.

    Arguments:
        backbone: a trunk from `build_model`.
        tokenizer: its `Tokenizer`.
        labels: the labels; by default those of the training set, sorted.
        multi_label: whether a text may have any number of labels.
        regression: whether labels are numbers to be estimated: similarities, ratings.
        pooling: as in `pooled_output`; by default what the backbone's card recommends, else 'cls'.
        dropout: on the pooled vector, in training.
        class_weights: label -> weight in the loss, 1 where it is not named; 'balanced' for weights that let all
            labels weigh equally.
        exits: whether to train a classifier on every depth, so that `predict(texts, confidence=0.8)` lets each text
            leave at the first depth that is so sure of its label (arXiv:2006.04152).
        threshold: the probability from which a label is given, with `multi_label`.
        maxlen: the most tokens of a text, or of a pair together.

    Examples:
        >>> from bert4albert import Tokenizer, build_model
        >>> from bert4albert.tasks import TextClassifier
        >>> backbone, tokenizer = build_model("albert_tiny_zh"), Tokenizer("albert_tiny_zh")
        >>> classifier = TextClassifier(backbone, tokenizer, maxlen=32)
        >>> train = [("房间干净，很满意", "good"), ("又吵又脏", "bad")]
        >>> history = classifier.fit(train, epochs=2, batch_size=2, verbose=0)
        >>> classifier.labels
        ['bad', 'good']
        >>> classifier.predict_proba(["很满意", "太吵"]).shape
        (2, 2)
    """

    fields = Fields(
        {"text": ("text", "sentence", "sentence1"), "second_text": ("second_text", "sentence2")},
        "label",
        "An example must be (text, label), (text, second text, label) or a dictionary with 'text' and 'label'.",
        {2: ("text", "label"), 3: ("text", "second_text", "label")},
    )

    def __init__(
        self,
        backbone: Trunk,
        tokenizer: Tokenizer,
        labels: Sequence[str | int] | None = None,
        *,
        multi_label: bool = False,
        regression: bool = False,
        pooling: str | None = None,
        dropout: float = 0.1,
        class_weights: Mapping[Any, float] | str | None = None,
        exits: bool = False,
        threshold: float = 0.5,
        maxlen: int = 128,
    ) -> None:
        super().__init__(backbone, tokenizer, maxlen=maxlen)
        self.labels: list[Any] = [] if labels is None else [label_of(plain(label), "labels") for label in labels]
        self.multi_label = multi_label
        self.regression = regression
        self.pooling = self.backbone.card.choose("pooling", pooling, "cls")
        self.dropout = dropout
        self.class_weights: Any = class_weights
        if class_weights is not None and not isinstance(class_weights, str):
            self.class_weights = {plain(label): float(weight) for label, weight in dict(class_weights).items()}
        self.exits = exits
        self.threshold = threshold
        self.metric = "pearson" if regression else "micro_f1" if multi_label else "accuracy"
        self._mean = 0.0
        if len(set(self.labels)) < len(self.labels):
            raise ConfigError(f"labels names a label twice: {self.labels!r:.80}.")
        require_choice("pooling", self.pooling, POOLINGS)
        if isinstance(class_weights, str) and class_weights != "balanced":
            raise ConfigError(f"class_weights must be 'balanced' or a weight for each label, not {class_weights!r}.")
        if regression and (self.labels or multi_label or class_weights is not None):
            raise ConfigError("regression=True estimates a number: leave labels, multi_label and class_weights out.")

    @property
    def loss(self) -> Any:
        """Cross-entropy on logits, over the labels or for each of them; the squared error of a number."""
        kind = 2 if self.regression else 1 if self.multi_label else 0
        return (LOSSES_OF_EXITS if self.exits else LOSSES)[kind]

    def settings(self) -> dict[str, Any]:
        """Return the constructor's keyword arguments as JSON values."""
        weights = self.class_weights
        return {
            **super().settings(),
            "labels": self.labels or None,
            "multi_label": self.multi_label,
            "regression": self.regression,
            "pooling": self.pooling,
            "dropout": self.dropout,
            # Pairs, since JSON turns keys that are numbers into strings.
            "class_weights": [*weights.items()] if isinstance(weights, dict) else weights,
            "exits": self.exits,
            "threshold": self.threshold,
        }

    def cell(self, part: str, text: str, place: str) -> Any:
        """Return the labels between bars, the number, or the probabilities that a cell of a file holds."""
        if part != "label":
            return text
        if text.startswith("{"):
            return json_cell(text, place)
        return [label for label in text.split("|") if label] if self.multi_label else text

    def text(self, value: Any, place: str = "The text") -> str | tuple[str, str]:
        """Return the text or the pair of texts of a string, a pair, or a row that has names."""
        if isinstance(value, Example):
            return value.text
        value = plain(value)
        parts = self.fields.texts(value) if isinstance(value, Mapping) else value
        if isinstance(parts, list | tuple) and len(parts) == 2:
            return checked_text(parts[0], place, "first text"), checked_text(parts[1], place, "second text")
        single = isinstance(parts, list | tuple) and len(parts) == 1 and isinstance(value, Mapping)
        return checked_text(parts[0] if single else value, place)

    def example(self, value: Any, place: str = "The example") -> Example:
        """Return the example of (text, label), (text, second text, label) or a row that has names."""
        value = plain(value)
        if isinstance(value, list | tuple) and len(value) == 3 and not isinstance(value, Example):
            value = value[:2], value[2]
        return super().example(value, place)

    def answer(self, value: Any, text: Any, place: str) -> Any:
        """Return the label, the tuple of labels, the dictionary of a soft label, or the number."""
        if self.regression:
            return number_of(value, place)
        if self.multi_label:
            if not isinstance(value, list | tuple | set | frozenset):
                raise DataError(
                    f"{place} has the label {value!r:.80}; expected a list of labels, since multi_label=True."
                )
            return tuple(label_of(plain(label), place) for label in value)
        if isinstance(value, Mapping) or (are_numbers(value) and value):
            return soft_label_of(value, self.labels, place)
        if isinstance(value, list | tuple | set | frozenset):
            raise DataError(f"{place} has the label {value!r:.80}; expected one label.")
        return label_of(value, place)

    def learn(self, examples: Sequence[Any]) -> None:
        """Take the labels from the training set, if none were given; of numbers their mean."""
        answers = [example.answer for example in map(self.example, examples)]
        if self.regression:
            self._mean = float(np.mean(answers))
        elif not self.labels:
            self.labels = in_order({label for answer in answers for label in self._labels_of(answer)})

    def check(self, examples: Sequence[Any]) -> None:
        """Raise `DataError` for a label that the model does not have."""
        known = self._index()
        for example in () if self.regression else map(self.example, examples):
            for label in self._labels_of(example.answer):
                if label not in known:
                    known_labels = ", ".join(map(repr, [*known][:10])) + (", ..." if len(known) > 10 else "")
                    raise DataError(
                        f"{example.place} has the label {label!r}, which is none of the {len(known)} labels "
                        f"of this classifier: {known_labels}."
                    )

    def build_model(self) -> keras.Model:
        """Return the trunk under a dense layer that gives logits [batch, labels], or numbers [batch, 1].

        With `exits` it gives those of every depth, [batch, depth, ...].
        """
        if not self.labels and not self.regression:
            raise ConfigError("The classifier has no labels yet: give labels=[...], or fit it first.")
        trunk = self.backbone
        # Logits in full precision, whatever the trunk computes in.
        dtype = trunk.encoder.variable_dtype
        dropout = keras.layers.Dropout(self.dropout, dtype=dtype, name="head_dropout")
        units = 1 if self.regression else len(self.labels)
        options = {
            "kernel_initializer": self.initializer(),
            # Small learning rates would take long to the mean, which needs no learning.
            "bias_initializer": keras.initializers.Constant(self._mean),
            "dtype": dtype,
        }
        if not self.exits:
            dense = keras.layers.Dense(units, name="logits", **options)
            return keras.Model(trunk.inputs, dense(dropout(pooled_output(trunk, self.pooling))))
        pool = pooler(trunk, self.pooling)
        vectors = [dropout(pool(hidden_states)) for hidden_states in trunk.hidden_states]
        return keras.Model(trunk.inputs, ExitHeads(units, len(vectors), name="exits", **options)(vectors))

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

    def columns(self, examples: Sequence[Any], encoded: Any) -> tuple[Any, ...]:
        """Return ids and label indices, numbers, or a 0 or 1 (soft: a part) for each label; then weights if any."""
        answers = [example.answer for example in map(self.example, examples)]
        if self.regression:
            return encoded, np.array(answers, "float32")
        chosen = self._chosen(answers)
        soft = self.multi_label or any(isinstance(answer, dict) for answer in answers)
        targets = chosen if soft else chosen.argmax(axis=1)
        if self.class_weights is None:
            return encoded, targets
        return encoded, targets, self._weights(chosen)

    def decode(self, encoded: Any, batch_size: int = 32, confidence: float | None = None) -> list[Any]:
        """Return the label of each text; with `multi_label` the list of its labels, with `regression` its number.

        Arguments:
            encoded: the texts.
            batch_size: texts a batch.
            confidence: with `exits`, the probability of its label from which a text leaves, above 0 and up to 1;
                None for the whole depth.
        """
        if self.regression and confidence is None:
            return self._outputs(encoded, batch_size)[:, 0].astype("float64").tolist()
        return self._named(self._probabilities(encoded, batch_size, confidence))

    def predict_proba(
        self, texts: Data, batch_size: int = 32, *, columns: Columns | None = None, confidence: float | None = None
    ) -> np.ndarray:
        """Return the probability of each label of `labels` for each text, float32 [texts, labels].

        Arguments:
            texts: as in `predict`.
            batch_size: as in `predict`.
            columns: as in `predict`.
            confidence: as in `decode`.
        """
        if self.regression and confidence is None:
            raise ConfigError("regression=True estimates numbers, which have no probabilities: use predict.")
        found = self.texts(texts, columns)
        return self._probabilities(self.encode(found), batch_size, confidence) if found else self._chosen([])

    # Its options have names, and several confidences give a list.
    def evaluate(  # type: ignore[override]
        self,
        data: Data,
        batch_size: int = 32,
        *,
        columns: Columns | None = None,
        confidence: float | Sequence[float] | None = None,
        picture: str | os.PathLike[str] | None = None,
    ) -> Any:
        """Return the metrics on examples.

        Arguments:
            data: as in `Task.evaluate`.
            batch_size: as in `Task.evaluate`.
            columns: as in `Task.evaluate`.
            confidence: as in `decode`; or several, to choose one of them.
            picture: a file for a picture of the metric against the depth, with several confidences.

        Returns:
            Metrics by name, with `confidence` also `mean_depth`, at which texts left. For several a list of such
            dictionaries in their order, each with its `confidence` and the `seconds` it took.
        """
        if confidence is None:
            return super().evaluate(data, batch_size, columns=columns)
        several = isinstance(confidence, Sequence)
        given = [
            check_confidence(self, one) for one in (confidence if isinstance(confidence, Sequence) else [confidence])
        ]
        examples = self.examples(data, columns)
        self.check(examples)
        encoded = self.encode([example.text for example in examples])
        results = []
        for one in given:
            started = time.perf_counter()
            probabilities, depths = EarlyExit.of(self).probabilities(encoded, one, batch_size)
            seconds = time.perf_counter() - started
            metrics = {**self.score(examples, self._named(probabilities)), "mean_depth": float(depths.mean())}
            results.append({**metrics, "confidence": one, "seconds": seconds} if several else metrics)
        if picture is not None:
            draw_exits(results, self.metric, picture)
        return results if several else results[0]

    def score(self, examples: Sequence[Any], answers: Sequence[Any]) -> dict[str, float]:
        """Return accuracy (all labels of a text right) and the F1 that suits: macro, and micro for several labels.

        Of numbers: Pearson's and Spearman's correlation.
        """
        wanted = [example.answer for example in map(self.example, examples)]
        if self.regression:
            return {"pearson": pearson(wanted, answers), "spearman": spearman(wanted, answers)}
        expected = self._chosen(wanted)
        if not self.multi_label:
            expected = np.eye(len(self.labels), dtype=bool)[expected.argmax(axis=1)]
        return label_metrics(expected.astype(bool), self._chosen(answers).astype(bool), micro=self.multi_label)

    @classmethod
    def from_hf(cls, folder: str | os.PathLike[str], *, maxlen: int = 128) -> Self:
        """Return the classifier in a folder of `transformers`, ready to predict.

        Arguments:
            folder: what `save_pretrained` wrote of an Albert- or BertForSequenceClassification and its tokenizer.
            maxlen: the most tokens of a text; fewer where the model has fewer positions.

        Returns:
            The classifier, on the pooler, with the labels of `id2label`. Raises `CheckpointError` for no head or two.
        """
        return classifier_from_hf(cls, folder, maxlen)

    def hugging_face_head(self) -> TaskHead:
        """Return the head as `save_hf` writes it. Raises `CheckpointError` for one that cannot leave."""
        return classifier_head(self)

    def _index(self) -> dict[Any, int]:
        return {label: index for index, label in enumerate(self.labels)}

    def _labels_of(self, answer: Any) -> list[Any]:
        return list(answer) if isinstance(answer, tuple | list | dict) else [answer]

    def _chosen(self, answers: Sequence[Any]) -> np.ndarray:
        """Return 1 for each label of each answer and 0 for the others, of soft ones their parts, [answers, labels]."""
        index = self._index()
        chosen = np.zeros((len(answers), len(index)), "float32")
        for row, answer in zip(chosen, answers, strict=True):
            for label in self._labels_of(answer):
                row[index[label]] = answer[label] if isinstance(answer, dict) else 1
        return chosen

    def _outputs(self, encoded: Any, batch_size: int) -> np.ndarray:
        """Return what the model gives at its full depth."""
        outputs = self.run(self.model, encoded, batch_size)
        return outputs[:, -1] if self.exits else outputs

    def _probabilities(self, encoded: Any, batch_size: int, confidence: float | None = None) -> np.ndarray:
        if confidence is not None:
            confidence = check_confidence(self, confidence)
            return EarlyExit.of(self).probabilities(encoded, confidence, batch_size)[0]
        logits = ops.convert_to_tensor(self._outputs(encoded, batch_size))
        return ops.convert_to_numpy(ops.sigmoid(logits) if self.multi_label else ops.softmax(logits))

    def _named(self, probabilities: np.ndarray) -> list[Any]:
        """Return the label of each row of probabilities, or with `multi_label` the list of its labels."""
        if not self.multi_label:
            return [self.labels[best] for best in probabilities.argmax(axis=1)]
        return [
            [label for label, p in zip(self.labels, row, strict=True) if p >= self.threshold] for row in probabilities
        ]

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
