"""Next-token probabilities of a language model, from cached keys and values or from the whole sequence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from bert4albert.backend import compiled, compiles
from bert4albert.batches.padding import pad, round_up
from bert4albert.model import Trunk


class Decoder:
    """The compiled functions of one language model; they serve all its batches.

    Arguments:
        trunk: a trunk with the masked-LM head, its application 'lm' or 'unilm'.

    Examples:
        >>> from bert4albert import build_model
        >>> from bert4albert.generation import Decoder
        >>> trunk = build_model("albert_tiny_zh", application="unilm")
        >>> Decoder.of(trunk) is Decoder.of(trunk)
        True
    """

    def __init__(self, trunk: Trunk) -> None:
        self.trunk = trunk
        self.variables = list(trunk.variables)
        self.new_segment = 1 if trunk.config.application == "unilm" else 0
        self.encode = compiled(self._encode, self.variables)
        self.step = compiled(self._step, self.variables)
        self.recompute = compiled(self._recompute, self.variables)

    @classmethod
    def of(cls, trunk: Trunk) -> Decoder:
        """Return the decoder of a trunk's layers, the same at each call so that nothing is compiled twice."""
        known = getattr(trunk.encoder, "_decoder", None)
        if known is None or list(map(id, known.variables)) != list(map(id, trunk.variables)):
            known = trunk.encoder._decoder = cls(trunk)
        return known

    def _encode(self, token_ids: Any, last: Any) -> tuple[Any, Any]:
        """Return the log probabilities after the sources [batch, length], and their keys and values."""
        segment_ids = ops.zeros_like(token_ids)
        mask = self.trunk.get_layer("attention_mask")(token_ids, segment_ids)
        room = self.trunk.encoder.new_cache(*ops.shape(token_ids))
        embedded = self.trunk.embeddings(token_ids, segment_ids)
        encoded = self.trunk.encoder(embedded, mask, cache=room, cache_index=0)
        return self._log_probs(_at(encoded.last, last)), encoded.cache

    def _step(
        self, token_ids: Any, position_ids: Any, visible: Any, index: Any, prefix: Any, cache: Any
    ) -> tuple[Any, Any]:
        """Return the log probabilities after one token a beam [batch, beams], and the updated cache."""
        segment_ids = ops.full_like(token_ids, self.new_segment)
        embedded = self.trunk.embeddings(token_ids, segment_ids, position_ids)
        encoded = self.trunk.encoder(embedded, visible, cache=cache, cache_index=index, prefix=prefix)
        return self._log_probs(encoded.last), encoded.cache

    def _recompute(self, token_ids: Any, segment_ids: Any, last: Any) -> Any:
        """Return the log probabilities after the last token of whole sequences [batch, length]."""
        mask = self.trunk.get_layer("attention_mask")(token_ids, segment_ids)
        encoded = self.trunk.encoder(self.trunk.embeddings(token_ids, segment_ids), mask)
        return self._log_probs(_at(encoded.last, last))

    def _log_probs(self, hidden_states: Any) -> Any:
        return ops.log_softmax(ops.cast(self.trunk.word_logits(hidden_states), "float32"), axis=-1)


class CachedDecoding:
    """Encode the sources once, then feed one token a beam and step.

    The beams of a source are positions of one row, and all of them keep their keys and values in one cache:
    the token of step t and beam k in slot t * num_beams + k. A beam sees the slots of its own ancestors. So
    beams share the source's keys and values, and reordering beams moves a few bits of the mask, no cache.

    Arguments:
        decoder: the model's `Decoder`.
        sources: lists of token ids, none empty.
        num_beams: beams a source.
        max_new_tokens: the most tokens that will be appended.

    Examples:
        >>> import numpy as np
        >>> from bert4albert import build_model
        >>> from bert4albert.generation import CachedDecoding, Decoder
        >>> decoder = Decoder.of(build_model("albert_tiny_zh", application="lm", num_hidden_layers=1))
        >>> decoding = CachedDecoding(decoder, [[2, 100, 101], [2, 102]], num_beams=1, max_new_tokens=8)
        >>> decoding.start().shape
        (2, 1, 8000)
        >>> decoding.advance(parents=np.array([[0], [0]]), tokens=np.array([[103], [104]])).shape
        (2, 1, 8000)
    """

    def __init__(self, decoder: Decoder, sources: Sequence[Sequence[int]], num_beams: int, max_new_tokens: int) -> None:
        self._decoder = decoder
        self._count, self._beams = len(sources), num_beams
        self._token_ids, self._lengths = _padded(decoder, sources)
        # A token with id 0 is padding to the model, whoever wrote it; the first position always counts.
        self._source_visible = self._token_ids != 0
        self._source_visible[:, 0] = True
        slots = round_up(max_new_tokens - 1, 16 if compiles() else 1) * num_beams
        self._visible = np.zeros((len(self._token_ids), num_beams, slots), bool)
        self._steps = 0

    def start(self) -> np.ndarray:
        """Encode the sources; see `Decoding`."""
        log_probs, self._prefix = self._decoder.encode(self._token_ids, self._lengths - 1)
        rows, _, slots = self._visible.shape
        self._cache = self._decoder.trunk.encoder.new_cache(rows, slots)
        return ops.convert_to_numpy(log_probs)[: self._count]

    def advance(self, parents: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """Feed one token a beam; see `Decoding`."""
        parents, tokens = self._all_rows(parents), self._all_rows(tokens)
        first_slot = self._steps * self._beams
        self._visible = np.take_along_axis(self._visible, parents[:, :, None], axis=1)
        beams = np.arange(self._beams)
        self._visible[:, beams, first_slot + beams] = tokens != 0
        source_visible = np.repeat(self._source_visible[:, None], self._beams, axis=1)
        log_probs, self._cache = self._decoder.step(
            tokens,
            np.repeat((self._lengths + self._steps)[:, None], self._beams, axis=1),
            np.concatenate([source_visible, self._visible], axis=-1),
            np.int32(first_slot),
            self._prefix,
            self._cache,
        )
        self._steps += 1
        return ops.convert_to_numpy(log_probs)[: self._count]

    def _all_rows(self, values: np.ndarray) -> np.ndarray:
        """Return the values of the sources with zeros for the rows that only fill up the batch."""
        return np.pad(values.astype("int32"), ((0, len(self._lengths) - self._count), (0, 0)))


class UncachedDecoding:
    """Compute the whole sequence of every beam anew at each step: slow, and what the cache is checked against.

    Arguments:
        decoder: the model's `Decoder`.
        sources: lists of token ids, none empty.
        num_beams: beams a source.

    Examples:
        >>> from bert4albert import build_model
        >>> from bert4albert.generation import Decoder, UncachedDecoding
        >>> decoder = Decoder.of(build_model("albert_tiny_zh", application="lm", num_hidden_layers=1))
        >>> UncachedDecoding(decoder, [[2, 100, 101], [2, 102]], num_beams=1).start().shape
        (2, 1, 8000)
    """

    def __init__(self, decoder: Decoder, sources: Sequence[Sequence[int]], num_beams: int) -> None:
        self._decoder = decoder
        self._sources = sources
        self._new_tokens = np.zeros((len(sources), num_beams, 0), int)

    def start(self) -> np.ndarray:
        """Read the sources; see `Decoding`."""
        return self._log_probs(self._new_tokens[:, :1])

    def advance(self, parents: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """Read sources and new tokens; see `Decoding`."""
        kept = np.take_along_axis(self._new_tokens, parents[:, :, None], axis=1)
        self._new_tokens = np.concatenate([kept, tokens[:, :, None]], axis=-1)
        return self._log_probs(self._new_tokens)

    def _log_probs(self, new_tokens: np.ndarray) -> np.ndarray:
        count, beams, steps = new_tokens.shape
        rows = [
            [*source, *beam] for source, of_source in zip(self._sources, new_tokens, strict=True) for beam in of_source
        ]
        token_ids, lengths = _padded(self._decoder, rows)
        is_new = np.arange(token_ids.shape[1]) >= (lengths - steps)[:, None]
        log_probs = self._decoder.recompute(token_ids, is_new * np.int32(self._decoder.new_segment), lengths - 1)
        return ops.convert_to_numpy(log_probs)[: count * beams].reshape(count, beams, -1)


def _padded(decoder: Decoder, rows: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Return rows as one array, and their lengths; rounded up to few shapes where each one is compiled."""
    lengths = np.array([len(row) for row in rows], "int32")
    if not compiles():
        return pad(rows), lengths
    length = min(round_up(int(lengths.max()), 32), decoder.trunk.config.max_length)
    spare = (round_up(len(rows), 8) if len(rows) > 8 else 1 << (len(rows) - 1).bit_length()) - len(rows)
    return np.pad(pad(rows, length=length), ((0, spare), (0, 0))), np.pad(lengths, (0, spare), constant_values=1)


def _at(hidden_states: Any, positions: Any) -> Any:
    """Return the hidden states of one position a row, [batch, 1, hidden_size]."""
    return ops.take_along_axis(hidden_states, positions[:, None, None], axis=1)
