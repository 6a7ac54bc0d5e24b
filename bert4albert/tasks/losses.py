"""The losses of classifiers, by name, since a `.keras` file of a model in training names its loss."""

from __future__ import annotations

from keras import ops

from bert4albert.backend import register
from bert4albert.heads import exits_loss
from bert4albert.layers.base import Tensor


@register
def label_crossentropy(targets: Tensor, logits: Tensor) -> Tensor:
    """Return the loss of each text, [batch], from label indices [batch] or probabilities [batch, labels]."""
    if len(targets.shape) == len(logits.shape):
        return ops.categorical_crossentropy(ops.cast(targets, logits.dtype), logits, from_logits=True)
    return ops.sparse_categorical_crossentropy(targets, logits, from_logits=True)


@register
def labels_crossentropy(targets: Tensor, logits: Tensor) -> Tensor:
    """Return the loss of each label, [batch, labels]."""
    return ops.binary_crossentropy(ops.cast(targets, logits.dtype), logits, from_logits=True)


@register
def number_error(targets: Tensor, numbers: Tensor) -> Tensor:
    """Return the squared error of each text, [batch], from numbers [batch, 1]."""
    return ops.square(ops.reshape(ops.cast(targets, numbers.dtype), (-1,)) - numbers[:, 0])


@register
def label_crossentropy_of_exits(targets: Tensor, logits: Tensor) -> Tensor:
    """Return `label_crossentropy` of a classifier on every depth."""
    return exits_loss(label_crossentropy, targets, logits)


@register
def labels_crossentropy_of_exits(targets: Tensor, logits: Tensor) -> Tensor:
    """Return `labels_crossentropy` of a classifier on every depth."""
    return exits_loss(labels_crossentropy, targets, logits)


@register
def number_error_of_exits(targets: Tensor, numbers: Tensor) -> Tensor:
    """Return `number_error` of a regression on every depth."""
    return exits_loss(number_error, targets, numbers)


# For one label, several labels, a number.
LOSSES = (label_crossentropy, labels_crossentropy, number_error)
LOSSES_OF_EXITS = (label_crossentropy_of_exits, labels_crossentropy_of_exits, number_error_of_exits)
