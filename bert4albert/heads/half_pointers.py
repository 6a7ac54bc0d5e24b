"""Half pointers: the starts and the ends of spans, each with a probability of its own (CasRel).

Su Jianlin's form of CasRel (kexue.fm/archives/7161; arXiv:1909.03227): pointers to subjects on the trunk's output,
then pointers to the objects of one subject on the output of its last block before the final norm.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from bert4albert.backend import register
from bert4albert.errors import require_whole
from bert4albert.heads.conditional_norm import ConditionalLayerNormalization

SUBJECT_POWER, OBJECT_POWER = 2, 4
# The powers of the sigmoid, which suit targets that are rarely 1, and the logit that new pointers give. Together they
# make starts and ends about as rare as they are in real texts: from 0, the first epochs would only learn that.
INITIAL_LOGIT = -2.0


@register
class SubjectSampler(keras.layers.Layer):
    """Draw a subject from the relations of each text: a true start, and a true end that is not before it.

    The two need not belong together; such a subject has no objects, which is worth learning too.

    Call arguments:
        attention_mask: [batch, length], of which only the length matters.
        relations: int [batch, count, 5], as (subject's first token, its last, predicate, object's first, its last);
            rows that begin with 0 are padding.

    Returns:
        int32 [batch, 2]; (0, 0) for a text without relations.

    Examples:
        >>> import keras
        >>> import numpy as np
        >>> from bert4albert.heads import SubjectSampler
        >>> attention_mask = np.ones((1, 6), bool)
        >>> relations = np.array([[[1, 2, 0, 4, 4]]], "int32")
        >>> keras.ops.convert_to_numpy(SubjectSampler()(attention_mask, relations)).tolist()
        [[1, 2]]
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.seed_generator = keras.random.SeedGenerator()

    def get_config(self) -> dict[str, Any]:
        """Return Keras' own settings."""
        return super().get_config()

    def call(self, attention_mask: Any, relations: Any) -> Any:
        """Draw one subject a text."""
        length = ops.shape(attention_mask)[1]
        true = _positions(relations[:, :, :2], length)
        noise = keras.random.uniform(ops.shape(true), seed=self.seed_generator)
        start = ops.argmax(ops.where(true[:, :, 0], noise[:, :, 0], 0), axis=1)
        after = ops.arange(length)[None] >= start[:, None]
        end = ops.argmax(ops.where(ops.logical_and(true[:, :, 1], after), noise[:, :, 1], 0), axis=1)
        return ops.cast(ops.stack([start, end], axis=1), "int32")

    def compute_output_spec(self, attention_mask: Any, relations: Any) -> keras.KerasTensor:
        """Return [batch, 2]."""
        return keras.KerasTensor((attention_mask.shape[0], 2), dtype="int32")


@register
class ObjectPointers(keras.layers.Layer):
    """Logits of the starts and ends of the objects of one subject, for each predicate.

    The hidden states pass through a layer norm conditioned on those of the subject's first and last token.

    Arguments:
        predicates: how many there are.
        kernel_initializer: of the Dense layer inside.

    Call arguments:
        hidden_states: [batch, length, size], the trunk's `pre_norm_output`.
        subject: int [batch, 2], its first and last token.

    Returns:
        [batch, length, predicates, 2]; the probability is sigmoid(logit) to the power of 4.

    Examples:
        >>> import numpy as np
        >>> from bert4albert.heads import ObjectPointers
        >>> pointers = ObjectPointers(predicates=3)
        >>> tuple(pointers(np.zeros((1, 6, 8), "float32"), np.array([[1, 2]])).shape)
        (1, 6, 3, 2)
    """

    def __init__(self, predicates: int, kernel_initializer: Any = "glorot_uniform", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        require_whole("predicates", predicates, 1)
        self.predicates = predicates
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.norm = ConditionalLayerNormalization(dtype=self.dtype_policy, name="norm")
        self.dense = keras.layers.Dense(
            2 * predicates,
            kernel_initializer=self.kernel_initializer,
            bias_initializer=keras.initializers.Constant(INITIAL_LOGIT),
            dtype=self.dtype_policy,
            name="dense",
        )

    def get_config(self) -> dict[str, Any]:
        """Return Keras' own settings and the arguments."""
        return {
            **super().get_config(),
            "predicates": self.predicates,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }

    def build(self, hidden_states_shape: Any, subject_shape: Any) -> None:
        """Create the weights."""
        size = hidden_states_shape[-1]
        self.norm.build(hidden_states_shape, (None, 2 * size))
        self.dense.build((None, None, size))
        self.built = True

    def call(self, hidden_states: Any, subject: Any) -> Any:
        """Point to the objects of the subject."""
        batch, length, size = ops.shape(hidden_states)
        vectors = ops.take_along_axis(hidden_states, ops.cast(subject, "int32")[:, :, None], axis=1)
        normed = self.norm(hidden_states, ops.reshape(vectors, (batch, 2 * size)))
        return ops.reshape(self.dense(normed), (batch, length, self.predicates, 2))

    def compute_output_spec(self, hidden_states: Any, subject: Any) -> keras.KerasTensor:
        """Return [batch, length, predicates, 2]."""
        return keras.KerasTensor((*hidden_states.shape[:2], self.predicates, 2), dtype=self.compute_dtype)


@register
class CasRelLoss(keras.layers.Layer):
    """The loss of both pairs of half pointers, summed over the tokens and predicates of each text.

    Call arguments:
        attention_mask: bool or 0/1 [batch, length], false on padding, which never counts.
        relations: as in `SubjectSampler`.
        subject: int [batch, 2], what it drew.
        subject_logits: [batch, length, 2].
        object_logits: [batch, length, predicates, 2], of this subject.

    Returns:
        [batch].

    Examples:
        >>> import numpy as np
        >>> from bert4albert.heads import CasRelLoss
        >>> attention_mask = np.ones((1, 6), bool)
        >>> relations = np.array([[[1, 2, 0, 4, 4]]], "int32")
        >>> subject = np.array([[1, 2]], "int32")
        >>> subject_logits, object_logits = np.zeros((1, 6, 2), "float32"), np.zeros((1, 6, 3, 2), "float32")
        >>> tuple(CasRelLoss()(attention_mask, relations, subject, subject_logits, object_logits).shape)
        (1,)
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)

    def get_config(self) -> dict[str, Any]:
        """Return Keras' own settings."""
        return super().get_config()

    def call(self, attention_mask: Any, relations: Any, subject: Any, subject_logits: Any, object_logits: Any) -> Any:
        """Return the loss of each text."""
        relations, subject = ops.cast(relations, "int32"), ops.cast(subject, "int32")
        length, predicates = ops.shape(object_logits)[1], object_logits.shape[2]
        subjects = _positions(relations[:, :, :2], length)
        chosen = ops.logical_and(relations[:, :, 0] > 0, ops.all(relations[:, :, :2] == subject[:, None], axis=2))
        predicate = ops.one_hot(relations[:, :, 2], predicates) * ops.cast(chosen, "float32")[:, :, None]
        token = ops.one_hot(relations[:, :, 3:], length)
        objects = ops.einsum("bnil,bnp->blpi", token, predicate) > 0
        losses = ops.sum(power_crossentropy(subjects, subject_logits, SUBJECT_POWER), axis=2)
        losses = losses + ops.sum(power_crossentropy(objects, object_logits, OBJECT_POWER), axis=(2, 3))
        return ops.sum(ops.where(ops.cast(attention_mask, "bool"), losses, 0), axis=1)

    def compute_output_spec(self, attention_mask: Any, *_: Any) -> keras.KerasTensor:
        """Return [batch]."""
        return keras.KerasTensor(attention_mask.shape[:1], dtype=self.compute_dtype)


def power_crossentropy(targets: Any, logits: Any, power: int) -> Any:
    """Return the binary cross-entropy of the probabilities sigmoid(logits) ** power.

    A power above 1 suits targets that are rarely 1 (Su Jianlin, kexue.fm/archives/7161). No probability is ever
    computed, so that neither tail loses its gradient: 1 - s**4 is (1 - s)(1 + s)(1 + s**2).

    Arguments:
        targets: bool or 0/1, any shape.
        logits: of the same shape.
        power: a power of two.

    Returns:
        The same shape.

    Examples:
        >>> import numpy as np
        >>> from bert4albert.heads import power_crossentropy
        >>> losses = power_crossentropy(np.array([1, 0]), np.array([0.0, 0.0], "float32"), power=2)
        >>> [round(float(loss), 3) for loss in losses]
        [1.386, 0.288]
    """
    sigmoid, log_of_rest = ops.sigmoid(logits), ops.log_sigmoid(-logits)
    for doubling in range(power.bit_length() - 1):
        log_of_rest = log_of_rest + ops.log1p(sigmoid ** (2**doubling))
    return -ops.where(ops.cast(targets, "bool"), power * ops.log_sigmoid(logits), log_of_rest)


def _positions(tokens: Any, length: Any) -> Any:
    """Return bool [batch, length, 2]: whether each position is among the firsts and lasts [batch, count, 2] above 0."""
    tokens = ops.cast(tokens, "int32")
    found = ops.logical_and(tokens[:, :, None] == ops.arange(length, dtype="int32")[:, None], tokens[:, :, None] > 0)
    return ops.any(found, axis=1)
