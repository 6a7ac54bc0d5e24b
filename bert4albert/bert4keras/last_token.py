"""What predicts the last position's output: with the keys and values of earlier calls, where that is possible."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from bert4albert.bert4keras import keras_history
from bert4albert.bert4keras.layers.losses import Loss
from bert4albert.bert4keras.symbolic import one_or_list
from bert4albert.generation import CachedDecoding, Decoder


class LastToken:
    """Predict the output of the last position only.

    Where the model's output are the word probabilities of `build_transformer_model(application='lm' or 'unilm')`, and
    a call continues the rows of the call before by a token each, the keys and values of all earlier tokens are taken
    from memory. The result is that of the whole model.

    Arguments:
        model: a model whose outputs are [batch, length, ...].
    """

    def __init__(self, model: keras.Model) -> None:
        self.model = model
        self.expected_rows, self.expected_steps = 1, 1
        outputs = [keras.layers.Lambda(lambda x: x[:, -1])(output) for output in model.outputs]
        self._general = keras.Model(model.inputs, one_or_list(outputs))
        self._trunk = trunk_of_probabilities(model)
        self._decoding: CachedDecoding | None = None
        self._beams = 1
        self._rows = np.zeros((0, 0), int)

    def predict(self, x: Any, **kwargs: Any) -> Any:
        """Return the output at the last position, [batch, ...]."""
        log_probs = None if self._trunk is None or kwargs else self._from_memory(x)
        if log_probs is not None:
            return np.exp(log_probs)
        return self._general.predict(x, **{"verbose": 0, **kwargs})

    def forget(self) -> None:
        """Take nothing from memory at the next call: a new search begins."""
        self._rows = np.zeros((0, 0), int)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_general"], name)

    def _from_memory(self, x: Any) -> np.ndarray | None:
        """Return log probabilities; None where memory is of no use."""
        token_ids = np.asarray(x[0] if isinstance(x, (list, tuple)) else x)
        if token_ids.ndim != 2 or not self._is_plain(token_ids, x):
            return None
        parents = self._parents(token_ids)
        if parents is not None:
            assert self._decoding is not None
            spare = ((0, 0), (0, self._beams - len(token_ids)))
            log_probs = self._decoding.advance(np.pad(parents[None], spare), np.pad(token_ids[None, :, -1], spare))
            self._rows, self._places = token_ids, np.arange(len(token_ids))
            return log_probs[0, : len(token_ids)]
        if len(token_ids) != 1 or not token_ids[0, -1]:
            return None
        self._beams, self._places = self.expected_rows, np.zeros(1, int)
        self._source = token_ids.shape[1]
        self._steps = self.expected_steps
        self._decoding = CachedDecoding(Decoder.of(self._trunk), [token_ids[0].tolist()], self._beams, self._steps)
        self._rows = token_ids
        return self._decoding.start()[0]

    def _parents(self, token_ids: np.ndarray) -> np.ndarray | None:
        """Return which row of the call before each row continues; None unless all do."""
        length, count = token_ids.shape[1], len(token_ids)
        grown = length - 1 == self._rows.shape[1] and length - self._source < self._steps if len(self._rows) else False
        if not grown or count > self._beams:
            return None
        same = (token_ids[:, None, :-1] == self._rows[None]).all(axis=-1)
        return self._places[same.argmax(axis=1)] if same.any(axis=1).all() else None

    def _is_plain(self, token_ids: np.ndarray, x: Any) -> bool:
        """Whether the segments are those that cached decoding takes for granted, and there are positions left."""
        if token_ids.shape[1] > self._trunk.config.max_length:
            return False
        if len(self.model.inputs) == 1:
            return True
        segments = np.asarray(x[1])
        if segments.shape != token_ids.shape:
            return False
        if self._trunk.config.application == "lm":
            return not segments.any()
        first_call = self._rows.shape[1] + 1 != token_ids.shape[1] or not len(self._rows)
        new = np.arange(token_ids.shape[1]) >= (token_ids.shape[1] if first_call else self._source)
        return bool((segments == new).all())


def trunk_of_probabilities(model: keras.Model) -> Any:
    """Return the trunk whose word probabilities a model gives, from the trunk's own inputs; None for other models."""
    if len(model.outputs) != 1:
        return None
    tensor = model.outputs[0]
    layer = keras_history.layer_of(tensor)
    while isinstance(layer, Loss) and isinstance(layer.output_axis, int):
        tensor = keras_history.inputs_of(tensor)[layer.output_axis]
        layer = keras_history.layer_of(tensor)
    before = next((one for one in keras_history.layers_before(tensor) if getattr(one, "drawn_by", None)), None)
    if before is None or layer is None:
        return None
    bert = before.drawn_by[0]
    own = tensor is bert.outputs[-1] and [id(item) for item in model.inputs] == [id(item) for item in bert.inputs]
    suits = bert.config.application != "encoder" and bert.config.with_mlm == "softmax"
    plain = bert.has_segments and len(bert.inputs) == 2 and bert._condition is None
    return bert.trunk if own and suits and plain else None
