"""SavedModel and LiteRT, which only TensorFlow writes, compute what the model does."""

import keras
import pytest
from support.exported import MODELS, TEXTS, assert_runs_as_the_model

from bert4albert.errors import ExportError
from bert4albert.serving import load

pytestmark = pytest.mark.once


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow writes these formats")
@pytest.mark.parametrize(
    ("name", "format"),
    [
        ("pooling mean", "saved_model"),
        ("spans by efficient_global_pointer", "litert"),
        *(
            pytest.param(name, format, marks=pytest.mark.slow)
            for name in ("pooling pooler", "several labels", "spans by crf", "spans by global_pointer")
            for format in ("saved_model", "litert")
        ),
    ],
)
def test_tensorflow_formats_compute_what_the_model_does(tmp_path, name, format):
    task = MODELS[name]()
    assert task.export(tmp_path, format=format, texts=TEXTS) == 1
    if format == "litert":
        exported = load(tmp_path)
        assert_runs_as_the_model(task.model, exported.program)
        assert exported.predict(TEXTS) == task.predict(TEXTS)
    else:
        from bert4albert.export.tensorflow_formats import SavedModelProgram

        assert_runs_as_the_model(task.model, SavedModelProgram(tmp_path))
        with pytest.raises(ExportError, match="SavedModel is for TensorFlow"):
            load(tmp_path)
