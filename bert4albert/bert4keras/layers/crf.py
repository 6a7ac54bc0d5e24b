"""Tagging: `ConditionalRandomField` and `MaximumEntropyMarkovModel`.

Their output has -inf at the labels of padding; by that the losses know it.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import keras
import numpy as np
from keras import ops

from bert4albert.bert4keras.backend import sequence_masking
from bert4albert.bert4keras.registration import Layer, register
from bert4albert.heads.crf import crossentropy_of_paths, negative_log_likelihood


class _Tagger(Layer):
    """What both taggers share.

    Arguments:
        lr_multiplier: how much faster the transitions learn than other weights, under optimizers like Adam.
    """

    def __init__(self, lr_multiplier: float = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.lr_multiplier = lr_multiplier

    def get_config(self) -> dict[str, Any]:
        """Return Keras' own settings and the multiplier."""
        return {**super().get_config(), "lr_multiplier": self.lr_multiplier}

    def compute_mask(self, *_: Any) -> None:
        """Return None: the mask is in the output."""

    def compute_output_shape(self, shape: Any) -> Any:
        """Return the input's shape."""
        return shape

    def call(self, inputs: Any, mask: Any = None) -> Any:
        """Return the scores of labels [batch, length, labels], -inf on padding."""
        return sequence_masking(inputs, mask, -np.inf, 1)

    def _scaled_weight(self, shape: tuple[int, int], name: str) -> Any:
        glorot = keras.initializers.GlorotUniform()
        return self.add_weight(shape=shape, initializer=lambda *a, **k: glorot(*a, **k) / self.lr_multiplier, name=name)

    def dense_accuracy(self, y_true: Any, y_pred: Any) -> Any:
        """Return the accuracy for one-hot labels."""
        return self.sparse_accuracy(ops.argmax(y_true, axis=2), y_pred)

    @abstractmethod
    def sparse_loss(self, y_true: Any, y_pred: Any) -> Any:
        """Return the loss for integer labels."""

    @abstractmethod
    def sparse_accuracy(self, y_true: Any, y_pred: Any) -> Any:
        """Return the accuracy for integer labels."""


@register
class ConditionalRandomField(_Tagger):
    """A conditional random field on the scores of labels; train with `loss=crf.sparse_loss`.

    Arguments:
        lr_multiplier: how much faster the transitions learn than other weights, under optimizers like Adam.
    """

    def build(self, shape: Any) -> None:
        """Create the transitions."""
        self._trans = self._scaled_weight((shape[-1], shape[-1]), "trans")
        self.built = True

    @property
    def trans(self) -> Any:
        """The score of going from each label (row) to each label (column)."""
        return ops.convert_to_tensor(self._trans) * self.lr_multiplier

    def dense_loss(self, y_true: Any, y_pred: Any) -> Any:
        """Return the loss [batch] for one-hot labels, or smoothed ones."""
        inside = _inside(y_pred)
        at_label = ops.where(inside[:, :, None], ops.cast(y_true, y_pred.dtype), 0)
        return crossentropy_of_paths(at_label, y_pred, self.trans, inside)

    def sparse_loss(self, y_true: Any, y_pred: Any) -> Any:
        """Return the negative log-likelihood [batch] of integer labels [batch, length] of any dtype."""
        labels, inside = _labels(y_true, y_pred)
        return negative_log_likelihood(ops.where(inside, labels, -1), y_pred, self.trans)

    def sparse_accuracy(self, y_true: Any, y_pred: Any) -> Any:
        """Return how many labels outside padding have the highest score of their own."""
        labels, inside = _labels(y_true, y_pred)
        return _mean(ops.equal(labels, ops.cast(ops.argmax(y_pred, axis=2), "int32")), inside)


@register
class MaximumEntropyMarkovModel(_Tagger):
    """A Markov model in both directions: like a conditional random field, and faster (kexue.fm/archives/7213).

    Arguments:
        lr_multiplier: as in `ConditionalRandomField`.
        hidden_dim: rank of the transitions; None for full ones.
    """

    def __init__(self, lr_multiplier: float = 1, hidden_dim: int | None = None, **kwargs: Any) -> None:
        super().__init__(lr_multiplier, **kwargs)
        self.hidden_dim = hidden_dim

    def get_config(self) -> dict[str, Any]:
        """Return Keras' own settings and the arguments."""
        return {**super().get_config(), "hidden_dim": self.hidden_dim}

    def build(self, shape: Any) -> None:
        """Create the transitions."""
        if self.hidden_dim is None:
            self._trans = self._scaled_weight((shape[-1], shape[-1]), "trans")
        else:
            self._l_trans = self._scaled_weight((shape[-1], self.hidden_dim), "l_trans")
            self._r_trans = self._scaled_weight((shape[-1], self.hidden_dim), "r_trans")
        self.built = True

    @property
    def trans(self) -> Any:
        """The score of going from each label (row) to each label (column)."""
        if self.hidden_dim is None:
            return ops.convert_to_tensor(self._trans) * self.lr_multiplier
        return ops.matmul(self.l_trans, ops.transpose(self.r_trans))

    @property
    def l_trans(self) -> Any:
        """The left factor of the transitions."""
        return ops.convert_to_tensor(self._l_trans) * self.lr_multiplier

    @property
    def r_trans(self) -> Any:
        """The right factor of the transitions."""
        return ops.convert_to_tensor(self._r_trans) * self.lr_multiplier

    def dense_loss(self, y_true: Any, y_pred: Any) -> Any:
        """Return the loss for one-hot labels."""
        return self.sparse_loss(ops.argmax(y_true, axis=2), y_pred)

    def sparse_loss(self, y_true: Any, y_pred: Any) -> Any:
        """Return the mean over both directions of the cross-entropy outside padding, a scalar."""
        losses = []
        for labels, inside, scores in self._directions(y_true, y_pred):
            scores = ops.where(inside[..., None], scores, 0)
            loss = ops.sparse_categorical_crossentropy(labels, scores, from_logits=True)
            losses.append(_mean(loss, inside))
        return (losses[0] + losses[1]) / 2

    def sparse_accuracy(self, y_true: Any, y_pred: Any) -> Any:
        """Return how many labels outside padding are found from the right label before, the mean of both directions."""
        found = [
            _mean(ops.equal(labels, ops.cast(ops.argmax(scores, axis=2), "int32")), inside)
            for labels, inside, scores in self._directions(y_true, y_pred)
        ]
        return (found[0] + found[1]) / 2

    def _directions(self, y_true: Any, y_pred: Any) -> Any:
        """Yield labels, mask and scores, forwards and then backwards; the scores know the right label before."""
        labels, inside = _labels(y_true, y_pred)
        yield labels, inside, _with_history(labels, y_pred, self.trans)
        length = ops.sum(ops.cast(inside, "int32"), axis=1, keepdims=True)
        # Only what is outside padding turns round.
        place = ops.arange(ops.shape(labels)[1], dtype="int32")[None]
        order = ops.where(place < length, length - 1 - place, place)
        labels = ops.take_along_axis(labels, order, axis=1)
        scores = ops.take_along_axis(y_pred, order[..., None], axis=1)
        yield labels, inside, _with_history(labels, scores, ops.transpose(self.trans))


def _with_history(labels: Any, scores: Any, trans: Any) -> Any:
    history = ops.take(trans, labels, axis=0)
    return (scores + ops.concatenate([scores[:, :1], history[:, :-1]], axis=1)) / 2


def _labels(y_true: Any, y_pred: Any) -> tuple[Any, Any]:
    """Return labels as int32 [batch, length], and where there is no padding."""
    labels = ops.cast(ops.reshape(y_true, ops.shape(y_pred)[:-1]), "int32")
    return labels, _inside(y_pred)


def _inside(y_pred: Any) -> Any:
    return ops.all(ops.not_equal(y_pred, ops.cast(-np.inf, y_pred.dtype)), axis=2)


def _mean(values: Any, inside: Any) -> Any:
    inside = ops.cast(inside, "float32")
    return ops.sum(ops.cast(values, "float32") * inside) / ops.sum(inside)
