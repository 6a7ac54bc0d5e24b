"""Dropout that repeats itself, without touching the random state of the program around it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import keras
import numpy as np


@contextmanager
def seeded_dropout(model: keras.Model, seed: int) -> Iterator[None]:
    """Start the random numbers of all dropout layers of a model from a seed, inside a `with` block.

    Arguments:
        model: the model that trains inside the block.
        seed: the seed; the same one drops the same units again.
    """
    for index, variable in enumerate(model.variables):
        if variable.name == "seed_generator_state":
            variable.assign(np.array([seed, index], variable.dtype))
    if keras.backend.backend() != "torch":
        yield
        return
    import torch

    # There Keras' dropout draws from PyTorch's own state, unless each layer has a seed.
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
