"""Texts to token ids, and token ids to batches."""

from bert4albert.batches import Batches, make_dataset, pad, predict_in_buckets
from bert4albert.text.tokenizer import Tokenizer

__all__ = ["Batches", "Tokenizer", "make_dataset", "pad", "predict_in_buckets"]
