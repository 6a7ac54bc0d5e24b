"""Pretraining: a vocabulary, a corpus as integers, masked words and sentence order, the training run."""
