"""Write TensorFlow checkpoints for tests, by TensorFlow itself."""

import numpy as np


def write_bundle(prefix, arrays):
    """Write named arrays as a TensorFlow checkpoint and return its prefix."""
    import tensorflow as tf

    names = sorted(arrays)
    tensors = [tf.constant(np.asarray(arrays[n])) for n in names]
    with tf.device("/CPU:0"):
        tf.raw_ops.SaveV2(prefix=str(prefix), tensor_names=names, shape_and_slices=[""] * len(names), tensors=tensors)
    return prefix


def random_arrays(shapes, seed=0):
    """Return random float32 arrays of these shapes by name; `global_step` is an integer."""
    generator = np.random.default_rng(seed)
    return {
        name: np.int64(7) if name == "global_step" else generator.normal(0, 0.02, shape).astype("float32")
        for name, shape in shapes.items()
    }
