"""Batches for `fit` on JAX and PyTorch; kept apart since defining it imports Keras."""

from itertools import count
from typing import Any

import keras

from bert4albert.batches.datasets import Batches


class BatchesDataset(keras.utils.PyDataset):
    """The batches of one epoch after the other, as a `keras.utils.PyDataset`.

    Arguments:
        batches: where the batches come from.
    """

    def __init__(self, batches: Batches) -> None:
        super().__init__()
        self._batches = batches
        self._epochs = count(batches.first_epoch)
        self.on_epoch_end()

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        return self._batches.take(self._plan[index])

    def on_epoch_end(self) -> None:
        """Draw the order of the next epoch."""
        self._plan = self._batches.plan(next(self._epochs))
