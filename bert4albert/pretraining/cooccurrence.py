"""Word embeddings to begin with, counted from the corpus: words in like company begin alike.

Levy and Goldberg, Neural Word Embedding as Implicit Matrix Factorization (2014): the truncated singular value
decomposition of the positive pointwise mutual information between words and their neighbours.
"""

from __future__ import annotations

import numpy as np

from bert4albert.pretraining.shards import Shards

_WINDOW = 5
# Contexts are smoothed as in word2vec, or the rarest would weigh most (Levy, Goldberg and Dagan, 2015).
_CONTEXT_POWER = 0.75
_POWER_ITERATIONS = 4
_SPARE_DIMENSIONS = 32


def cooccurrence_embeddings(shards: Shards, vocab_size: int, embedding_size: int, seed: int = 0) -> np.ndarray:
    """Return an embedding of every token that follows from the company it keeps in a corpus.

    The memory taken is that of about four matrices of `vocab_size` squared, in float32.

    Arguments:
        shards: the tokenised corpus.
        vocab_size: rows of the embeddings.
        embedding_size: columns of the embeddings.
        seed: decides the random part of the decomposition.

    Returns:
        float32 [vocab_size, embedding_size], rows of length 1; zero for tokens that the corpus does not hold.
    """
    information = _positive_mutual_information(_neighbour_counts(shards, vocab_size))
    vectors = _leading_vectors(information, embedding_size, np.random.default_rng(seed))
    known = information.any(axis=1)
    vectors[known] /= np.linalg.norm(vectors[known], axis=1, keepdims=True)
    vectors[~known] = 0.0
    return vectors


def log_frequencies(shards: Shards, vocab_size: int) -> np.ndarray:
    """Return the logarithm of every token's share of a corpus, with one occurrence added; float32 [vocab_size]."""
    counts = np.ones(vocab_size)
    for shard in range(len(shards)):
        counts += np.bincount(shards.tokens(shard), minlength=vocab_size)
    return np.log(counts / counts.sum()).astype(np.float32)


def _neighbour_counts(shards: Shards, vocab_size: int) -> np.ndarray:
    """Count the pairs of tokens at most `_WINDOW` apart, both ways, ends of sentences ignored."""
    counts = np.zeros(vocab_size * vocab_size, np.float32)
    for shard in range(len(shards)):
        tokens = shards.tokens(shard).astype(np.int64)
        for distance in range(1, _WINDOW + 1):
            pairs, times = np.unique(tokens[:-distance] * vocab_size + tokens[distance:], return_counts=True)
            counts[pairs] += times
    square = counts.reshape(vocab_size, vocab_size)
    return square + square.T


def _positive_mutual_information(counts: np.ndarray) -> np.ndarray:
    words = counts.sum(axis=1)
    contexts = words**_CONTEXT_POWER
    expected = np.outer(words, contexts / max(contexts.sum(), 1.0))
    ratio = np.divide(counts, expected, out=np.ones_like(counts), where=expected > 0)
    return np.maximum(np.log(np.maximum(ratio, 1.0)), 0.0)


def _leading_vectors(matrix: np.ndarray, size: int, random: np.random.Generator) -> np.ndarray:
    """Return the first left singular vectors times the roots of their values (Halko and others, 2011)."""
    count = min(size + _SPARE_DIMENSIONS, len(matrix))
    basis = random.standard_normal((len(matrix), count), dtype=np.float32)
    for _ in range(_POWER_ITERATIONS):
        basis, _ = np.linalg.qr(matrix @ (matrix.T @ basis))
    left, values, _ = np.linalg.svd(basis.T @ matrix, full_matrices=False)
    vectors = np.zeros((len(matrix), size), np.float32)
    found = min(size, count)
    vectors[:, :found] = (basis @ left[:, :found]) * np.sqrt(values[:found])
    return vectors
