"""Examples for pretraining: two consecutive segments, half of them swapped, from the shards of a corpus."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from bert4albert.errors import DataError
from bert4albert.pretraining.masking import Masking
from bert4albert.pretraining.shards import Shards
from bert4albert.text import Tokenizer

# What a random stream is for; every stream starts anew from (seed, purpose, epoch, place).
_CUTTING, _SHUFFLING, _MASKING = range(3)


class Place(NamedTuple):
    """A place in the order of the data: everything that comes after it follows from it and the seed."""

    epoch: int = 0
    batch: int = 0


class Batch(NamedTuple):
    """What one training step sees; integers are int32, weights float32.

    Attributes:
        token_ids: [batch, length].
        segment_ids: [batch, length].
        masked_positions: [batch, capacity].
        masked_ids: [batch, capacity], what stood there.
        masked_weights: [batch, capacity], 1, and 0 for the unused ones.
        sentence_order: [batch], 0 in order, 1 swapped.
    """

    token_ids: np.ndarray
    segment_ids: np.ndarray
    masked_positions: np.ndarray
    masked_ids: np.ndarray
    masked_weights: np.ndarray
    sentence_order: np.ndarray


class Examples:
    """The examples of a tokenised corpus, cut anew, shuffled anew and masked anew in every epoch.

    Segments are filled across sentences up to the length, a tenth of them only up to a random shorter one,
    and cut in two at the end of a sentence (a lone long sentence in its middle); the second part comes first
    in half of the examples (arXiv:1909.11942, section 3.1; Google's create_pretraining_data.py).
    The order and the masks follow from (seed, epoch, batch) alone, so that a run can start anywhere.

    Arguments:
        shards: the tokenised corpus.
        tokenizer: the tokenizer it was made with.
        length: tokens in a row, [CLS] and two [SEP] included.
        batch_size: rows in a batch.
        seed: decides the whole order.
        short_rate: the share of segments that are filled to a random shorter length.
        masked_rate: the share of tokens to hide.

    Raises `TokenizerError` for a vocabulary without [MASK]; `DataError` for a corpus too small for one batch.
    """

    def __init__(
        self,
        shards: Shards,
        tokenizer: Tokenizer,
        length: int = 128,
        batch_size: int = 32,
        seed: int = 0,
        short_rate: float = 0.1,
        masked_rate: float = 0.15,
    ) -> None:
        self.shards, self.length, self.batch_size, self.seed = shards, length, batch_size, seed
        self.short_rate = short_rate
        self.masking = Masking.of(tokenizer, masked_rate)
        self._cls_id, self._sep_id = tokenizer.cls_id, tokenizer.sep_id
        self._tokens = [shards.tokens(shard) for shard in range(len(shards))]

    def batches(self, place: Place = Place()) -> Iterator[tuple[Batch, Place]]:  # noqa: B008
        """Yield (batch, the place after it) without end, from a place on."""
        while True:
            cuts = self.cut(place.epoch)
            count = len(cuts) // self.batch_size
            if not count:
                raise DataError(
                    f"{self.shards.folder} has {len(cuts)} examples of up to {self.length} tokens, too few for one "
                    f"batch of {self.batch_size}: use a larger corpus or a smaller batch."
                )
            for batch in range(place.batch, count):
                rows = cuts[batch * self.batch_size : (batch + 1) * self.batch_size]
                after = Place(place.epoch, batch + 1)
                yield self.assemble(rows, self._random(_MASKING, place.epoch, batch)), after
            place = Place(place.epoch + 1, 0)

    def cut(self, epoch: int) -> np.ndarray:
        """Return the examples of an epoch in shuffled order, int32 [examples, 4]: shard, start, split, stop."""
        cuts = np.concatenate([self._cut_shard(shard, epoch) for shard in range(len(self.shards))])
        self._random(_SHUFFLING, epoch).shuffle(cuts)
        return cuts

    def assemble(self, cuts: np.ndarray, random: np.random.Generator) -> Batch:
        """Lay out examples as rows, [CLS] first [SEP] second [SEP], and hide some of their tokens."""
        shard, start, split, stop = (column[:, None] for column in cuts.T.astype(np.int64))
        swapped = random.random((len(cuts), 1)) < 0.5
        first = np.where(swapped, split, start)
        second = np.where(swapped, start, split)
        first_end = 1 + np.where(swapped, stop - split, split - start)
        second_end = first_end + 1 + np.where(swapped, split - start, stop - split)
        place = np.arange(self.length)
        in_first = (place > 0) & (place < first_end)
        in_second = (place > first_end) & (place < second_end)
        source = np.where(in_first, first + place - 1, second + place - first_end - 1)
        token_ids = np.zeros((len(cuts), self.length), np.int32)
        token_ids[:, 0] = self._cls_id
        token_ids[(place == first_end) | (place == second_end)] = self._sep_id
        for index in np.unique(shard):
            taken = (in_first | in_second) & (shard == index)
            token_ids[taken] = self._tokens[index][source[taken]]
        segment_ids = ((place > first_end) & (place <= second_end)).astype(np.int32)
        seen, positions, masked_ids, weights = self.masking(token_ids, random)
        return Batch(seen, segment_ids, positions, masked_ids, weights, swapped[:, 0].astype(np.int32))

    def _random(self, *purpose: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, *purpose])

    def _cut_shard(self, shard: int, epoch: int) -> np.ndarray:
        random = self._random(_CUTTING, epoch, shard)
        ends = np.concatenate([[0], self.shards.sentence_ends(shard)])
        room = self.length - 3
        cuts, first = [], 0
        for last in self.shards.document_ends(shard).tolist():
            while first < last:
                wanted = int(random.integers(2, room + 1)) if random.random() < self.short_rate else room
                after = min(int(np.searchsorted(ends, ends[first] + wanted)), last)
                after = max(after, first + 1)
                cut = _split(ends[first : after + 1], room, random)
                if cut is not None:
                    cuts.append((shard, *cut))
                first = after
        return np.array(cuts, np.int32).reshape(-1, 4)


def _split(ends: np.ndarray, room: int, random: np.random.Generator) -> tuple[int, int, int] | None:
    """Return (start, split, stop) in tokens for some sentences, given where the first starts and each ends.

    What does not fit is dropped from the outer end of the longer part, so that the parts stay consecutive.
    None for a lone sentence of one token, which has no two parts.
    """
    start, stop = int(ends[0]), int(ends[-1])
    if stop - start < 2:
        return None
    if len(ends) > 2:
        split = int(ends[random.integers(1, len(ends) - 1)])
    else:
        stop = min(stop, start + room)
        split = int(random.integers(start + 1, stop))
    excess = stop - start - room
    if excess > 0:
        # The shorter part keeps all it has, up to half of the room.
        first = max(min(split - start, room // 2), room - (stop - split))
        start, stop = split - first, split + room - first
    return start, split, stop


class Prefetched:
    """An iterator that works ahead of its reader in a thread; an error in the thread reaches the reader.

    Arguments:
        items: what to work through.
        ahead: how many items to have ready.
    """

    def __init__(self, items: Iterator[Any], ahead: int = 8) -> None:
        self._ready: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue(ahead)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, args=(items,), daemon=True)
        self._thread.start()

    def __iter__(self) -> Prefetched:
        return self

    def __next__(self) -> Any:
        item, error = self._ready.get()
        if error is not None:
            raise error
        return item

    def close(self) -> None:
        """Stop working ahead."""
        self._stopped.set()
        self._thread.join()

    def _work(self, items: Iterator[Any]) -> None:
        try:
            for item in items:
                self._hand_over(item, None)
                if self._stopped.is_set():
                    return
            raise StopIteration
        except BaseException as error:
            self._hand_over(None, error)

    def _hand_over(self, item: Any, error: BaseException | None) -> None:
        while not self._stopped.is_set():
            try:
                return self._ready.put((item, error), timeout=0.1)
            except queue.Full:
                continue
