"""Answers that leave early: a text goes only as deep as it must to be sure of its label."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from keras import ops

from bert4albert.backend import compiled, compiles_each_shape
from bert4albert.batches import Batches
from bert4albert.errors import ConfigError
from bert4albert.layers import padding_mask
from bert4albert.layers.attention import attention_bias

if TYPE_CHECKING:
    from bert4albert.tasks.classification import TextClassifier


def check_confidence(task: TextClassifier, confidence: Any) -> float:
    """Return a confidence as a float; `ConfigError` where it is none, or the task's answers cannot leave early."""
    if not task.exits or task.multi_label or task.regression:
        raise ConfigError(
            "confidence needs a classifier on every depth and one label a text: TextClassifier(..., exits=True), "
            "without multi_label and regression."
        )
    is_number = isinstance(confidence, int | float | np.number) and not isinstance(confidence, bool)
    if not is_number or not 0 < confidence <= 1:
        raise ConfigError(
            f"confidence is the probability from which a label is sure, above 0 and up to 1, not {confidence!r:.60}."
        )
    return float(confidence)


class EarlyExit:
    """The compiled pieces of a classifier with a head on every depth.

    Arguments:
        task: the classifier, built.
    """

    def __init__(self, task: TextClassifier) -> None:
        self.task = task
        self.trunk = task.backbone
        self.variables = list(task.model.variables)
        self._heads = task.model.get_layer("exits").exits
        self._begin = compiled(self._embed, self.variables)
        self._steps = [compiled(partial(self._step, depth), self.variables) for depth in range(len(self._heads))]

    @classmethod
    def of(cls, task: TextClassifier) -> EarlyExit:
        """Return that of a task's model, the same at each call so that nothing is compiled twice."""
        known = getattr(task.model, "_early_exit", None)
        if known is None or list(map(id, known.variables)) != list(map(id, task.model.variables)):
            known = task.model._early_exit = cls(task)
        return known

    def probabilities(self, encoded: Any, confidence: float, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the probabilities of each text at the depth where it left, and that depth, counted from 1.

        Arguments:
            encoded: token ids and segment ids.
            confidence: a text leaves where its largest probability is at least this.
            batch_size: texts that begin together.
        """
        batches = Batches(
            encoded, batch_size=batch_size, shuffle=False, bucket=True, maxlen=self.trunk.config.max_length
        )
        result = np.zeros((batches.examples, len(self.task.labels)), "float32")
        depths = np.zeros(batches.examples, int)
        for rows in batches.plan(0):
            ((token_ids, segment_ids),) = batches.take(rows)
            states = self._begin(token_ids, segment_ids)
            for depth, step in enumerate(self._steps):
                hidden_states, found = step(*states)
                probabilities = ops.convert_to_numpy(found)[: len(rows)]
                sure = probabilities.max(axis=1) >= confidence
                if depth == len(self._steps) - 1:
                    sure[:] = True
                result[rows[sure]], depths[rows[sure]] = probabilities[sure], depth + 1
                left = np.flatnonzero(~sure)
                if not len(left):
                    break
                rows = rows[left]
                states = (hidden_states, *states[1:])
                if _room(len(left)) < len(hidden_states):
                    # Where each shape is compiled there are few of them: the first row fills up.
                    kept = np.pad(left, (0, _room(len(left)) - len(left))).astype("int32")
                    states = tuple(ops.take(state, kept, axis=0) for state in states)
                elif len(left) < len(probabilities):
                    order = np.concatenate([left, np.setdiff1d(np.arange(len(hidden_states)), left)]).astype("int32")
                    states = tuple(ops.take(state, order, axis=0) for state in states)
        return result, depths

    def _embed(self, token_ids: Any, segment_ids: Any) -> tuple[Any, Any, Any]:
        """Return the embeddings, who may attend to whom, and what is no padding."""
        mask = self.trunk.get_layer("attention_mask")(token_ids, segment_ids)
        return self.trunk.embeddings(token_ids, segment_ids), mask, padding_mask(token_ids)

    def _step(self, depth: int, hidden_states: Any, mask: Any, inside: Any) -> tuple[Any, Any]:
        """Return the hidden states after one more depth, and the probabilities of its classifier."""
        encoder = self.trunk.encoder
        hidden_states = encoder.at_depth(depth, hidden_states, attention_bias(mask, encoder.compute_dtype))
        vector = self._pooled(hidden_states, inside)
        return hidden_states, ops.softmax(self._heads[depth](vector))

    def _pooled(self, hidden_states: Any, inside: Any) -> Any:
        if self.task.pooling == "pooler":
            return self.trunk.get_layer("pooler")(hidden_states)
        if self.task.pooling == "mean":
            return self.task.model.get_layer("mean_pooling")(hidden_states, inside)
        return self.task.model.get_layer("first_token")(hidden_states)


def _room(count: int) -> int:
    """Return how many rows to compute for so many texts: a power of two where each shape is compiled."""
    return 1 << (count - 1).bit_length() if compiles_each_shape() else count


def draw_exits(results: Sequence[dict[str, float]], metric: str, path: str | os.PathLike[str]) -> None:
    """Draw a metric against the mean depth at which texts leave; `ConfigError` where matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ConfigError("A picture needs matplotlib: pip install 'bert4albert[plot]'.") from None
    ordered = sorted(results, key=lambda result: result["mean_depth"])
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot([r["mean_depth"] for r in ordered], [r[metric] for r in ordered], "o-", color="#0072B2")
    for result in ordered:
        axes.annotate(
            f"{result['confidence']:g}",
            (result["mean_depth"], result[metric]),
            xytext=(4, 4),
            textcoords="offset points",
        )
    axes.set_xlabel("mean depth at which texts leave (beside each point: the confidence)")
    axes.set_ylabel(metric)
    figure.savefig(path, dpi=150)
