"""A teacher: passages, and the vectors that another model gave them, in batches of similar length."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bert4albert.errors import DataError
from bert4albert.pretraining.corpus import Corpus, Paths
from bert4albert.text import Tokenizer

# What a random stream is for, beside the purposes in `examples`.
_PASSAGES = 3
# Passages are sorted by length among so many batches, and padded to a multiple of so many tokens.
_SORTED_BATCHES, _STEP_OF_LENGTHS = 50, 8
# One passage in so many is kept to measure on.
_HELD_OUT = 50


class TeacherBatch(NamedTuple):
    """Passages of similar length and the directions to learn.

    Attributes:
        passage_ids: int32 [passages, length], [CLS] first, [SEP] last, then padding.
        vectors: float32 [passages, size], of length 1.
    """

    passage_ids: np.ndarray
    vectors: np.ndarray


class Teacher:
    """Passages and one vector for each, whatever made it.

    Arguments:
        texts: text files, as `Corpus` reads them; every line that is not blank is a passage.
        vectors: a NumPy file (.npy), floats [passages, size], in the order of the passages.
        tokenizer: the tokenizer of the model that learns.
        length: the most tokens of a passage, [CLS] and [SEP] included; longer ones are cut.

    Attributes:
        size: the numbers in a vector.
        digest: a hash of passages and vectors.

    Raises `DataError` for a file that is no such array, for another number of vectors than passages, and for a
    vector that is zero or not finite, which points nowhere.
    """

    def __init__(self, texts: Paths, vectors: str | os.PathLike[str], tokenizer: Tokenizer, length: int = 128) -> None:
        passages = list(itertools.chain.from_iterable(Corpus(texts)))
        if not passages:
            raise DataError("The teacher's texts hold no passage: every line that is not blank is one.")
        self.vectors = _read_vectors(Path(vectors), len(passages))
        rows, _ = tokenizer.encode_many(passages, maxlen=length)
        self._lengths = np.array([len(row) for row in rows], np.int64)
        self._ends = np.cumsum(self._lengths)
        self._tokens = np.fromiter(itertools.chain.from_iterable(rows), np.int32, self._ends[-1])
        self.length = length
        self.size = self.vectors.shape[1]
        self.digest = hashlib.sha256(self._tokens.tobytes() + self.vectors.tobytes()).hexdigest()
        everyone = np.arange(len(passages))
        self._learnt = everyone[everyone % _HELD_OUT != _HELD_OUT - 1]
        self._held_out = everyone[everyone % _HELD_OUT == _HELD_OUT - 1]

    def batches(self, batch_size: int, seed: int, start: int = 0) -> Iterator[TeacherBatch]:
        """Yield batches without end, in an order that follows from the seed.

        Arguments:
            batch_size: passages in a batch; fewer where there are not so many.
            seed: decides the order.
            start: how many batches to leave out, so that a run can go on anywhere.
        """
        batch_size = min(batch_size, len(self._learnt))
        per_epoch = len(self._learnt) // batch_size
        for epoch in itertools.count(start // per_epoch):
            for rows in self._order(epoch, batch_size, seed)[start % per_epoch :]:
                yield self.assemble(rows)
            start = 0

    def held_out(self, batch_size: int) -> list[TeacherBatch]:
        """Return the passages that are never learnt from, one in fifty, in batches; [] where there are fewer."""
        rows = self._held_out[np.argsort(self._lengths[self._held_out], kind="stable")]
        return [self.assemble(rows[first : first + batch_size]) for first in range(0, len(rows), batch_size)]

    def assemble(self, rows: np.ndarray) -> TeacherBatch:
        """Lay out some passages, padded to a common length."""
        lengths = self._lengths[rows]
        width = min(-(-int(lengths.max()) // _STEP_OF_LENGTHS) * _STEP_OF_LENGTHS, self.length)
        place = np.arange(width)
        inside = place < lengths[:, None]
        passage_ids = np.zeros((len(rows), width), np.int32)
        passage_ids[inside] = self._tokens[((self._ends[rows] - lengths)[:, None] + place)[inside]]
        vectors = self.vectors[rows].astype(np.float32)
        return TeacherBatch(passage_ids, vectors / np.linalg.norm(vectors, axis=1, keepdims=True))

    def _order(self, epoch: int, batch_size: int, seed: int) -> np.ndarray:
        """Return the passages of an epoch, [batches, batch_size]: shuffled, with similar lengths side by side."""
        random = np.random.default_rng([seed, _PASSAGES, epoch])
        shuffled = random.permutation(self._learnt)
        window = _SORTED_BATCHES * batch_size
        parts = [shuffled[first : first + window] for first in range(0, len(shuffled), window)]
        ordered = np.concatenate([part[np.argsort(self._lengths[part], kind="stable")] for part in parts])
        # Which passages are left over from an epoch must not depend on their length.
        surplus = len(ordered) % batch_size
        kept = np.sort(random.permutation(len(ordered))[surplus:])
        return random.permutation(ordered[kept].reshape(-1, batch_size))


def _read_vectors(path: Path, num_passages: int) -> np.ndarray:
    try:
        vectors = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} cannot be read as a NumPy file ({error}): write it with numpy.save.") from None
    if not isinstance(vectors, np.ndarray) or vectors.ndim != 2 or vectors.dtype.kind != "f":
        found = f"{vectors.dtype} {[*vectors.shape]}" if isinstance(vectors, np.ndarray) else "several arrays"
        raise DataError(f"{path} must hold one array of floats, [passages, size]; it holds {found}.")
    if len(vectors) != num_passages:
        raise DataError(
            f"{path} holds {len(vectors):,} vectors and the texts {num_passages:,} passages: give one vector for "
            "every line that is not blank, in the same order."
        )
    lengths = np.linalg.norm(vectors.astype(np.float32), axis=1)
    useless = np.flatnonzero(~np.isfinite(lengths) | (lengths == 0))
    if len(useless):
        raise DataError(
            f"Vector {useless[0] + 1:,} of {path} is zero or not finite ({len(useless):,} such in all): it points "
            "nowhere. Leave out its passage."
        )
    return vectors
