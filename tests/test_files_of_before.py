"""Files that version 0.1 wrote on TensorFlow load, and compute what they computed."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from support.gradients import to_numpy

from bert4albert import build_model, trunk_of
from bert4albert.tasks import Tagger, TextClassifier

FILES = Path(__file__).resolve().parent / "files_0_1"
EXACT = keras.backend.backend() == "tensorflow"
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
    assert np.abs(ours - theirs).max() <= (0 if EXACT else 1e-5)


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
    assert trunk_of(model).config.sharing == sharing


def test_weights_files(expected, inputs):
    config = trunk_of(keras.models.load_model(FILES / "unshared.keras")).config.to_dict()
    trunk = build_model(config, with_nsp=True, with_mlm=True)
    trunk.load_weights(FILES / "unshared.weights.h5")
    for index, output in enumerate(outputs_of(trunk, inputs)):
        assert_same(output, expected[f"unshared|{index}"])


def test_task_folders(expected):
    assert_same(TextClassifier.load(FILES / "classifier").predict_proba(TEXTS), expected["classifier"])
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
