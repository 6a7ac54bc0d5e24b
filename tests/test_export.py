"""task.export and serving.load: exported programs compute what the model does, and answer what the task does."""

import json
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
from support.exported import MODELS, SHAPES, TEXTS, TOKENS, assert_runs_as_the_model, classifier, inputs_of, tagger
from support.gradients import to_numpy
from support.models import TINY, eagerly, untidy

from bert4albert import Tokenizer, build_model
from bert4albert.errors import ConfigError, DataError, ExportError
from bert4albert.serving import load
from bert4albert.serving.exported import viterbi
from bert4albert.tasks import FillMask, ReadingComprehension, RelationExtractor, Seq2Seq, TextClassifier, TextEmbedder

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

BACKEND = keras.backend.backend()
pytestmark = pytest.mark.eager


@pytest.fixture(scope="module")
def task():
    return classifier()


def sampled(cases, *chosen):
    """All cases, of which the suite runs those that are chosen, and `develop.py slow` the others."""
    return [case if case in chosen else pytest.param(case, marks=pytest.mark.slow) for case in cases]


@pytest.mark.parametrize(
    "name", sampled(MODELS, "pooling cls", "exits", "a number", "spans by crf", "spans by efficient_global_pointer")
)
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


@pytest.mark.skipif(BACKEND == "tensorflow", reason="TensorFlow writes all formats")
def test_what_a_backend_cannot_write_it_says(task, tmp_path):
    with pytest.raises(ExportError, match=r"litert.*cannot be written.*KERAS_BACKEND=tensorflow.*onnx"):
        task.export(tmp_path / "out", format="litert")
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


@pytest.mark.parametrize(
    "name", sampled(TRUNKS, "parts shared apart", "depths that add", "unilm", "hierarchical positions")
)
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


def test_whole_numbers_stay_close_to_the_model(task, tmp_path):
    task.export(tmp_path, quantize="int8", texts=TEXTS, min_agreement=0)
    assert abs(load(tmp_path).predict_proba(TEXTS) - task.predict_proba(TEXTS)).max() < 0.02


def test_a_program_that_disagrees_is_refused_and_leaves_the_folder_as_it_was(task, tmp_path, monkeypatch):
    task.export(tmp_path / "out", texts=TEXTS)
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    monkeypatch.setattr(task, "predict", lambda texts: ["other"] * len(texts))
    with pytest.raises(ExportError, match=r"0\.00% of 5 texts.*nothing was written"):
        task.export(tmp_path / "out", texts=TEXTS)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_export_takes_the_place_of_an_earlier_one_and_of_nothing_else(task, tmp_path):
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
def test_wrong_arguments_are_told(task, tmp_path, options, error, words):
    with pytest.raises(error, match=words):
        task.export(tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.once
def test_a_task_that_has_no_exported_form_says_what_has_one(tmp_path):
    trunk, words = build_model(TINY | {"num_hidden_layers": 1}, with_mlm=True), Tokenizer(TOKENS)
    writing = build_model(TINY | {"num_hidden_layers": 1}, application="unilm")
    tasks = {
        "token by token": [
            Seq2Seq(writing, words, maxlen=16, target_maxlen=8),
            ReadingComprehension(writing, words, maxlen=16, question_maxlen=8, target_maxlen=8),
        ],
        "what the first found": [RelationExtractor(trunk, words, ["x"], maxlen=16)],
        "vectors": [TextEmbedder(trunk, words, maxlen=16)],
        "words for": [FillMask(trunk, words, maxlen=16)],
        "of your own": [type("Mine", (TextClassifier,), {})(trunk, words, ["x"], maxlen=16)],
    }
    for why, of_a_kind in tasks.items():
        for task in of_a_kind:
            words = rf"A {type(task).__name__} cannot be exported.*{why}.*TextClassifier, Tagger"
            with pytest.raises(ExportError, match=words):
                task.export(tmp_path / "out")


@pytest.mark.once
def test_serving_needs_neither_keras_nor_tensorflow_and_starts_at_once(exported):
    import resource

    code = (
        "import sys; from bert4albert.serving import load; print(load(sys.argv[1], threads=1).predict(['今天']));"
        "print([m for m in ('keras', 'tensorflow', 'jax', 'torch') if m in sys.modules])"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = subprocess.run([sys.executable, "-c", code, str(exported)], capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[1] == "[]"
    # The processor's time, which other work on the machine does not change.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.5


@pytest.mark.once
def test_wrong_texts_and_folders_are_told(exported, tmp_path):
    exported = load(exported)
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


def change_json(**changes):
    """Change what `export.json` says; a change of None takes an entry away."""

    def change(folder):
        about = json.loads((folder / "export.json").read_text())
        for name, value in changes.items():
            where = about if name in about else about["settings"]
            where[name] = value
        (folder / "export.json").write_text(json.dumps(about))

    return change


def write(name, content):
    return lambda folder: (folder / name).write_bytes(content)


def reach_outside(folder):
    """Let the program take its weights from a file outside the folder."""
    (folder.parent / "secret.bin").write_bytes(bytes(400_000))
    model = onnx.load(folder / "model.onnx")
    tensor = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    size = len(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", "../secret.bin"), ("offset", "0"), ("length", str(size))):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    (folder / "model.onnx").write_bytes(model.SerializeToString())


DAMAGES = {
    "no JSON": (write("export.json", b"{"), "cannot be read"),
    "deep JSON": (write("export.json", b"[" * 100_000), "cannot be read"),
    "no text": (write("export.json", b"\xff\xfe"), "cannot be read"),
    "a list": (write("export.json", b"[]"), "describes no task"),
    "no settings": (change_json(settings=3), "describes no task"),
    "another task": (change_json(task="../../TextClassifier"), "task must be one of"),
    "a task that is a list": (change_json(task=["Tagger"]), "task must be one of"),
    "no length": (change_json(maxlen="24"), "maxlen must be a whole number"),
    "more tokens than positions": (change_json(maxlen=65), "maxlen must be a whole number, from 3 to 64"),
    "no labels": (change_json(labels=None), "labels None, not different names"),
    "too few labels": (change_json(labels=["x"]), "are not of one export"),
    "too many labels": (change_json(labels=["坏", "好", "不", "x"]), "are not of one export"),
    "labels that are lists": (change_json(labels=[["x"], ["y"], ["z"]]), "not different names"),
    "equal labels": (change_json(labels=["x", "x", "y"]), "not different names"),
    "exits that are not there": (change_json(exits=True), "are not of one export"),
    "a number": (change_json(regression=True), "are not of one export"),
    "no threshold": (change_json(multi_label=True, threshold="high"), "threshold 'high'"),
    "half a program": (write("model.onnx", b"\x08\x09" * 500), "opened"),
    "no program": (write("model.onnx", b""), "opened"),
    "a program that reaches outside": (reach_outside, "opened"),
    "more words than embeddings": (
        lambda folder: write("vocab.txt", "\n".join([*TOKENS, *map(str, range(300))]).encode())(folder),
        "does not run",
    ),
}


@pytest.fixture(scope="module")
def exported(task, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / "out"
    with eagerly():
        task.export(folder, texts=TEXTS)
    return folder


@pytest.mark.once
@pytest.mark.parametrize("name", DAMAGES)
def test_a_folder_that_is_not_what_was_exported_is_an_error_of_ours(exported, tmp_path, name):
    shutil.copytree(exported, tmp_path / "out")
    damage, words = DAMAGES[name]
    damage(tmp_path / "out")
    with pytest.raises(ExportError, match=words):
        load(tmp_path / "out")


@pytest.mark.once
def test_an_export_of_a_tagger_that_is_not_what_was_exported_is_an_error_of_ours(tmp_path):
    tagger().export(tmp_path / "out", texts=TEXTS[:2])
    about = (tmp_path / "out" / "export.json").read_bytes()
    for changes, words in [
        ({"method": "beam"}, "method must be one of"),
        ({"scheme": "IOB"}, "scheme must be one of"),
        ({"labels": ["x", "y", "z"]}, "each pair of 7 tags"),
        ({"transitions": [[0.0]]}, "each pair of 5 tags"),
        ({"transitions": "none"}, "each pair of 5 tags"),
        ({"method": "softmax", "labels": ["x"]}, "are not of one export"),
        ({"method": "global_pointer"}, "are not of one export"),
    ]:
        write("export.json", about)(tmp_path / "out")
        change_json(**changes)(tmp_path / "out")
        with pytest.raises(ExportError, match=words):
            load(tmp_path / "out")


@pytest.mark.once
def test_albert_base_is_hardly_more_than_its_weights():
    from bert4albert.export.onnx_model import onnx_model

    base = {"vocab_size": 30_000, "embedding_size": 128, "hidden_size": 768, "num_hidden_layers": 12}
    base |= {"num_attention_heads": 12, "intermediate_size": 3072, "max_position_embeddings": 512}
    model = build_model(base | {"num_hidden_groups": 1}, with_pool=True)
    assert onnx_model(model).ByteSize() <= 1.1 * 4 * model.count_params()
