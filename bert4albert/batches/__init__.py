"""Token ids to batches: padding, batches of similar length, datasets for every backend."""

from bert4albert.batches.datasets import Batches, check_token_ids, make_dataset, predict_in_buckets
from bert4albert.batches.padding import pad

__all__ = ["Batches", "check_token_ids", "make_dataset", "pad", "predict_in_buckets"]
