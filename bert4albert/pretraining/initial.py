"""The weights that pretraining starts from."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

from bert4albert.model import Trunk


def start_from_seed(trunk: Trunk, seed: int) -> None:
    """Draw the weights and start the dropout anew, from the seed alone and without touching any global state.

    Weights are truncated normal as in BERT, but position embeddings are sinusoids of the same size
    (arXiv:1706.03762, section 3.5) and keys are copies of queries. So positions attend to their neighbours from
    the first step on; from random ones a short run spends most of its time on finding out who is near.

    Arguments:
        trunk: the model; all its weights are replaced, biases and norms excepted.
        seed: a whole number; the same one gives the same weights on the same backend.
    """
    deviation = trunk.config.initializer_range
    for index, (_, weight) in enumerate(trunk.named_weights()):
        if len(weight.shape) > 1:
            initial = keras.initializers.TruncatedNormal(stddev=deviation, seed=seed * 1_000_003 + index)
            weight.assign(initial(weight.shape))
    positions = trunk.embeddings.position.embeddings
    positions.assign(deviation * np.sqrt(2) * _sinusoids(*positions.shape))
    for block in trunk.encoder.blocks:
        block.attention.key.kernel.assign(ops.copy(block.attention.query.kernel))
    for index, variable in enumerate(trunk.non_trainable_variables):
        variable.assign(np.array([seed, index], variable.dtype))


def _sinusoids(count: int, size: int) -> np.ndarray:
    """Return [count, size]: each pair of columns turns at its own speed."""
    column = np.arange(size)
    angle = np.arange(count)[:, None] / 10_000 ** (2 * (column // 2) / size)
    return np.where(column % 2 == 0, np.sin(angle), np.cos(angle)).astype("float32")
