"""task.export and serving.load: exported programs compute what the model does, and answer what the task does."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest
from support.gradients import to_numpy
from support.models import TINY, untidy

from bert4albert import Tokenizer, build_model
from bert4albert.errors import ConfigError, DataError, ExportError
from bert4albert.serving import load
from bert4albert.serving.exported import viterbi
from bert4albert.tasks import Seq2Seq, Tagger, TextClassifier

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

BACKEND = keras.backend.backend()
SHAPES = ((1, 5), (3, 17), (2, 64), (4, 8))
TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"今天气真好不坏，。", *"abcdefgh"]
TEXTS = ["今天天气真好", "不坏，真好。今天气" * 4, "a b c", "", "坏"]


def classifier(pooling="cls", **settings):
    trunk = build_model(TINY, with_pool=pooling == "pooler")
    settings = {"labels": ["坏", "好", "不"], "maxlen": 24, **settings}
    task = TextClassifier(trunk, Tokenizer(TOKENS), pooling=pooling, **settings)
    untidy(task.model)
    return task


def tagger(method="crf", **settings):
    task = Tagger(build_model(TINY), Tokenizer(TOKENS), ["x", "y"], method=method, head_size=10, maxlen=12, **settings)
    untidy(task.model)
    return task


def inputs_of(batch, length):
    draw = np.random.default_rng(batch)
    token_ids = draw.integers(1, len(TOKENS), (batch, length)).astype("int32")
    token_ids[-1, -length // 3 :] = 0
    return token_ids, np.sort(draw.integers(0, 2, (batch, length)), axis=1).astype("int32")


def assert_runs_as_the_model(model, program):
    for shape in SHAPES:
        inputs = inputs_of(*shape)
        expected = to_numpy(model([*inputs]))
        found = program(*inputs)[0]
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


MODELS = {
    **{f"pooling {pooling}": lambda pooling=pooling: classifier(pooling) for pooling in ("cls", "mean", "pooler")},
    "several labels": lambda: classifier(multi_label=True, threshold=0.4),
    "a number": lambda: classifier(regression=True, labels=None),
    "exits": lambda: classifier(exits=True),
    **{
        f"spans by {method}": lambda method=method: tagger(method)
        for method in ("softmax", "crf", "global_pointer", "efficient_global_pointer")
    },
}


@pytest.mark.parametrize("name", MODELS)
def test_onnx_computes_what_the_model_does_and_answers_what_the_task_does(tmp_path, name, capsys):
    task = MODELS[name]()
    assert task.export(tmp_path / "out", format="onnx", texts=TEXTS) == 1
    assert "100.00% of 5 texts" in capsys.readouterr().out
    exported = load(tmp_path / "out")
    assert_runs_as_the_model(task.model, exported.program)
    # Each text alone and all together, also longer than maxlen.
    answers = task.predict(TEXTS)
    if name == "a number":
        np.testing.assert_allclose(exported.predict(TEXTS), answers, atol=1e-5)
        return
    assert exported.predict(TEXTS) == answers
    assert [exported.predict([text])[0] for text in TEXTS] == answers
    assert exported.predict([]) == []
    if isinstance(task, TextClassifier) and not task.regression:
        np.testing.assert_allclose(exported.predict_proba(TEXTS), task.predict_proba(TEXTS), atol=1e-5)
        pairs = [("今天", "a b"), ("坏", "天气" * 20)]
        assert exported.predict(pairs) == task.predict(pairs)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="TensorFlow writes these formats")
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


@pytest.mark.skipif(BACKEND == "tensorflow", reason="TensorFlow writes all formats")
def test_what_a_backend_cannot_write_it_says(tmp_path):
    with pytest.raises(ExportError, match=r"litert.*cannot be written.*KERAS_BACKEND=tensorflow.*onnx"):
        classifier().export(tmp_path / "out", format="litert")
    assert not (tmp_path / "out").exists()


TRUNKS = {
    "groups": {"num_hidden_groups": 3},
    "parts shared apart": {"sharing": {"attention": "unshared", "attention_norm": [0, 1, 0]}},
    "depths that add": {"depth_lora": {"rank": 2, "alpha": 3.0}, "depth_bias": True},
    "erf gelu, pooler, sentence and words": {
        **{"hidden_act": "gelu_erf", "with_pool": True},
        **{"with_nsp": True, "with_mlm": "linear"},
    },
    "unilm": {"application": "unilm", "with_mlm": "linear"},
    "lm": {"application": "lm", "with_mlm": "linear"},
    "hierarchical positions": {"hierarchical_position": True},
    "projected words": {"projected_words": True},
    "silu": {"hidden_act": "silu"},
    "relu": {"hidden_act": "relu"},
}


@pytest.mark.parametrize("name", TRUNKS)
def test_every_kind_of_trunk_is_the_same_as_onnx(name):
    import onnxruntime

    from bert4albert.export.onnx_model import onnx_model

    model = untidy(build_model(TINY, **TRUNKS[name]))
    session = onnxruntime.InferenceSession(onnx_model(model).SerializeToString())
    for shape in SHAPES:
        inputs = inputs_of(*shape)
        found = session.run(None, dict(zip(("token_ids", "segment_ids"), inputs, strict=True)))
        for ours, theirs in zip(keras.tree.flatten(model([*inputs])), found, strict=True):
            np.testing.assert_allclose(theirs, to_numpy(ours), rtol=1e-5, atol=1e-5)


def test_a_shared_block_is_written_once():
    from bert4albert.export.onnx_model import onnx_model

    few, many = (build_model(TINY | {"num_hidden_layers": layers}) for layers in (2, 12))
    assert few.count_params() == many.count_params()
    for quantize in (None, "int8"):
        # Ten depths more are names of nodes, while one block is 70 kB of float32.
        assert onnx_model(many, quantize).ByteSize() < onnx_model(few, quantize).ByteSize() + 35_000


def test_whole_numbers_stay_close_to_the_model(tmp_path):
    task = classifier()
    task.export(tmp_path, quantize="int8", texts=TEXTS, min_agreement=0)
    assert abs(load(tmp_path).predict_proba(TEXTS) - task.predict_proba(TEXTS)).max() < 0.02


def test_a_program_that_disagrees_is_refused_and_leaves_the_folder_as_it_was(tmp_path, monkeypatch):
    task = classifier()
    task.export(tmp_path / "out", texts=TEXTS)
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    monkeypatch.setattr(task, "predict", lambda texts: ["other"] * len(texts))
    with pytest.raises(ExportError, match=r"0\.00% of 5 texts.*nothing was written"):
        task.export(tmp_path / "out", texts=TEXTS)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_export_takes_the_place_of_an_earlier_one_and_of_nothing_else(tmp_path):
    task = classifier()
    task.export(tmp_path / "out", texts=TEXTS)
    task.export(tmp_path / "out", texts=TEXTS, quantize="int8", min_agreement=0)
    assert json.loads((tmp_path / "out" / "export.json").read_text())["quantize"] == "int8"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(ExportError, match="holds no export"):
        task.export(tmp_path / "mine", texts=TEXTS)


@pytest.mark.once
@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"format": "onxx"}, ConfigError, "format.*Did you mean 'onnx'"),
        ({"quantize": "int4"}, ConfigError, "quantize"),
        ({"min_agreement": 2}, ConfigError, "min_agreement"),
        ({"texts": []}, ExportError, "no texts"),
    ],
)
def test_wrong_arguments_are_told(tmp_path, options, error, words):
    with pytest.raises(error, match=words):
        classifier().export(tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.once
def test_a_task_of_several_programs_says_so(tmp_path):
    trunk = build_model(TINY, application="unilm")
    with pytest.raises(ExportError, match="Seq2Seq cannot be exported"):
        Seq2Seq(trunk, Tokenizer(TOKENS), maxlen=16, target_maxlen=8).export(tmp_path / "out")


@pytest.mark.once
def test_serving_needs_neither_keras_nor_tensorflow_and_starts_at_once(tmp_path):
    import resource

    classifier().export(tmp_path, texts=TEXTS)
    code = (
        "import sys; from bert4albert.serving import load; print(load(sys.argv[1], threads=1).predict(['今天']));"
        "print([m for m in ('keras', 'tensorflow', 'jax', 'torch') if m in sys.modules])"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[1] == "[]"
    # The processor's time, which other work on the machine does not change.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.5


@pytest.mark.once
def test_wrong_texts_and_folders_are_told(tmp_path):
    classifier().export(tmp_path / "out", texts=TEXTS)
    exported = load(tmp_path / "out")
    with pytest.raises(DataError, match="list of texts"):
        exported.predict("今天")
    with pytest.raises(DataError, match="pairs"):
        exported.predict(["今天", ("a", "b")])
    with pytest.raises(ExportError, match="holds no export"):
        load(tmp_path)
    tagger().export(tmp_path / "tagger", texts=TEXTS)
    with pytest.raises(ConfigError, match="no predict_proba"):
        load(tmp_path / "tagger").predict_proba(TEXTS)


@pytest.mark.once
def test_the_best_path_is_that_of_the_crf():
    from bert4albert.heads.crf import viterbi as by_keras

    draw = np.random.default_rng(3)
    emissions, transitions = draw.normal(size=(4, 9, 5)), draw.normal(size=(5, 5))
    emissions, transitions = emissions.astype("float32"), transitions.astype("float32")
    expected = to_numpy(by_keras(emissions, transitions, np.ones((4, 9), bool)))
    for row, emission in zip(expected, emissions, strict=True):
        assert viterbi(emission, transitions).tolist() == row.tolist()
