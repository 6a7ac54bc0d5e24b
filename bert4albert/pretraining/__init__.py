"""Pretraining: a vocabulary, a corpus as integers, masked words and sentence order, the training run.

Names are imported when they are first used: the data part needs no Keras.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bert4albert.pretraining.recipe import Recipe
    from bert4albert.pretraining.shards import Shards, tokenize_corpus
    from bert4albert.pretraining.training import pretrain
    from bert4albert.pretraining.vocabulary import build_vocabulary

_HOME = {
    "Recipe": "recipe",
    "Shards": "shards",
    "build_vocabulary": "vocabulary",
    "pretrain": "training",
    "tokenize_corpus": "shards",
}

__all__ = ["Recipe", "Shards", "build_vocabulary", "pretrain", "tokenize_corpus"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'bert4albert.pretraining' has no attribute {name!r}")
    return getattr(import_module(f"bert4albert.pretraining.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
