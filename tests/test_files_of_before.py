"""Files that version 0.1 wrote on TensorFlow load to the bit, and compute what they computed."""

import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from support.gradients import to_numpy

from bert4albert import build_model, trunk_of
from bert4albert.tasks import Tagger, TextClassifier

FILES = Path(__file__).resolve().parent / "files_0_1"
# Another processor rounds otherwise than that which wrote the files, and another backend adds up in another order.
ROUNDING = 1e-6 if keras.backend.backend() == "tensorflow" else 1e-5
TEXTS = ["今天天气真好", "房间很吵，服务态度差。", "不错的房间"]


@pytest.fixture(scope="module")
def expected():
    with np.load(FILES / "expected.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def inputs():
    with np.load(FILES / "inputs.npz") as file:
        return [file["token_ids"], file["segment_ids"]]


def assert_same(ours, theirs):
    assert np.abs(ours - theirs).max() <= ROUNDING


def arrays_in(file):
    """Every array of an h5 file, as h5py reads it."""
    found = []
    with h5py.File(file) as content:
        content.visititems(lambda _, item: found.append(item[()]) if isinstance(item, h5py.Dataset) else None)
    return found


def assert_bits(model, arrays):
    """The model holds these arrays and no others; that each is in its place is what its outputs show."""
    ours, theirs = (sorted((a.shape, a.tobytes()) for a in of) for of in (model.get_weights(), arrays))
    assert ours == theirs


def outputs_of(model, inputs):
    outputs = model(inputs)
    return [to_numpy(output) for output in (outputs if isinstance(outputs, list) else [outputs])]


@pytest.mark.parametrize(
    ("name", "sharing"), [("shared", (0, 0, 0)), ("unshared", (0, 1, 2)), ("listed", (0, 1, 0)), ("tagger", (0, 0, 0))]
)
def test_keras_files(expected, inputs, name, sharing):
    model = keras.models.load_model(FILES / f"{name}.keras")
    for index, output in enumerate(outputs_of(model, inputs)):
        assert_same(output, expected[f"{name}|{index}"])
    with zipfile.ZipFile(FILES / f"{name}.keras") as file:
        assert_bits(model, arrays_in(io.BytesIO(file.read("model.weights.h5"))))
    assert trunk_of(model).config.sharing == sharing


def test_weights_files(expected, inputs):
    config = trunk_of(keras.models.load_model(FILES / "unshared.keras")).config.to_dict()
    trunk = build_model(config, with_nsp=True, with_mlm=True)
    trunk.load_weights(FILES / "unshared.weights.h5")
    for index, output in enumerate(outputs_of(trunk, inputs)):
        assert_same(output, expected[f"unshared|{index}"])
    assert_bits(trunk, arrays_in(FILES / "unshared.weights.h5"))


def test_task_folders(expected):
    task = TextClassifier.load(FILES / "classifier")
    assert_same(task.predict_proba(TEXTS), expected["classifier"])
    assert_bits(task.model, arrays_in(FILES / "classifier" / "model.weights.h5"))
    assert len(Tagger.load(FILES / "tagger").predict(TEXTS)) == 3


@pytest.mark.once
def test_a_program_that_imports_little_else_reads_them():
    """Layers have moved to other modules since; Keras finds them by the name they are registered by."""
    script = (
        "import keras, sys; from bert4albert import trunk_of; "
        "print(trunk_of(keras.models.load_model(sys.argv[1])).config.sharing)"
    )
    command = [sys.executable, "-c", script, str(FILES / "tagger.keras")]
    root = str(FILES.parents[1])
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": root})
    assert done.returncode == 0, done.stderr[-2000:]
    assert "3 block applications share 1 block" in done.stdout
