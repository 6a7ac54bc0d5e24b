"""Pointers: a score for every span and every label, and the losses that such scores learn by."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from bert4albert.backend import register
from bert4albert.errors import ConfigError, require_whole

# Finite, so that 0 * mask is 0 and not NaN; far below any score, and its exponential is 0 in float32.
_RULED_OUT = -1e12


@register
class GlobalPointer(keras.layers.Layer):
    """Score every pair of positions under every label, as the start and the end of a span.

    Each label has its own queries and keys. Source: Su Jianlin, kexue.fm/archives/8373; arXiv:2208.03054.

    Arguments:
        heads: how many labels there are.
        head_size: size of the queries and keys, an even number.
        rotary: whether a score depends on how far the end is from the start (arXiv:2104.09864).
        ordered: whether spans whose end is before their start are ruled out.
        kernel_initializer: of the Dense layers inside.

    Call arguments:
        hidden_states: [batch, length, size].
        attention_mask: bool or 0/1 [batch, length]; None for no padding.

    Returns:
        float32 [batch, heads, length, length]: the score of each span from its first position (row) to its last
        (column). Above 0 means yes; spans that are ruled out or touch padding have -1e12. Raises `ConfigError` for
        an odd head size.

    Examples:
        >>> import numpy as np
        >>> from bert4albert.heads import GlobalPointer
        >>> pointer = GlobalPointer(heads=3, head_size=4)
        >>> scores = pointer(np.ones((1, 5, 8), "float32"))
        >>> tuple(scores.shape)
        (1, 3, 5, 5)
        >>> float(scores[0, 0, 2, 1]) < -1e11  # a span whose end is before its start
        True
    """

    def __init__(
        self,
        heads: int,
        head_size: int = 64,
        rotary: bool = True,
        ordered: bool = True,
        kernel_initializer: Any = "lecun_normal",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        require_whole("heads", heads, 1)
        require_whole("head_size", head_size, 2)
        if head_size % 2:
            raise ConfigError(f"head_size={head_size} is odd, but rotary positions turn pairs; use an even size.")
        self.heads, self.head_size, self.rotary, self.ordered = heads, head_size, rotary, ordered
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.pairs = self._dense(2 * head_size * self._pair_count(), "pairs")

    def get_config(self) -> dict[str, Any]:
        """Return Keras' own settings and the arguments."""
        return {
            **super().get_config(),
            "heads": self.heads,
            "head_size": self.head_size,
            "rotary": self.rotary,
            "ordered": self.ordered,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }

    def build(self, hidden_states_shape: Any, attention_mask_shape: Any = None) -> None:
        """Create the weights."""
        self.pairs.build(hidden_states_shape)
        self.built = True

    def call(self, hidden_states: Any, attention_mask: Any = None) -> Any:
        """Score every span."""
        scores = ops.cast(self._scores(hidden_states), "float32")
        allowed = ops.ones_like(scores[:1, :1], dtype="bool")
        if self.ordered:
            allowed = ops.triu(allowed)
        if attention_mask is not None:
            inside = ops.cast(attention_mask, "bool")
            pairs = ops.logical_and(ops.expand_dims(inside, (1, 3)), ops.expand_dims(inside, (1, 2)))
            allowed = ops.logical_and(allowed, pairs)
        return ops.where(allowed, scores, _RULED_OUT)

    def compute_output_spec(self, hidden_states: Any, attention_mask: Any = None) -> keras.KerasTensor:
        """Return the shape of the scores."""
        batch, length, _ = hidden_states.shape
        return keras.KerasTensor((batch, self.heads, length, length), dtype="float32")

    def _pair_count(self) -> int:
        """How many pairs of queries and keys there are."""
        return self.heads

    def _scores(self, hidden_states: Any) -> Any:
        return self._products(self.pairs(hidden_states))

    def _products(self, pairs: Any) -> Any:
        """Return [batch, pair count, length, length], the scaled products of queries and keys."""
        batch, length, _ = ops.shape(pairs)
        pairs = ops.reshape(pairs, (batch, length, self._pair_count(), 2, self.head_size))
        pairs = ops.transpose(pairs, (3, 0, 2, 1, 4))
        if self.rotary:
            pairs = rotate(pairs)
        return ops.matmul(pairs[0], ops.swapaxes(pairs[1], -1, -2)) * self.head_size**-0.5

    def _dense(self, units: int, name: str) -> keras.layers.Dense:
        initializer = self.kernel_initializer
        return keras.layers.Dense(units, kernel_initializer=initializer, dtype=self.dtype_policy, name=name)


@register
class EfficientGlobalPointer(GlobalPointer):
    """A global pointer with one pair of queries and keys, which finds spans, and a bias a label to tell them apart.

    Far fewer weights than `GlobalPointer`; arguments, call and returns are the same. Source: Su Jianlin,
    kexue.fm/archives/8877.

    Examples:
        >>> import numpy as np
        >>> from bert4albert.heads import EfficientGlobalPointer, GlobalPointer
        >>> hidden_states = np.ones((1, 5, 8), "float32")
        >>> efficient, plain = EfficientGlobalPointer(heads=3, head_size=4), GlobalPointer(heads=3, head_size=4)
        >>> tuple(efficient(hidden_states).shape) == tuple(plain(hidden_states).shape)
        True
        >>> efficient.count_params(), plain.count_params()
        (126, 216)
    """

    def __init__(self, heads: int, *args: Any, **kwargs: Any) -> None:
        super().__init__(heads, *args, **kwargs)
        self.labels = self._dense(2 * heads, "labels")

    def build(self, hidden_states_shape: Any, attention_mask_shape: Any = None) -> None:
        """Create the weights."""
        self.labels.build((None, None, 2 * self.head_size))
        super().build(hidden_states_shape)

    def _pair_count(self) -> int:
        return 1

    def _scores(self, hidden_states: Any) -> Any:
        pairs = self.pairs(hidden_states)
        as_start, as_end = ops.split(ops.transpose(self.labels(pairs), (0, 2, 1)) * 0.5, 2, axis=1)
        return self._products(pairs) + ops.expand_dims(as_start, 3) + ops.expand_dims(as_end, 2)


def rotate(x: Any) -> Any:
    """Turn each pair of neighbouring features by an angle that grows with the position.

    The product of two rotated vectors depends on their distance only. Source: arXiv:2104.09864.

    Arguments:
        x: [..., length, size], of an even size.

    Returns:
        The same shape and dtype.
    """
    angles = rotary_angles(ops.arange(ops.shape(x)[-2], dtype="float32"), x.shape[-1])
    angles = ops.repeat(angles, 2, axis=-1)
    return turn_pairs(x, ops.sin(angles), ops.cos(angles))


def rotary_angles(positions: Any, size: int, base: float = 10000.0) -> Any:
    """Return the angles of pairs of features at positions of any float dtype: [..., size / 2]."""
    frequencies = base ** (-2.0 * ops.arange(size // 2, dtype=positions.dtype) / size)
    return ops.expand_dims(positions, -1) * frequencies


def turn_pairs(x: Any, sines: Any, cosines: Any) -> Any:
    """Turn each pair of neighbouring features [..., size] by the angle whose sine and cosine [..., size] both have."""
    across = ops.reshape(ops.stack([-x[..., 1::2], x[..., ::2]], axis=-1), ops.shape(x))
    return x * ops.cast(cosines, x.dtype) + across * ops.cast(sines, x.dtype)


def multilabel_crossentropy(y_true: Any, y_pred: Any) -> Any:
    """Return log(1 + sum exp(score of each wrong class)) + log(1 + sum exp(-score of each right class)).

    The softmax cross-entropy generalised to any number of right classes: it pushes their scores above 0 and all
    others below, however unequal the two are in number. Source: Su Jianlin, kexue.fm/archives/7359.

    Arguments:
        y_true: 0/1 [..., classes].
        y_pred: scores [..., classes], any real numbers.

    Returns:
        [...].

    Examples:
        >>> import numpy as np
        >>> from bert4albert.heads import multilabel_crossentropy
        >>> loss = multilabel_crossentropy(np.array([[1, 0, 0]]), np.array([[5.0, -5.0, -5.0]], "float32"))
        >>> round(float(loss[0]), 2)
        0.02
    """
    right = ops.cast(y_true, "bool")
    zero = ops.zeros_like(y_pred[..., :1])
    wrong_scores = ops.concatenate([ops.where(right, _RULED_OUT, y_pred), zero], axis=-1)
    right_scores = ops.concatenate([ops.where(right, -y_pred, _RULED_OUT), zero], axis=-1)
    return ops.logsumexp(wrong_scores, axis=-1) + ops.logsumexp(right_scores, axis=-1)


@register
def span_loss(y_true: Any, y_pred: Any) -> Any:
    """Return the multi-label cross-entropy of spans, summed over labels.

    Arguments:
        y_true: int [batch, count, 3], the right spans as (label, first position, last position); rows of negative
            numbers are padding.
        y_pred: [batch, labels, length, length], the scores of a global pointer.

    Returns:
        [batch].

    Examples:
        >>> import numpy as np
        >>> from bert4albert.heads import span_loss
        >>> spans = np.array([[[0, 1, 2], [-1, -1, -1]]])
        >>> scores = np.zeros((1, 1, 4, 4), "float32")
        >>> round(float(span_loss(spans, scores)[0]), 3)
        3.466
    """
    spans = ops.cast(y_true, "int32")
    batch, labels, length, _ = ops.shape(y_pred)
    given = spans[:, :, 0] >= 0
    label, first, last = (ops.where(given, spans[:, :, i], 0) for i in range(3))
    row = ops.arange(batch, dtype="int32")[:, None]
    cell = ((row * labels + label) * length + first) * length + last
    counts = ops.segment_sum(
        ops.reshape(ops.cast(given, "int32"), (-1,)), ops.reshape(cell, (-1,)), batch * labels * length * length
    )
    right = ops.reshape(counts > 0, (batch, labels, length * length))
    return ops.sum(multilabel_crossentropy(right, ops.reshape(y_pred, ops.shape(right))), axis=1)
