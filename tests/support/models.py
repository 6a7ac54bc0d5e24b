"""Small configs with sizes that differ from one another, and models whose every weight shows; steps without graphs."""

import contextlib

import keras
import numpy as np

TINY = {
    "vocab_size": 211,
    "embedding_size": 16,
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 80,
    "max_position_embeddings": 64,
    "num_hidden_groups": 1,
}
# Nothing but what a BERT has, and smaller, for files that are written and read many times.
SMALL = {
    "vocab_size": 53,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "max_position_embeddings": 19,
}
ALL_HEADS = {"with_pool": True, "with_nsp": True, "with_mlm": True}


@contextlib.contextmanager
def eagerly():
    """TensorFlow runs a few steps sooner operation by operation than it makes a graph of them."""
    if keras.backend.backend() != "tensorflow":
        yield
        return
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(False)


def untidy(model, seed=0):
    """Move every weight off its initial value, so that a forgotten bias or norm shows."""
    generator = np.random.default_rng(seed)
    for variable in model.weights:
        if str(variable.dtype).startswith(("float", "bfloat")):
            noise = generator.normal(0, 0.1, tuple(variable.shape)).astype("float32")
            variable.assign(np.asarray(variable.numpy(), "float32") + noise)
    return model
