"""What predicts the last position's output, with the keys and values of earlier calls where that is possible."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np


class LastToken:
    """Predict the output of the last position only.

    Arguments:
        model: a model whose outputs are [batch, length, ...].
    """

    def __init__(self, model: keras.Model) -> None:
        self.model = model
        self.expected_rows, self.expected_steps = 1, 1
        outputs = [keras.layers.Lambda(lambda x: x[:, -1])(output) for output in model.outputs]
        self._general = keras.Model(model.inputs, outputs[0] if len(outputs) == 1 else outputs)

    def predict(self, x: Any, **kwargs: Any) -> Any:
        """Return the output at the last position, [batch, ...]."""
        kwargs.setdefault("verbose", 0)
        return self._general.predict(x, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_general"], name)


_ = np
