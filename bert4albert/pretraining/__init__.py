"""Pretraining: a vocabulary, a corpus as integers, masked words and sentence order, the training run.

Names are imported when they are first used: the data part needs no Keras.
"""

from typing import TYPE_CHECKING

from bert4albert.lazy import lazy_names

if TYPE_CHECKING:
    from bert4albert.pretraining.recipe import Recipe
    from bert4albert.pretraining.shards import Shards, tokenize_corpus
    from bert4albert.pretraining.training import pretrain
    from bert4albert.pretraining.vocabulary_building import build_vocabulary

_HOME = {
    "Recipe": "recipe",
    "Shards": "shards",
    "build_vocabulary": "vocabulary_building",
    "pretrain": "training",
    "tokenize_corpus": "shards",
}

__all__ = ["Recipe", "Shards", "build_vocabulary", "pretrain", "tokenize_corpus"]

__getattr__, __dir__ = lazy_names(__name__, _HOME)
