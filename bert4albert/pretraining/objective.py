"""What pretraining minimises: masked-LM loss plus sentence-order loss."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from bert4albert.errors import ConfigError
from bert4albert.model import Trunk

_METRICS = ("mlm_loss", "mlm_accuracy", "sop_loss", "sop_accuracy")


class Pretraining(keras.Model):
    """A trunk with its two heads and ALBERT's pretraining loss.

    Arguments:
        trunk: built with `with_nsp=True, with_mlm='linear', masked_positions=True`.

    It is trained on `x = [token_ids, segment_ids, masked_positions]` and
    `y = [masked_ids, masked_weights, sentence_order]`, as `examples.Batch` describes them; the outputs are
    float32 logits, [batch, 2] and [batch, count, vocab_size]. The loss is Google's (run_pretraining.py):
    sum(weights * loss) / (sum(weights) + 1e-5) over masked tokens, plus the mean over rows of the order loss.
    """

    def __init__(self, trunk: Trunk) -> None:
        config = trunk.config
        if not (config.with_nsp and config.with_mlm == "linear" and config.masked_positions):
            raise ConfigError(
                "Pretraining needs a trunk built with with_nsp=True, with_mlm='linear', masked_positions=True."
            )
        # The head's own softmax would have to be undone, in whatever precision it was computed.
        pooled = trunk.get_layer("pooler").output
        order_logits = trunk.get_layer("sentence").dense(pooled)
        super().__init__(inputs=trunk.inputs, outputs=[order_logits, trunk.outputs[-1]], name="pretraining")
        self.trunk = trunk
        self.averages = {name: keras.metrics.Mean(name) for name in _METRICS}

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
        masked_ids, masked_weights, sentence_order = map(ops.convert_to_tensor, y)
        order_logits, masked_logits = (ops.cast(logits, "float32") for logits in y_pred)
        masked_loss = ops.sum(masked_weights * _cross_entropy(masked_ids, masked_logits))
        masked_loss = masked_loss / (ops.sum(masked_weights) + 1e-5)
        order_loss = ops.mean(_cross_entropy(sentence_order, order_logits))
        self.averages["mlm_loss"].update_state(masked_loss)
        self.averages["mlm_accuracy"].update_state(_correct(masked_ids, masked_logits), masked_weights)
        self.averages["sop_loss"].update_state(order_loss)
        self.averages["sop_accuracy"].update_state(_correct(sentence_order, order_logits))
        return masked_loss + order_loss


def _cross_entropy(labels: Any, logits: Any) -> Any:
    return ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)


def _correct(labels: Any, logits: Any) -> Any:
    return ops.cast(ops.equal(ops.argmax(logits, axis=-1), ops.cast(labels, "int32")), "float32")
