"""SavedModel and LiteRT, which TensorFlow writes."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np

from bert4albert.errors import ExportError


def write_saved_model(model: keras.Model, folder: Path, quantize: str | None = None) -> None:
    """Write a SavedModel whose `serving_default` takes int32 [batch, length], both of any size.

    Arguments:
        model: a functional model on token ids and segment ids.
        folder: where to write.
        quantize: 'int8' for weights in whole numbers.
    """
    import tensorflow as tf

    if quantize:
        model = _quantized(model)
    signature = [tf.TensorSpec((None, None), "int32", name=tensor.name) for tensor in model.inputs]
    archive = keras.export.ExportArchive()
    archive.track(model)
    names = [tensor.name for tensor in model.inputs]
    options = {}
    if keras.backend.backend() == "jax":
        # One length for all inputs: JAX would take two unknown lengths for different ones.
        options["jax2tf_kwargs"] = {"polymorphic_shapes": ["(batch, length)"] * len(names)}

    def serve(*inputs: Any) -> dict[str, Any]:
        outputs = keras.tree.flatten(model(list(inputs), training=False))
        return {f"output_{index}": output for index, output in enumerate(outputs)}

    with _quiet():
        archive.add_endpoint("serve", serve, input_signature=signature, **options)
        archive.write_out(folder, verbose=False)


def write_litert(model: keras.Model, path: Path, scratch: Path, quantize: str | None = None) -> None:
    """Write a LiteRT file in plain LiteRT operators.

    Arguments:
        model: a functional model on token ids and segment ids.
        path: the file.
        scratch: a folder for the SavedModel in between.
        quantize: 'int8' for weights in whole numbers.
    """
    import tensorflow as tf

    write_saved_model(model, scratch)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(scratch))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if quantize:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    try:
        with _quiet():
            content = converter.convert()
    except Exception as error:  # the converter raises whatever it meets
        raise ExportError(
            f"TensorFlow could not convert the model to LiteRT: {' '.join(str(error).split())[:300]}"
        ) from error
    path.write_bytes(content)


class SavedModelProgram:
    """A SavedModel, run by TensorFlow."""

    def __init__(self, folder: Path) -> None:
        import tensorflow as tf

        self._model = tf.saved_model.load(str(folder))
        self._serve = self._model.signatures["serving_default"]

    def __call__(self, token_ids: np.ndarray, segment_ids: np.ndarray) -> list[np.ndarray]:
        """Return the outputs."""
        import tensorflow as tf

        outputs = self._serve(token_ids=tf.constant(token_ids), segment_ids=tf.constant(segment_ids))
        return [outputs[name].numpy() for name in sorted(outputs)]


def _quantized(model: keras.Model) -> keras.Model:
    """Return a copy with int8 kernels, and leave the model as it is."""
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    copy.quantize("int8")
    return copy


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep TensorFlow's and Keras' notes about saving to themselves; warnings of ours stay."""
    loggers = [logging.getLogger(name) for name in ("tensorflow", "absl")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
