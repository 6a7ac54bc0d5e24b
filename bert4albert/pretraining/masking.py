"""Which tokens a model has to guess, and what it sees in their place."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bert4albert.text import Tokenizer

# ALBERT (arXiv:1909.11942, section 3.1): a span of n tokens has probability proportional to 1/n, n up to 3.
SPAN_PROBABILITIES = np.array([6, 3, 2]) / 11
_MEAN_SPAN_OVERSHOOT = 0.5


@dataclass(frozen=True)
class Masking:
    """How tokens are hidden: spans of 1 to 3 until `rate` of them are; 80 % [MASK], 10 % random, 10 % kept.

    Attributes:
        mask_id: the id of [MASK].
        ordinary_ids: the ids a random token is drawn from: all but the special ones.
        special_ids: ids that are never hidden.
        rate: the share of ordinary tokens to hide.
    """

    mask_id: int
    ordinary_ids: np.ndarray
    special_ids: np.ndarray
    rate: float = 0.15

    @classmethod
    def of(cls, tokenizer: Tokenizer, rate: float = 0.15) -> Masking:
        """Return the masking for a vocabulary; `TokenizerError` if it has no [MASK]."""
        special = {tokenizer.pad_id, tokenizer.unk_id, tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id}
        special |= {index for token, index in tokenizer.vocab.items() if token.startswith("[unused")}
        special_ids = np.array(sorted(special), np.int32)
        ordinary_ids = np.setdiff1d(np.arange(tokenizer.vocab_size, dtype=np.int32), special_ids)
        return cls(tokenizer.mask_id, ordinary_ids, special_ids, rate)

    def capacity(self, length: int) -> int:
        """Return the most positions that rows of this length can have hidden."""
        return int(self.rate * length) + len(SPAN_PROBABILITIES)

    def __call__(
        self, token_ids: np.ndarray, random: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Hide tokens of a batch.

        Arguments:
            token_ids: int32 [batch, length].
            random: where the dice come from.

        Returns:
            `(token_ids, masked_positions, masked_ids, masked_weights)`: what the model sees [batch, length];
            the hidden positions in order, what stood there, and 1.0 for each, [batch, capacity]; zeros behind.
        """
        hidden = self.choose(token_ids, random)
        positions, weights = _positions_of(hidden, self.capacity(token_ids.shape[1]))
        masked_ids = np.where(weights > 0, np.take_along_axis(token_ids, positions, axis=1), 0)
        dice = random.random(token_ids.shape)
        random_ids = random.choice(self.ordinary_ids, token_ids.shape)
        replacement = np.where(dice < 0.8, self.mask_id, np.where(dice < 0.9, random_ids, token_ids))
        return np.where(hidden, replacement, token_ids).astype(np.int32), positions, masked_ids, weights

    def choose(self, token_ids: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Return which tokens to hide, bool [batch, length]; at least one in every row that has an ordinary one.

        Spans are placed one after the other at random free places until a row has hidden as many tokens as it
        should. The last span may go beyond, by half a token on average, which the row's target allows for; so
        both the rate and the lengths of spans are exact on average, which cutting the last span would spoil.
        """
        free = ~np.isin(token_ids, self.special_ids)
        hidden = np.zeros_like(free)
        wanted = self.rate * free.sum(axis=1) - _MEAN_SPAN_OVERSHOOT + random.random(len(free))
        wanted = np.maximum(np.floor(wanted), 1)
        rows = np.flatnonzero(free.any(axis=1))
        while len(rows):
            lengths = random.choice(len(SPAN_PROBABILITIES), len(rows), p=SPAN_PROBABILITIES) + 1
            spans = _place(free[rows], lengths, random)
            hidden[rows] |= spans
            free[rows] &= ~spans
            rows = rows[(hidden[rows].sum(axis=1) < wanted[rows]) & free[rows].any(axis=1)]
        return hidden


def _place(free: np.ndarray, lengths: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return one span a row, bool like `free`: `lengths[row]` free tokens, or fewer where no such gap is left."""
    fits = [free]
    for extra in range(1, len(SPAN_PROBABILITIES)):
        longer = np.zeros_like(free)
        longer[:, :-extra] = fits[-1][:, :-extra] & free[:, extra:]
        fits.append(longer)
    longest = np.sum([fit.any(axis=1) for fit in fits], axis=0)
    lengths = np.minimum(lengths, longest)
    starts = np.stack(fits)[lengths - 1, np.arange(len(free))]
    start = np.argmax(random.random(free.shape, np.float32) * starts, axis=1)[:, None]
    place = np.arange(free.shape[1])
    return (place >= start) & (place < start + lengths[:, None])


def _positions_of(hidden: np.ndarray, capacity: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the places of True in each row, int32 [batch, capacity], and 1.0 for each, 0 behind them."""
    order = np.argsort(~hidden, axis=1, kind="stable")[:, :capacity]
    weights = np.take_along_axis(hidden, order, axis=1)
    return np.where(weights, order, 0).astype(np.int32), weights.astype(np.float32)
