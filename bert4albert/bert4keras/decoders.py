"""`ViterbiDecoder` and `AutoRegressiveDecoder`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from bert4albert.bert4keras.last_token import LastToken
from bert4albert.errors import require_choice


def softmax(x: np.ndarray, axis: int = -1) -> np.ndarray:
    """Return exp(x) / sum(exp(x)) of an array."""
    x = np.exp(x - x.max(axis=axis, keepdims=True))
    return x / x.sum(axis=axis, keepdims=True)


class ViterbiDecoder:
    """Find the best path of labels.

    Arguments:
        trans: [labels, labels], the score of going from row to column.
        starts, ends: the labels that a path may start and end with; None for all.
    """

    def __init__(self, trans: Any, starts: Any = None, ends: Any = None) -> None:
        self.trans = trans
        self.num_labels = len(trans)
        labels = range(self.num_labels)
        self.non_starts = [label for label in labels if starts is not None and label not in starts]
        self.non_ends = [label for label in labels if ends is not None and label not in ends]

    def decode(self, nodes: np.ndarray) -> np.ndarray:
        """Return the best labels [length] for scores [length, labels], which are changed at their ends."""
        nodes[0, self.non_starts] -= np.inf
        nodes[-1, self.non_ends] -= np.inf
        scores, came_from = nodes[0], []
        for node in nodes[1:]:
            candidates = scores[:, None] + self.trans + node
            came_from.append(candidates.argmax(axis=0))
            scores = candidates.max(axis=0)
        path = [int(scores.argmax())]
        for before in reversed(came_from):
            path.append(int(before[path[-1]]))
        return np.array(path[::-1])


class AutoRegressiveDecoder:
    """Generate token by token; a script says in `predict` what comes next.

    Arguments:
        start_id: the first token; None to start from nothing.
        end_id: the token that ends an answer.
        maxlen: the most tokens to generate.
        minlen: no answer ends before it has so many tokens.
    """

    def __init__(self, start_id: int | None, end_id: int, maxlen: int, minlen: int = 1) -> None:
        self.start_id, self.end_id, self.maxlen, self.minlen = start_id, end_id, maxlen, minlen
        self.models: dict[Any, LastToken] = {}
        self.first_output_ids = np.empty((1, 0), int) if start_id is None else np.array([[start_id]])
        self._rows = 1

    @staticmethod
    def wraps(default_rtype: str = "probas", use_states: bool = False) -> Callable[..., Any]:
        """Decorate `predict(self, inputs, output_ids, states)`, so that searches can ask for what they need.

        Arguments:
            default_rtype: what `predict` returns: 'probas', or 'logits'.
            use_states: whether it returns the pair (that, states).
        """

        def decorate(predict: Callable[..., Any]) -> Callable[..., Any]:
            def wrapped(
                self: Any,
                inputs: Any,
                output_ids: Any,
                states: Any,
                temperature: float = 1,
                rtype: str = default_rtype,
            ) -> tuple[np.ndarray, Any]:
                require_choice("rtype", rtype, ("probas", "logits"))
                prediction = predict(self, inputs, output_ids, states)
                scores, states = prediction if use_states else (prediction, None)
                if default_rtype == "logits":
                    scores = softmax(scores / temperature)
                elif temperature != 1:
                    scores = np.power(scores, 1.0 / temperature)
                    scores = scores / scores.sum(axis=-1, keepdims=True)
                return (scores if rtype == "probas" else np.log(scores + 1e-12)), states

            return wrapped

        return decorate

    def last_token(self, model: keras.Model) -> LastToken:
        """Return what predicts the output of the last position only."""
        if model not in self.models:
            self.models[model] = LastToken(model)
        self.models[model].expected_rows = self._rows
        self.models[model].expected_steps = self.maxlen
        return self.models[model]

    def _begin(self, rows: int) -> None:
        """Begin a search with this many rows."""
        self._rows = rows
        for model in self.models.values():
            model.forget()

    def predict(self, inputs: Any, output_ids: Any, states: Any = None, *_: Any) -> Any:
        """Return the probabilities of the next token of each row; decorate it with `wraps`."""
        raise NotImplementedError("A decoder needs a method predict(self, inputs, output_ids, states).")

    def beam_search(
        self, inputs: Sequence[Any], topk: int, states: Any = None, temperature: float = 1, min_ends: int = 1
    ) -> np.ndarray:
        """Return the best answer that a beam search finds.

        Arguments:
            inputs: what `predict` gets, each for one row.
            topk: how many beams.
            states: the first states of `predict`.
            temperature: divides the scores.
            min_ends: how many end tokens an answer must have.
        """
        self._begin(topk)
        inputs = [np.array([item]) for item in inputs]
        output_ids, output_scores = self.first_output_ids, np.zeros(1)
        for step in range(self.maxlen):
            scores, states = self.predict(inputs, output_ids, states, temperature, "logits")
            if step == 0:
                inputs = [np.repeat(item, topk, axis=0) for item in inputs]
            scores = output_scores.reshape((-1, 1)) + scores
            best = scores.argpartition(-topk, axis=None)[-topk:]
            rows, tokens = best // scores.shape[1], best % scores.shape[1]
            output_ids = np.concatenate([output_ids[rows], tokens[:, None]], axis=1)
            output_scores = np.take_along_axis(scores, best, axis=None)
            if output_ids.shape[1] < self.minlen:
                continue
            ended = (output_ids[:, -1] == self.end_id) & ((output_ids == self.end_id).sum(axis=1) >= min_ends)
            if ended[output_scores.argmax()]:
                break
            if ended.any():
                inputs = [item[~ended] for item in inputs]
                output_ids, output_scores = output_ids[~ended], output_scores[~ended]
                topk = len(output_ids)
        return output_ids[output_scores.argmax()]

    def random_sample(
        self,
        inputs: Sequence[Any],
        n: int,
        topk: int | None = None,
        topp: float | None = None,
        states: Any = None,
        temperature: float = 1,
        min_ends: int = 1,
    ) -> list[np.ndarray]:
        """Return `n` answers drawn at random, by NumPy's generator.

        Arguments:
            inputs, states, temperature, min_ends: as for `beam_search`.
            topk: draw among this many most probable tokens.
            topp: draw among the most probable tokens that together reach this probability.
        """
        self._begin(n)
        inputs = [np.array([item]) for item in inputs]
        output_ids, answers = self.first_output_ids, []
        for step in range(self.maxlen):
            probas, states = self.predict(inputs, output_ids, states, temperature, "probas")
            probas = probas / probas.sum(axis=1, keepdims=True)
            if step == 0:
                probas = np.repeat(probas, n, axis=0)
                inputs = [np.repeat(item, n, axis=0) for item in inputs]
                output_ids = np.repeat(output_ids, n, axis=0)
            output_ids = np.concatenate([output_ids, _drawn(probas, topk, topp)], axis=1)
            if output_ids.shape[1] < self.minlen:
                continue
            ended = (output_ids[:, -1] == self.end_id) & ((output_ids == self.end_id).sum(axis=1) >= min_ends)
            if ended.any():
                answers += list(output_ids[ended])
                inputs = [item[~ended] for item in inputs]
                output_ids = output_ids[~ended]
                if len(output_ids) == 0:
                    break
        return [*answers, *output_ids]


def _drawn(probas: np.ndarray, topk: int | None, topp: float | None) -> np.ndarray:
    """Return a token for each row of probabilities, [rows, 1]."""
    chosen = []
    if topk is not None:
        chosen.append(probas.argpartition(-topk, axis=1)[:, -topk:])
        probas = np.take_along_axis(probas, chosen[-1], axis=1)
        probas = probas / probas.sum(axis=1, keepdims=True)
    if topp is not None:
        chosen.append(probas.argsort(axis=1)[:, ::-1])
        probas = np.take_along_axis(probas, chosen[-1], axis=1)
        reached = np.cumsum(probas, axis=1) >= topp
        # Everything after the token that reaches it.
        beyond = np.concatenate([np.zeros_like(reached[:, :1]), reached[:, :-1]], axis=1)
        probas = np.where(beyond, 0, probas)
        probas = probas / probas.sum(axis=1, keepdims=True)
    tokens = np.apply_along_axis(lambda p: np.random.choice(len(p), p=p), 1, probas)[:, None]
    for indices in reversed(chosen):
        tokens = np.take_along_axis(indices, tokens, axis=1)
    return tokens
