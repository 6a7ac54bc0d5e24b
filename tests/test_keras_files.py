"""Every public layer and every task's model survives `.keras`, on this backend and on the others."""

import os
import subprocess
import sys
from importlib.util import find_spec

import keras
import numpy as np
import pytest
from support.backends import environment_for
from support.gradients import to_numpy
from support.models import TINY, untidy

from bert4albert import Tokenizer, build_model
from bert4albert.heads import (
    CRF,
    CasRelLoss,
    ConditionalLayerNormalization,
    EfficientGlobalPointer,
    FirstToken,
    GlobalPointer,
    MeanPooling,
    ObjectPointers,
    SubjectSampler,
)
from bert4albert.layers import PaddingMask
from bert4albert.tasks import ReadingComprehension, RelationExtractor, Seq2Seq, Tagger, TextClassifier

# One process a backend reads what this one writes.
pytestmark = pytest.mark.once

TOKENIZER = Tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abcdefg"])
RANDOM = np.random.default_rng(0)
TOKEN_IDS = np.array([[2, 5, 6, 7, 3], [2, 8, 3, 0, 0]], "int32")
MASK = TOKEN_IDS != 0
HIDDEN = RANDOM.normal(size=(2, 5, 6)).astype("float32")
# One relation a text, so that there is one subject to draw.
RELATIONS = np.array([[[1, 1, 0, 2, 3]], [[1, 1, 1, 1, 1]]], "int32")
SUBJECT = np.array([[1, 1], [1, 1]], "int32")
LAYERS = {
    "padding_mask": (PaddingMask(), [TOKEN_IDS]),
    "first_token": (FirstToken(dtype=keras.DTypePolicy("float32")), [HIDDEN]),
    "mean_pooling": (MeanPooling(dtype=keras.DTypePolicy("float32")), [HIDDEN, MASK]),
    "norm": (ConditionalLayerNormalization(1e-6), [HIDDEN, HIDDEN[:, 0, :4]]),
    "crf": (CRF(3.0), [HIDDEN, MASK]),
    "pointer": (GlobalPointer(3, 4, rotary=False), [HIDDEN, MASK]),
    "efficient_pointer": (EfficientGlobalPointer(3, 4, ordered=False), [HIDDEN, MASK]),
    "object_pointers": (ObjectPointers(2), [HIDDEN, SUBJECT]),
    "subject_sampler": (SubjectSampler(), [MASK, RELATIONS]),
    "casrel_loss": (
        CasRelLoss(),
        [MASK, RELATIONS, SUBJECT, HIDDEN[:, :, :2], np.stack([HIDDEN[:, :, 2:4], HIDDEN[:, :, 4:]], axis=2)],
    ),
}
TASKS = {
    "classifier_cls": (TextClassifier, {"labels": ["x", "y"]}, {}),
    "classifier_mean": (TextClassifier, {"labels": ["x", "y", "z"], "pooling": "mean"}, {}),
    "classifier_pooler": (TextClassifier, {"labels": ["x", "y"], "pooling": "pooler"}, {"with_pool": True}),
    "regression": (TextClassifier, {"regression": True}, {}),
    "softmax": (Tagger, {"labels": ["x"], "method": "softmax"}, {}),
    "tagger_crf": (Tagger, {"labels": ["x"], "method": "crf"}, {}),
    "tagger_pointer": (Tagger, {"labels": ["x"], "method": "global_pointer"}, {}),
    "tagger_efficient": (Tagger, {"labels": ["x"], "method": "efficient_global_pointer"}, {}),
    "casrel": (RelationExtractor, {"predicates": ["r", "s"]}, {}),
    "gplinker": (RelationExtractor, {"predicates": ["r", "s"], "method": "gplinker"}, {}),
    "writer": (Seq2Seq, {"target_maxlen": 4}, {"application": "unilm"}),
    "reader": (ReadingComprehension, {"target_maxlen": 4, "question_maxlen": 4}, {"application": "unilm"}),
}


def model_of_layer(name):
    """A model of one layer alone, and the arrays to call it with."""
    layer, arrays = LAYERS[name]
    inputs = [keras.Input(array.shape[1:2] and (None, *array.shape[2:]), dtype=str(array.dtype)) for array in arrays]
    inputs = [
        keras.Input(array.shape[1:], dtype=str(array.dtype)) if array.ndim == 2 and array is not MASK else given
        for array, given in zip(arrays, inputs, strict=True)
    ]
    options = {"decode": True} if name == "crf" else {}
    return keras.Model(inputs, layer(*inputs, **options)), arrays


def model_of_task(name):
    """A task's model, and the arrays to call it with."""
    task_class, settings, trunk_options = TASKS[name]
    trunk = build_model(TINY | {"num_hidden_layers": 1}, **trunk_options)
    model = task_class(trunk, TOKENIZER, maxlen=16, **settings).model
    third = {"casrel": RELATIONS, "writer": np.array([[1], [2]]), "reader": np.array([[1], [2]])}
    return model, [TOKEN_IDS, np.zeros_like(TOKEN_IDS), *([third[name]] if name in third else [])]


def outputs_of(model, arrays):
    outputs = model(arrays if len(arrays) > 1 else arrays[0], training=False)
    return [to_numpy(output) for output in keras.tree.flatten(outputs)]


def check(folder):
    """Load every model that a folder holds, and compare what it gives with what stands beside it."""
    for name in [*LAYERS, *TASKS]:
        model = keras.models.load_model(folder / f"{name}.keras")
        with np.load(folder / f"{name}.npz") as file:
            arrays = [file[f"in_{i}"] for i in range(sum(key.startswith("in_") for key in file))]
            expected = [file[f"out_{i}"] for i in range(sum(key.startswith("out_") for key in file))]
        for output, wanted in zip(outputs_of(model, arrays), expected, strict=True):
            np.testing.assert_allclose(output, wanted, rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Every model with weights that are no first ones, and what it gives."""
    folder = tmp_path_factory.mktemp("keras")
    for name in [*LAYERS, *TASKS]:
        model, arrays = model_of_layer(name) if name in LAYERS else model_of_task(name)
        untidy(model)
        model.save(folder / f"{name}.keras")
        outputs = outputs_of(model, arrays)
        named = {f"in_{i}": array for i, array in enumerate(arrays)}
        np.savez(folder / f"{name}.npz", **named, **{f"out_{i}": output for i, output in enumerate(outputs)})
    return folder


def test_every_public_layer_and_every_task_survives_a_keras_file(folder):
    check(folder)


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_every_public_layer_and_every_task_goes_to_another_backend(folder, backend):
    if find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    program = "import sys, pathlib, test_keras_files; test_keras_files.check(pathlib.Path(sys.argv[1]))"
    paths = os.pathsep.join([os.path.dirname(__file__), *sys.path])
    environment = environment_for(backend) | {"PYTHONPATH": paths}
    result = subprocess.run([sys.executable, "-c", program, folder], env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]


def test_a_checkpoint_of_the_best_epoch_can_be_kept_as_a_keras_file(tmp_path):
    task = TextClassifier(build_model(TINY | {"num_hidden_layers": 1}), TOKENIZER, maxlen=16)
    path = tmp_path / "best.keras"
    keep = keras.callbacks.ModelCheckpoint(path, monitor="accuracy", mode="max", save_best_only=True)
    task.fit([("a", "x"), ("b", "y")], [("a", "x")], epochs=1, verbose=0, callbacks=[keep])
    batch = list(TOKENIZER.encode_batch(["a b"]))
    np.testing.assert_allclose(
        outputs_of(keras.models.load_model(path), batch), outputs_of(task.model, batch), atol=1e-5
    )
