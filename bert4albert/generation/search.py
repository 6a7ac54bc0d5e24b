"""The search for the best tokens, or draws at random: NumPy alone, over any `Decoding`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from bert4albert.errors import ConfigError, DataError, require_whole

LogitsProcessor = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


class Decoding(Protocol):
    """The growing continuations of a batch of sources, `num_beams` each.

    Examples:
        >>> import numpy as np
        >>> class Counting:  # after each of four tokens most likely comes the next one
        ...     def start(self):
        ...         return np.log(np.float32([[[0.1, 0.7, 0.1, 0.1]]]))
        ...
        ...     def advance(self, parents, tokens):
        ...         return np.log(np.where(np.arange(4) == tokens[:, :, None] + 1, 0.7, 0.1).astype("float32"))
        >>> Counting().advance(np.array([[0]]), np.array([[1]])).argmax(axis=-1).tolist()
        [[2]]
    """

    def start(self) -> np.ndarray:
        """Return the log probabilities of the first new token, float32 [sources, 1, vocab_size]."""

    def advance(self, parents: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """Append a token to each beam, and return the log probabilities of the next one.

        Arguments:
            parents: int [sources, num_beams], the beam that each new beam continues.
            tokens: int [sources, num_beams], the token that it appends.

        Returns:
            float32 [sources, num_beams, vocab_size].
        """


@dataclass(frozen=True)
class Options:
    """The arguments of `generate` that say what to generate; see there.

    Examples:
        >>> from bert4albert.generation import Options
        >>> Options(num_beams=4).draws, Options(top_k=5, seed=1).draws
        (False, True)
    """

    max_new_tokens: int = 32
    end_id: int | None = None
    num_beams: int = 1
    min_new_tokens: int = 0
    top_k: int | None = None
    top_p: float | None = None
    temperature: float | None = None
    seed: int | None = None
    repetition_penalty: float = 1.0
    no_repeat_ngram_size: int | None = None
    logits_processor: LogitsProcessor | None = None
    use_cache: bool = True

    @property
    def draws(self) -> bool:
        """Whether tokens are drawn at random."""
        return not (self.top_k is None and self.top_p is None and self.temperature is None)

    def check(self, vocab_size: int) -> None:
        """Raise `ConfigError` for an option that cannot be used with this vocabulary."""
        require_whole("max_new_tokens", self.max_new_tokens, 1)
        require_whole("num_beams", self.num_beams, 1, vocab_size)
        require_whole("min_new_tokens", self.min_new_tokens, 0, self.max_new_tokens)
        for name, low, high in (
            ("end_id", 0, vocab_size - 1),
            ("top_k", 1, None),
            ("seed", 0, None),
            ("no_repeat_ngram_size", 1, None),
        ):
            if getattr(self, name) is not None:
                require_whole(name, getattr(self, name), low, high)
        for name, most in (("top_p", 1.0), ("temperature", np.inf), ("repetition_penalty", np.inf)):
            value = getattr(self, name)
            if value is not None and not 0 < value <= most:
                bound = "above 0" if most == np.inf else f"above 0 and at most {most:g}"
                raise ConfigError(f"{name} must be {bound}, not {value!r}.")
        if self.draws and self.num_beams > 1:
            raise ConfigError(
                "num_beams searches for the best answer, top_k, top_p and temperature draw one at random; "
                "pass one or the other."
            )


def search(decoding: Decoding, indexes: Sequence[int], options: Options) -> Iterator[Search]:
    """Search for the continuations of a batch of sources.

    Arguments:
        decoding: gives the probabilities of the next tokens, for `options.num_beams` beams a source.
        indexes: what to call each source: its number in messages, for `logits_processor` and for the draws.
        options: what to search for.

    Returns:
        An iterator that gives the state of the search after each step, the same object each time; it ends when
        every source has its answer. Raises `DataError` where no token is left to go on with.

    Examples:
        >>> import numpy as np
        >>> from bert4albert.generation import Options, search
        >>> class Counting:
        ...     def start(self):
        ...         return np.log(np.float32([[[0.1, 0.7, 0.1, 0.1]]]))
        ...
        ...     def advance(self, parents, tokens):
        ...         return np.log(np.where(np.arange(4) == tokens[:, :, None] + 1, 0.7, 0.1).astype("float32"))
        >>> [state.tokens[0, 0].tolist() for state in search(Counting(), [0], Options(end_id=3))]
        [[1], [1, 2], [1, 2, 3]]
    """
    state = Search(indexes, options)
    parents, tokens = state.append(decoding.start())
    yield state
    for _ in range(options.max_new_tokens - 1):
        if state.done:
            return
        parents, tokens = state.append(decoding.advance(parents, tokens))
        yield state


class Search:
    """The state of the search for one batch of sources.

    Arguments:
        indexes: as for `search`.
        options: as for `search`.

    Attributes:
        tokens: int [sources, beams, steps so far], the new tokens of each beam, the best beam first.
        scores: float64 [sources, beams]; -inf for a beam that was dropped, and all beams of a source that is done.
        answers: for each source its new tokens, final where it is done.

    Examples:
        >>> import numpy as np
        >>> from bert4albert.generation import Options, Search
        >>> state = Search([0], Options(num_beams=2))
        >>> parents, tokens = state.append(np.log(np.float32([[[0.2, 0.5, 0.3]]])))
        >>> tokens.tolist(), np.exp(state.scores).round(2).tolist()
        ([[1, 2]], [[0.5, 0.3]])
    """

    def __init__(self, indexes: Sequence[int], options: Options) -> None:
        self._options = options
        self._indexes = np.array(indexes)
        seeds = [None if options.seed is None else [options.seed, index] for index in indexes]
        self._generators = [np.random.default_rng(seed) for seed in seeds]
        self.tokens = np.zeros((len(indexes), 1, 0), "int32")
        self.scores = np.zeros((len(indexes), 1))
        self._widths = np.full(len(indexes), options.num_beams)
        self.answers: list[list[int]] = [[] for _ in indexes]

    @property
    def done(self) -> bool:
        """Whether every source has its answer."""
        return not np.isfinite(self.scores).any()

    def append(self, log_probs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Choose the next token of each beam.

        Arguments:
            log_probs: float32 [sources, beams, vocab_size].

        Returns:
            (parents, tokens), each int [sources, num_beams], as `Decoding.advance` takes them.
        """
        log_probs = self._processed(log_probs)
        if self._options.draws:
            parents, tokens, scores = self._drawn(log_probs)
        else:
            parents, tokens, scores = self._best(log_probs)
        live = np.isfinite(self.scores[:, 0])
        if not np.isfinite(scores[live, 0]).all():
            raise DataError(
                f"Source {self._indexes[live][~np.isfinite(scores[live, 0])][0]} has no token to go on with: "
                "the model's probabilities are not numbers, or logits_processor or no_repeat_ngram_size forbids all."
            )
        scores[np.arange(scores.shape[1]) >= self._widths[:, None]] = -np.inf
        kept = np.take_along_axis(self.tokens, parents[:, :, None], axis=1)
        self.tokens = np.concatenate([kept, tokens[:, :, None]], axis=-1)
        self.scores = scores
        self._settle(live, tokens == self._options.end_id)
        return parents, tokens

    def _settle(self, live: np.ndarray, ended: np.ndarray) -> None:
        """Take the answers of sources whose best beam has ended, and drop the other beams that have."""
        for row in np.flatnonzero(live):
            self.answers[row] = self.tokens[row, 0].tolist()
        self.scores[ended] = -np.inf
        self.scores[ended[:, 0]] = -np.inf
        self._widths = np.isfinite(self.scores).sum(axis=1)

    def _best(self, log_probs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return parents, tokens and scores of the best continuations of all beams of each source."""
        beams = self._options.num_beams
        tokens = _largest(log_probs, beams)
        scores = self.scores[:, :, None] + np.take_along_axis(log_probs, tokens, axis=-1)
        scores, tokens = scores.reshape(len(scores), -1), tokens.reshape(len(tokens), -1)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :beams]
        return order // beams, np.take_along_axis(tokens, order, axis=1), np.take_along_axis(scores, order, axis=1)

    def _drawn(self, log_probs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return parents, tokens and scores of one continuation drawn for each source."""
        tokens = np.zeros((len(log_probs), 1), int)
        for row in np.flatnonzero(np.isfinite(self.scores[:, 0] + log_probs[:, 0].max(axis=-1))):
            tokens[row] = _draw(log_probs[row, 0], self._options, self._generators[row])
        scores = self.scores + np.take_along_axis(log_probs[:, 0], tokens, axis=1)
        return np.zeros_like(tokens), tokens, scores

    def _processed(self, log_probs: np.ndarray) -> np.ndarray:
        """Return the log probabilities after the length limit, the control of repetition, and the user's function."""
        options = self._options
        too_short = options.end_id is not None and self.tokens.shape[2] + 1 < options.min_new_tokens
        controlled = options.repetition_penalty != 1 or options.no_repeat_ngram_size or options.logits_processor
        if not (too_short or controlled):
            return log_probs
        live = np.isfinite(self.scores)
        rows, new_tokens = log_probs[live], self.tokens[live]
        if too_short:
            rows[:, options.end_id] = -np.inf
        penalised = np.take_along_axis(rows, new_tokens, axis=1) * np.float32(options.repetition_penalty)
        np.put_along_axis(rows, new_tokens, penalised, axis=1)
        if options.no_repeat_ngram_size:
            for row, beam in zip(rows, new_tokens.tolist(), strict=True):
                row[_repeating(beam, options.no_repeat_ngram_size)] = -np.inf
        if options.logits_processor:
            given = rows.shape
            rows = np.asarray(options.logits_processor(rows, new_tokens, self._indexes[np.nonzero(live)[0]]))
            if rows.shape != given:
                raise ConfigError(f"logits_processor got log_probs of shape {given} and returned {rows.shape}.")
        processed = np.full_like(log_probs, -np.inf)
        processed[live] = rows
        return processed


def _largest(values: np.ndarray, count: int) -> np.ndarray:
    """Return the indices of the largest values along the last axis, the largest first."""
    found = [values.argmax(axis=-1)]
    # NumPy finds a maximum so much faster than it partitions that a few passes win.
    values = values.copy() if count > 1 else values
    for _ in range(count - 1):
        np.put_along_axis(values, found[-1][..., None], -np.inf, axis=-1)
        found.append(values.argmax(axis=-1))
    return np.stack(found, axis=-1)


def _draw(log_probs: np.ndarray, options: Options, generator: np.random.Generator) -> int:
    """Return a token drawn from log probabilities [vocab_size], which need not be normalised."""
    scaled = log_probs.astype("float64") / (options.temperature or 1.0)
    tokens = np.arange(len(scaled))
    if options.top_k is not None and options.top_k < len(scaled):
        tokens = np.argpartition(scaled, -options.top_k)[-options.top_k :]
    probs = _normalised(scaled[tokens])
    if options.top_p is not None:
        # All tokens below this bound together stay under 1 - top_p: only the others need sorting.
        likely = np.flatnonzero(probs >= (1 - options.top_p) / len(probs))
        order = likely[np.argsort(-probs[likely])]
        before = np.cumsum(probs[order]) - probs[order]
        order = order[before < options.top_p]
        tokens, probs = tokens[order], probs[order]
    sums = np.cumsum(probs)
    drawn = np.searchsorted(sums, generator.random() * sums[-1], side="right")
    return int(tokens[min(drawn, len(tokens) - 1)])


def _normalised(log_probs: np.ndarray) -> np.ndarray:
    probs = np.exp(log_probs - log_probs.max())
    return probs / probs.sum()


def _repeating(tokens: list[int], size: int) -> list[int]:
    """Return the tokens that would make the last `size` tokens a sequence that has occurred before."""
    last = tokens[len(tokens) - size + 1 :]
    return [
        tokens[start + size - 1] for start in range(len(tokens) - size + 1) if tokens[start : start + size - 1] == last
    ]
