"""What pretraining minimises: masked-LM loss plus sentence-order loss, and perhaps the distance to a teacher."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from keras import ops

from bert4albert.errors import ConfigError
from bert4albert.heads.pooling import MeanPooling
from bert4albert.model import Trunk
from bert4albert.pretraining.teacher import TeacherBatch

_METRICS = ("mlm_loss", "mlm_accuracy", "sop_loss", "sop_accuracy")
_TEACHER_METRICS = ("vector_cosine", "similarity_loss")
# The penalty of the regression that the layer before the vectors begins as, in variances of a state.
_RIDGE = 0.01


class Pretraining(keras.Model):
    """A trunk with its two heads and ALBERT's pretraining loss, and perhaps a teacher's vectors.

    Arguments:
        trunk: built with `with_nsp=True, with_mlm='linear', masked_positions=True`.
        vector_size: the numbers in a teacher's vector; None to learn without a teacher.
        vector_weight: how much the teacher counts in the loss.
        temperature: what cosines are divided by before a softmax makes shares of them.
        seed: decides how the layer between the trunk and the teacher begins.

    It is trained on `x = [token_ids, segment_ids, masked_positions]` and
    `y = [masked_ids, masked_weights, sentence_order]`, as `examples.Batch` describes them; the outputs are
    float32 logits, [batch, 2] and [batch, count, vocab_size]. The loss is Google's (run_pretraining.py):
    sum(weights * loss) / (sum(weights) + 1e-5) over masked tokens, plus the mean over rows of the order loss.

    With a teacher `passage_ids` come last in `x` and `vectors` last in `y`, as `teacher.TeacherBatch` describes
    them. The mean of a passage's last states, through one linear map that is no part of the trunk, learns to
    point where its vector points (1 - cosine); and the states' cosines with the other passages of the batch,
    divided by the temperature, learn to be the vectors' (Kullback-Leibler divergence of their softmax).
    """

    def __init__(
        self,
        trunk: Trunk,
        vector_size: int | None = None,
        vector_weight: float = 1.0,
        temperature: float = 0.1,
        seed: int = 0,
    ) -> None:
        config = trunk.config
        if not (config.with_nsp and config.with_mlm == "linear" and config.masked_positions):
            raise ConfigError(
                "Pretraining needs a trunk built with with_nsp=True, with_mlm='linear', masked_positions=True."
            )
        # The head's own softmax would have to be undone, in whatever precision it was computed.
        pooled = trunk.get_layer("pooler").output
        inputs, outputs = [*trunk.inputs], [trunk.get_layer("sentence").dense(pooled), trunk.outputs[-1]]
        if vector_size is not None:
            passage_ids = keras.Input((None,), dtype="int32", name="passage_ids")
            last_states = keras.Model(trunk.inputs[:2], trunk.hidden_states[-1], name="last_states")
            states = last_states([passage_ids, ops.zeros_like(passage_ids)])
            mean = MeanPooling(dtype="float32", name="passage_mean")(states, passage_ids)
            # Fixed before the first step. Without it every step of the layer would move all vectors alike, along
            # what the states of all passages have in common.
            standard = keras.layers.BatchNormalization(
                center=False, scale=False, epsilon=1e-6, trainable=False, dtype="float32", name="passage_standard"
            )
            kernel = keras.initializers.GlorotUniform(seed)
            vector = keras.layers.Dense(vector_size, kernel_initializer=kernel, dtype="float32", name="vector")
            inputs.append(passage_ids)
            states = standard(mean)
            outputs += [vector(states), states]
        super().__init__(inputs=inputs, outputs=outputs, name="pretraining")
        self.trunk = trunk
        self.vector_weight, self.temperature = vector_weight, temperature
        names = _METRICS if vector_size is None else _METRICS + _TEACHER_METRICS
        self.averages = {name: keras.metrics.Mean(name) for name in names}

    def fit_vector_layer(self, batches: Iterable[TeacherBatch]) -> None:
        """Let the layer before the vectors begin as the ridge regression that predicts them from today's states.

        From a random one the states would be pulled in random directions until it has learnt.
        """
        states, vectors = [], []
        mean = keras.Model(self.inputs[-1], self.get_layer("passage_mean").output)
        for batch in batches:
            states.append(ops.convert_to_numpy(mean.predict_on_batch(batch.passage_ids)))
            vectors.append(batch.vectors)
        x, y = np.concatenate(states).astype(np.float64), np.concatenate(vectors).astype(np.float64)
        standard = self.get_layer("passage_standard")
        standard.set_weights([x.mean(axis=0), x.var(axis=0)])
        x = (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + standard.epsilon)
        kernel = np.linalg.solve(x.T @ x + _RIDGE * len(x) * np.eye(x.shape[1]), x.T @ (y - y.mean(axis=0)))
        self.get_layer("vector").set_weights([kernel, y.mean(axis=0)])

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """Return the total loss of a batch, and note its parts and accuracies."""
        # On PyTorch Keras leaves a list of targets as NumPy arrays.
        masked_ids, masked_weights, sentence_order, *vectors = map(ops.convert_to_tensor, y)
        order_logits, masked_logits, *predicted = (ops.cast(output, "float32") for output in y_pred)
        masked_loss = ops.sum(masked_weights * _cross_entropy(masked_ids, masked_logits))
        masked_loss = masked_loss / (ops.sum(masked_weights) + 1e-5)
        order_loss = ops.mean(_cross_entropy(sentence_order, order_logits))
        self.averages["mlm_loss"].update_state(masked_loss)
        self.averages["mlm_accuracy"].update_state(_correct(masked_ids, masked_logits), masked_weights)
        self.averages["sop_loss"].update_state(order_loss)
        self.averages["sop_accuracy"].update_state(_correct(sentence_order, order_logits))
        loss = masked_loss + order_loss
        return loss + self.vector_weight * self._teacher_loss(*vectors, *predicted) if vectors else loss

    def _teacher_loss(self, vectors: Any, predicted: Any, states: Any) -> Any:
        # [passages, size] and [passages, hidden_size]
        predicted, states = ops.normalize(predicted, axis=-1), ops.normalize(states, axis=-1)
        cosine = ops.mean(ops.sum(predicted * vectors, axis=-1))
        # Of the states and not of what is predicted from them: a classifier on them finds the same neighbours then.
        similarity_loss = _divergence(_similarities(vectors), _similarities(states), self.temperature)
        self.averages["vector_cosine"].update_state(cosine)
        self.averages["similarity_loss"].update_state(similarity_loss)
        return 1 - cosine + similarity_loss


def _similarities(vectors: Any) -> Any:
    """Return the cosines of vectors of length 1 with each other, and hide those with themselves."""
    itself = 1e9 * ops.eye(ops.shape(vectors)[0], dtype="float32")
    return ops.matmul(vectors, ops.transpose(vectors)) - itself


def _divergence(expected: Any, predicted: Any, temperature: float) -> Any:
    """Return how far the shares that similarities make are apart, the mean over the rows."""
    expected, predicted = (ops.log_softmax(cosines / temperature, axis=-1) for cosines in (expected, predicted))
    return ops.mean(ops.sum(ops.exp(expected) * (expected - predicted), axis=-1))


def _cross_entropy(labels: Any, logits: Any) -> Any:
    return ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)


def _correct(labels: Any, logits: Any) -> Any:
    return ops.cast(ops.equal(ops.argmax(logits, axis=-1), ops.cast(labels, "int32")), "float32")
