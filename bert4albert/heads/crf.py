"""A linear-chain conditional random field: transitions between labels, exact loss, Viterbi decoding."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from bert4albert.backend import register
from bert4albert.errors import ConfigError


@register
class CRF(keras.layers.Layer):
    """Score whole label sequences: the emission of each position plus the transition between neighbours.

    Made new, all transitions are 0 and it is a softmax at each position. Source: Lafferty, McCallum and
    Pereira, "Conditional random fields", ICML 2001.

    Train with `model.compile(loss=crf.loss)` on the emissions that `crf(emissions)` returns, and decode with
    `crf(emissions, attention_mask, decode=True)`.

    Arguments:
        learning_rate_multiplier: how much faster transitions learn than other weights under Adam. The rates
            that suit a pretrained trunk would leave them at 0.

    Call arguments:
        emissions: [batch, length, labels], any real numbers.
        attention_mask: bool or 0/1 [batch, length], true first and false on the padding that follows; None for
            no padding. Needed only for decoding.
        decode: whether to return labels instead of emissions.

    Returns:
        The emissions as they are, or with `decode` the best labels, int32 [batch, length], 0 on padding.

    Examples:
        >>> import keras
        >>> import numpy as np
        >>> from bert4albert.heads import CRF
        >>> crf = CRF()
        >>> emissions = np.array([[[2.0, 0.0], [0.0, 1.0], [0.0, 9.0]]], "float32")
        >>> keras.ops.convert_to_numpy(crf(emissions, np.array([[1, 1, 0]]), decode=True)).tolist()
        [[0, 1, 0]]
        >>> round(float(crf.loss(np.array([[0, 1, -1]]), emissions)[0]), 3)
        0.44
    """

    def __init__(self, learning_rate_multiplier: float = 100.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not (isinstance(learning_rate_multiplier, (int, float)) and 0 < learning_rate_multiplier < math.inf):
            raise ConfigError(f"learning_rate_multiplier must be a number above 0, not {learning_rate_multiplier!r}.")
        self.learning_rate_multiplier = learning_rate_multiplier

    def get_config(self) -> dict[str, Any]:
        """Return Keras' own settings and the multiplier."""
        return {**super().get_config(), "learning_rate_multiplier": self.learning_rate_multiplier}

    def build(self, input_shape: Any) -> None:
        """Create the transitions."""
        labels = input_shape[-1]
        self.scaled_transitions = self.add_weight(shape=(labels, labels), initializer="zeros", name="transitions")
        self.built = True

    @property
    def transitions(self) -> Any:
        """The score of going from each label (row) to each label (column), [labels, labels]."""
        return ops.cast(self.scaled_transitions, self.variable_dtype) * self.learning_rate_multiplier

    def call(self, emissions: Any, attention_mask: Any = None, decode: bool = False) -> Any:
        """Return the emissions, or the best labels."""
        if not decode:
            return emissions
        if attention_mask is None:
            attention_mask = ops.ones_like(emissions[:, :, 0], dtype="bool")
        return viterbi(ops.cast(emissions, self.variable_dtype), self.transitions, attention_mask)

    def compute_output_spec(
        self, emissions: Any, attention_mask: Any = None, decode: bool = False
    ) -> keras.KerasTensor:
        """Return the shape of the emissions or of the labels."""
        if decode:
            return keras.KerasTensor(emissions.shape[:2], dtype="int32")
        return keras.KerasTensor(emissions.shape, dtype=self.compute_dtype)

    def loss(self, y_true: Any, y_pred: Any) -> Any:
        """Return the negative log-likelihood of each label sequence.

        Arguments:
            y_true: int [batch, length], the labels from 0 on; any negative number on the padding at the end.
            y_pred: [batch, length, labels], the emissions.

        Returns:
            [batch].
        """
        emissions = ops.cast(y_pred, self.variable_dtype)
        return negative_log_likelihood(ops.cast(y_true, "int32"), emissions, self.transitions)


def negative_log_likelihood(labels: Any, emissions: Any, transitions: Any) -> Any:
    """Return -log p [batch] of `labels` [batch, length], negative on padding; the rest as in `viterbi`."""
    at_label = ops.one_hot(labels, transitions.shape[0], dtype=emissions.dtype)  # The -1 of padding: no label.
    return crossentropy_of_paths(at_label, emissions, transitions, labels >= 0)


def crossentropy_of_paths(at_label: Any, emissions: Any, transitions: Any, mask: Any) -> Any:
    """Return [batch], what `negative_log_likelihood` does, for probabilities of labels [batch, length, labels].

    They are 0 on padding, which is where `mask`, bool [batch, length], is false.
    """
    emissions = ops.where(mask[:, :, None], emissions, 0)  # Whatever stands on padding, even infinity.
    return _log_partition(emissions, transitions, mask) - _path_score(emissions, transitions, at_label)


def viterbi(emissions: Any, transitions: Any, mask: Any) -> Any:
    """Return the label sequence of the highest score.

    Arguments:
        emissions: [batch, length, labels].
        transitions: [labels, labels], from row to column.
        mask: bool or 0/1 [batch, length], true first and false on the padding that follows.

    Returns:
        int32 [batch, length], 0 on padding.
    """
    positions, emissions, mask, next_emissions, followed = _time_major(emissions, mask)

    def forward(best: Any, t: Any) -> tuple[Any, Any]:
        next_best = ops.max(best[:, :, None] + transitions, axis=1) + next_emissions[t]
        return ops.where(followed[t], next_best, best), best

    def backward(next_label: Any, t: Any) -> tuple[Any, Any]:
        to_next = ops.take(ops.transpose(transitions), next_label, axis=0)
        label = ops.cast(ops.argmax(best[t] + ops.where(followed[t], to_next, 0), axis=1), "int32")
        return label, label

    _, best = ops.scan(forward, emissions[0], positions)
    _, labels = ops.scan(backward, ops.zeros_like(mask[0, :, 0], dtype="int32"), positions, reverse=True)
    return ops.transpose(ops.where(mask[:, :, 0], labels, 0))


def _path_score(emissions: Any, transitions: Any, at_label: Any) -> Any:
    from_label = ops.matmul(at_label[:, :-1], transitions)
    return ops.sum(emissions * at_label, axis=(1, 2)) + ops.sum(from_label * at_label[:, 1:], axis=(1, 2))


def _log_partition(emissions: Any, transitions: Any, mask: Any) -> Any:
    """Return log of the sum of exp(score) over all label sequences, [batch].

    Its gradient is given, not derived: the expected number of times that each label and each transition occurs,
    which the forward-backward algorithm finds. So no backend has to differentiate a loop of unknown length, which
    TensorFlow with XLA and JAX each refuse in some form.
    """
    log_z, label_counts, transition_counts = _expected_counts(
        ops.stop_gradient(emissions), ops.stop_gradient(transitions), mask
    )
    # Both differences are exactly 0; only their gradients count.
    by_label = label_counts * (emissions - ops.stop_gradient(emissions))
    by_transition = transition_counts * (transitions - ops.stop_gradient(transitions))
    return log_z + ops.sum(by_label, axis=(1, 2)) + ops.sum(by_transition, axis=(1, 2))


def _expected_counts(emissions: Any, transitions: Any, mask: Any) -> tuple[Any, Any, Any]:
    """Return log Z [batch] and how often each label [batch, length, labels] and transition [batch, labels, labels]
    is expected.
    """
    positions, emissions, mask, next_emissions, followed = _time_major(emissions, mask)

    def forward(before: Any, t: Any) -> tuple[Any, Any]:
        next_before = ops.logsumexp(before[:, :, None] + transitions, axis=1) + next_emissions[t]
        return ops.where(followed[t], next_before, before), before

    def backward(next_after: Any, t: Any) -> tuple[Any, Any]:
        after = ops.logsumexp(transitions + (next_emissions[t] + next_after)[:, None, :], axis=2)
        return ops.where(followed[t], after, next_after), next_after

    # `before` holds the sums over all beginnings, each up to and with its position; `after` those over all ends.
    last, before = ops.scan(forward, emissions[0], positions)
    first, next_after = ops.scan(backward, ops.zeros_like(last), positions, reverse=True)
    after = ops.concatenate([first[None], next_after[:-1]], axis=0)
    log_z = ops.logsumexp(last, axis=1)
    labels = ops.exp(before + after - log_z[:, None])
    pairs = before[:, :, :, None] + transitions + (next_emissions + next_after)[:, :, None, :]
    pairs = ops.where(followed[:, :, :, None], ops.exp(pairs - log_z[:, None, None]), 0)
    return log_z, ops.transpose(ops.where(mask, labels, 0), (1, 0, 2)), ops.sum(pairs, axis=0)


def _time_major(emissions: Any, mask: Any) -> tuple[Any, Any, Any, Any, Any]:
    """Return positions [length], then emissions and mask as [length, batch, ...], then both one position on.

    The scans go over positions alone: with several tensors of unknown length, Keras' scan fails on TensorFlow.
    """
    emissions, mask = ops.transpose(emissions, (1, 0, 2)), ops.transpose(ops.cast(mask, "bool"))[:, :, None]
    followed = ops.concatenate([mask[1:], ops.zeros_like(mask[:1])], axis=0)
    positions = ops.arange(ops.shape(emissions)[0], dtype="int32")
    return positions, emissions, mask, ops.roll(emissions, -1, axis=0), followed
