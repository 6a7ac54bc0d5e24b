"""TextClassifier learns, answers, is saved and loaded; bad data is an error that says so."""

import gzip
import json
import subprocess
import sys
from importlib.util import find_spec

import keras
import numpy as np
import pytest
from support.backends import environment_for
from support.gradients import to_numpy
from support.models import TINY, eagerly

from bert4albert import ConfigError, DataError, Tokenizer, build_model
from bert4albert.tasks import Task, TextClassifier, load_task, pooled_output

# TensorFlow, on running operation by operation: it does not apply to its datasets.
pytestmark = [pytest.mark.once, pytest.mark.filterwarnings("ignore:Even though the .tf.config")]
LETTERS = "abcdefghij"
TOKENIZER = Tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *LETTERS])
ODD_TEXTS = ["", "a " * 500, "😀 👍🏽", "私 は 字", " \n\t", "b a a"]


def trunk(**options):
    return build_model(TINY | {"num_hidden_layers": 1, "max_position_embeddings": 24}, **options)


def classifier(labels=None, **options):
    return TextClassifier(trunk(), TOKENIZER, labels, maxlen=16, **options)


def examples(count=96, seed=0):
    """Texts of 1 to 12 letters, and whether one of them is an 'a'."""
    random = np.random.default_rng(seed)
    texts = [" ".join(random.choice([*LETTERS[1:]], random.integers(1, 13))) for _ in range(count)]
    return [(f"{text} a" if index % 3 else text, "yes" if index % 3 else "no") for index, text in enumerate(texts)]


def fit(task, train, valid=None, **options):
    """Fit, compiled by JAX only, which is slow without."""
    jit_compile = keras.backend.backend() == "jax"
    defaults = {"epochs": 12, "learning_rate": 3e-3, "batch_size": 16, "verbose": 0, "jit_compile": jit_compile}
    return task.fit(train, valid, **defaults | options)


def fit_briefly(task, train, valid=None, **options):
    """Fit for a few steps, for which compiling anything takes longer than the steps."""
    with eagerly():
        return fit(task, train, valid, **{"epochs": 1} | options)


@pytest.fixture(scope="module")
def trained():
    """A classifier that has learned whether a text has an 'a'."""
    keras.utils.set_random_seed(1)  # fixtures of a module come before those of a test
    task = classifier()
    task.history = fit(task, examples(), examples(32, seed=1), epochs=20)
    return task


def test_a_classifier_learns_and_ends_with_its_best_weights(trained):
    assert trained.labels == ["no", "yes"]
    assert max(trained.history["accuracy"]) > 0.9
    assert trained.evaluate(examples(32, seed=1))["accuracy"] == max(trained.history["accuracy"])
    assert trained.predict(["b c a d", "b c d"]) == ["yes", "no"]


@pytest.mark.parametrize("pooling", ["mean", "pooler"])
def test_every_pooling_gives_one_vector_a_text_and_leaves_padding_out(pooling):
    model = trunk(with_pool=pooling == "pooler")
    pooled = keras.Model(model.inputs, pooled_output(model, pooling))
    short, long = (TOKENIZER.encode_batch(["a b c"], length=length) for length in (5, 11))
    np.testing.assert_allclose(to_numpy(pooled(list(short))), to_numpy(pooled(list(long))), atol=1e-5)
    assert pooled.output_shape == (None, 48)


def test_mean_pooling_is_the_mean_of_the_tokens_that_are_there():
    model = trunk()
    token_ids, segment_ids = TOKENIZER.encode_batch(["a b c", "d"])
    states = to_numpy(model([token_ids, segment_ids]))
    pooled = keras.Model(model.inputs, pooled_output(model, "mean"))([token_ids, segment_ids])
    expected = [states[0].mean(axis=0), states[1, :3].mean(axis=0)]
    np.testing.assert_allclose(to_numpy(pooled), expected, atol=1e-5)


def test_pooler_needs_the_trunks_pooler():
    with pytest.raises(ConfigError, match="with_pool=True"):
        classifier(["x", "y"], pooling="pooler").model  # noqa: B018


def test_pairs_of_texts_are_told_apart_by_their_order():
    task = classifier(["yes", "no"])
    _, segments = task.encode([("a b", "c"), ("c", "a b")])
    assert segments == [[0, 0, 0, 0, 1, 1], [0, 0, 0, 1, 1, 1]]
    assert len(task.predict([("a b", "c"), ("", "")])) == 2


def test_several_labels_are_learned_each_for_itself():
    data = [(text, [letter for letter in "bc" if letter in text]) for text, _ in examples()]
    task = classifier(multi_label=True, pooling="mean")
    history = fit(task, data, data, epochs=16)
    assert task.labels == ["b", "c"]
    assert max(history["micro_f1"]) > 0.9
    assert task.predict(["d d b", "c b"]) == [["b"], ["b", "c"]]


def test_probabilities_stand_in_the_order_of_the_labels(trained):
    probabilities = trained.predict_proba(["b", "a b c", "a"])
    assert probabilities.shape == (3, 2)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    assert [trained.labels[best] for best in probabilities.argmax(axis=1)] == trained.predict(["b", "a b c", "a"])


def test_answers_do_not_depend_on_the_texts_beside(trained):
    texts = [text for text, _ in examples(9, seed=2)] + ODD_TEXTS
    together = trained.predict_proba(texts, batch_size=4)
    alone = np.concatenate([trained.predict_proba([text]) for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_odd_texts_have_an_answer(trained):
    assert set(trained.predict(ODD_TEXTS)) <= {"yes", "no"}
    assert trained.predict([]) == []
    assert trained.predict_proba([]).shape == (0, 2)
    assert trained.evaluate([(text, "no") for text in ODD_TEXTS]).keys() == {"accuracy", "macro_f1"}


@pytest.mark.parametrize("multi_label", [False, True])
def test_one_example_is_enough_to_train_on_with_class_weights_too(multi_label):
    task = classifier(["no", "yes"], multi_label=multi_label, class_weights="balanced")
    label = ["yes"] if multi_label else "yes"
    assert fit_briefly(task, [("b a", label)], [("", label)])["loss"][0] > 0


@pytest.mark.eager
@pytest.mark.parametrize(
    ("options", "trunk_options"),
    [
        ({"ema": 0.9, "adversarial": 0.5, "layer_decay": 0.8, "accumulate": 2}, {}),
        ({}, {"dtype": "mixed_float16"}),
        ({"optimizer": "sgd", "ema": 0.5}, {"dtype": "mixed_bfloat16", "model": "albert_unshared"}),
    ],
)
def test_recipes_and_mixed_precision_train_together(options, trunk_options):
    if options.get("optimizer") == "sgd":
        options = options | {"optimizer": keras.optimizers.SGD(0.01), "learning_rate": None}
    task = TextClassifier(trunk(**trunk_options), TOKENIZER, maxlen=16)
    train_with = fit if "adversarial" in options else fit_briefly
    history = train_with(task, examples(32), examples(8, seed=1), epochs=2, batch_size=8, **options)
    assert np.isfinite(history["loss"]).all()
    assert task.predict_proba(["a b"]).dtype == np.float32


def test_the_learning_rate_falls_to_zero_at_the_last_batch_also_where_batches_are_accumulated():
    rates = []
    record = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: rates.append(float(record.model.optimizer.learning_rate))
    )
    fit_briefly(classifier(), examples(64), accumulate=2, warmup=0.0, learning_rate=0.1, callbacks=[record])
    np.testing.assert_allclose(rates, [0.075, 0.05, 0.025, 0.0], atol=1e-6)


@pytest.mark.eager
def test_a_seed_decides_everything_and_another_seed_something_else():
    task_trunk = trunk(dropout_rate=0.2)
    start = task_trunk.get_weights()

    def weights(seed):
        task_trunk.set_weights(start)
        task = TextClassifier(task_trunk, TOKENIZER, maxlen=16)
        fit_briefly(task, examples(20), seed=seed)
        return task.model.get_weights()

    first, again, other = weights(3), weights(3), weights(4)
    assert all(np.allclose(one, two, atol=1e-5) for one, two in zip(first, again, strict=True))
    assert not all(np.allclose(one, two, atol=1e-3) for one, two in zip(first, other, strict=True))


@pytest.mark.eager
def test_odd_texts_train_and_each_data_set_is_tokenised_once(monkeypatch):
    task, sizes = classifier(), []
    encode = task.encode
    monkeypatch.setattr(task, "encode", lambda texts: sizes.append(len(texts)) or encode(texts))
    odd = [(text, label) for text in ODD_TEXTS for label in ("yes", "no")]
    history = fit_briefly(task, odd, odd[:8], epochs=3)
    assert np.isfinite(history["loss"]).all()
    assert sorted(sizes) == [8, 12]


def test_early_stopping_stops(monkeypatch):
    task = classifier(["no", "yes"])
    monkeypatch.setattr(task, "score", lambda examples, answers: {"accuracy": 0.5})
    assert len(fit_briefly(task, examples(8), examples(8), epochs=9, early_stopping=2)["loss"]) == 3


def test_an_interrupted_training_keeps_the_best_weights(monkeypatch):
    task, scores, seen = classifier(["no", "yes"]), iter([0.5, 0.9, 0.1]), []

    def score(examples, answers):
        seen.append(task.model.get_weights())
        return {"accuracy": next(scores)}

    def interrupt(epoch, logs):
        if epoch == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(task, "score", score)
    callbacks = [keras.callbacks.LambdaCallback(on_epoch_end=interrupt)]
    with pytest.raises(KeyboardInterrupt):
        fit_briefly(task, examples(8), examples(8), epochs=9, callbacks=callbacks)
    assert all((value == best).all() for value, best in zip(task.model.get_weights(), seen[1], strict=True))


def test_accuracy_and_macro_f1_are_those_of_the_definition():
    task = classifier(["x", "y", "z", "never"])
    wanted = ["x", "x", "x", "y", "y", "z"]
    scores = task.score([("", label) for label in wanted], ["x", "x", "y", "y", "z", "y"])
    f1 = [2 * 2 / (3 + 2), 2 * 1 / (2 + 3), 0.0]
    assert scores == pytest.approx({"accuracy": 0.5, "macro_f1": sum(f1) / 3})


def test_micro_f1_counts_every_label_of_every_text():
    task = classifier(["x", "y"], multi_label=True)
    scores = task.score([("", ["x", "y"]), ("", []), ("", ["y"])], [["x"], ["y"], ["y"]])
    assert scores == pytest.approx({"accuracy": 1 / 3, "micro_f1": 4 / 6, "macro_f1": (1 + 2 / 4) / 2})


@pytest.mark.parametrize(
    ("class_weights", "expected"),
    [({"y": 3.0}, [1, 1, 1, 3]), ("balanced", [4 / 6, 4 / 6, 4 / 6, 4 / 2])],
)
def test_class_weights_weigh_examples_in_the_loss(class_weights, expected):
    task = classifier(["x", "y"], class_weights=class_weights)
    data = [("a", "x"), ("b", "x"), ("c", "x"), ("d", "y")]
    _, targets, weights = task.columns(data, task.encode([text for text, _ in data]))
    assert targets.tolist() == [0, 0, 0, 1]
    np.testing.assert_allclose(weights, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("class_weights", "expected"),
    [({"y": 3.0}, [[1, 3], [1, 3], [1, 3]]), ("balanced", [[0.75, 1.5], [0.75, 0.75], [1.5, 0.75]])],
)
def test_class_weights_of_several_labels_weigh_each_label(class_weights, expected):
    task = classifier(["x", "y"], class_weights=class_weights, multi_label=True)
    data = [("a", ["x", "y"]), ("b", ["x"]), ("c", [])]
    _, targets, weights = task.columns(data, task.encode([text for text, _ in data]))
    assert targets.tolist() == [[1, 1], [1, 0], [0, 0]]
    np.testing.assert_allclose(weights, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.tsv", "好 吃\t1\n\n难吃\t0\n", [("好 吃", "1"), ("难吃", "0")]),
        ("b.tsv.gz", "one\ttwo\tyes\n", [("one", "two", "yes")]),
        ("c.jsonl", '{"text": "好", "label": 3}\n', [{"text": "好", "label": 3}]),
        ("d.json.gz", '[{"sentence1": "a", "sentence2": "b", "label": "x"}]', None),
    ],
)
def test_files_are_read_as_examples(tmp_path, name, content, expected):
    path = tmp_path / name
    path.write_bytes(gzip.compress(content.encode()) if name.endswith("gz") else content.encode())
    assert classifier().read(path) == (expected or json.loads(content))


def test_several_labels_stand_between_bars(tmp_path):
    path = tmp_path / "several.tsv"
    path.write_text("a\tx|y\nb\t\n", encoding="utf-8")
    assert classifier(multi_label=True).read(path) == [("a", ["x", "y"]), ("b", [])]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.tsv", b"one column\n", "row 1 has 1 columns"),
        ("a.jsonl", b'{"text": "x"\n', "line 1 is not JSON"),
        ("a.tsv", "好\t1".encode("gbk"), "is not UTF-8"),
        ("a.tsv.gz", b"not gzip", "cannot be read"),
        ("a.tsv", b"\n", "is empty"),
    ],
)
def test_files_that_cannot_be_read_say_why(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        classifier().read(tmp_path / name)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([("a", "yes"), ("a", "maybe")], "Example 1 has the label 'maybe', which is none of the 2 labels"),
        ([("a",)], "An example must be"),
        (["only a text"], "An example must be"),
        ([{"text": "a"}], "An example must be"),
        ([("a", ["yes"])], "expected one label"),
        ([("a", "yes"), ("a", "b", "yes")], "Text 0 is one text"),
        ([], "no examples"),
        ("missing.tsv", "no data file at missing.tsv"),
    ],
)
def test_examples_that_cannot_be_used_are_refused_before_training(data, message):
    task = classifier(["yes", "no"])
    with pytest.raises(DataError, match=message):
        task.evaluate(data)
    with pytest.raises(DataError, match=message):
        task.fit([("a", "yes")], data)


def test_one_text_instead_of_a_list_is_refused():
    with pytest.raises(DataError, match="takes a list"):
        classifier(["x", "y"]).predict("abc")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"maxlen": 25}, "24 positions"),
        ({"pooling": "max"}, "one of cls, mean, pooler"),
        ({"class_weights": "equal"}, "'balanced'"),
        ({"labels": ["x", "x"]}, "twice"),
    ],
)
def test_settings_that_cannot_work_are_refused_at_once(options, message):
    with pytest.raises(ConfigError, match=message):
        TextClassifier(trunk(), TOKENIZER, **{"maxlen": 16} | options)


def test_a_vocabulary_that_is_too_large_is_refused():
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *(f"t{number}" for number in range(300))]
    with pytest.raises(ConfigError, match="304 tokens and the model 211"):
        TextClassifier(trunk(), Tokenizer(tokens))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"early_stopping": 2}, "pass valid"),
        ({"optimizer": keras.optimizers.SGD(), "learning_rate": 1e-3}, "takes the place"),
    ],
)
def test_arguments_of_fit_that_contradict_each_other_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        classifier(["yes", "no"]).fit(examples(4), **options)


def test_a_classifier_without_labels_cannot_answer():
    with pytest.raises(ConfigError, match="no labels yet"):
        classifier().predict(["a"])


def test_a_saved_classifier_answers_the_same_in_a_new_process_on_another_backend(trained, tmp_path):
    trained.save(tmp_path / "saved")
    assert type(load_task(tmp_path / "saved")) is TextClassifier
    other = {"tensorflow": "torch", "torch": "jax", "jax": "tensorflow"}[keras.backend.backend()]
    backend = other if find_spec(other) else keras.backend.backend()
    program = (
        "import sys, json\nfrom bert4albert.tasks import TextClassifier\n"
        "task = TextClassifier.load(sys.argv[1])\ntexts = json.load(sys.stdin)\n"
        "print(json.dumps([task.predict(texts), task.predict_proba(texts).tolist()]))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "saved"],
        input=json.dumps(ODD_TEXTS),
        env=environment_for(backend),
        capture_output=True,
        text=True,
        check=True,
    )
    labels, probabilities = json.loads(result.stdout.splitlines()[-1])
    assert labels == trained.predict(ODD_TEXTS)
    np.testing.assert_allclose(probabilities, trained.predict_proba(ODD_TEXTS), atol=1e-5)


def test_settings_survive_saving(tmp_path):
    options = {"class_weights": {0: 2.0}, "dropout": 0.3, "pooling": "mean", "threshold": 0.7, "multi_label": True}
    task = TextClassifier(
        trunk(model="albert_unshared", dtype="mixed_bfloat16"), TOKENIZER, [0, 7], **options, maxlen=9
    )
    task.save(tmp_path / "new" / "folder")
    again = Task.load(tmp_path / "new" / "folder")
    assert again.settings() == task.settings()
    assert again.backbone.config == task.backbone.config
    assert again.backbone.encoder.compute_dtype == "bfloat16"
    assert load_task(tmp_path / "new" / "folder", dtype="float32").backbone.encoder.compute_dtype == "float32"


def test_a_failed_save_leaves_the_old_folder(tmp_path, monkeypatch):
    task = classifier([0, 1])
    task.save(tmp_path / "saved")
    (tmp_path / "saved" / "notes.txt").write_text("mine")
    before = {path.name: path.read_bytes() for path in (tmp_path / "saved").iterdir()}

    def fail(path):
        path.write_bytes(b"half")
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(task.model, "save_weights", fail)
        with pytest.raises(DataError, match="disk full"):
            task.save(tmp_path / "saved")
    assert {path.name: path.read_bytes() for path in (tmp_path / "saved").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]
    task.save(tmp_path / "saved")
    assert (tmp_path / "saved" / "notes.txt").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]


def test_folders_that_hold_no_task_say_so(tmp_path):
    with pytest.raises(DataError, match=r"no folder of a saved task: it has no task\.json"):
        load_task(tmp_path)
    classifier([0, 1]).save(tmp_path / "saved")
    settings = json.loads((tmp_path / "saved" / "task.json").read_text())
    (tmp_path / "saved" / "task.json").write_text(json.dumps(settings | {"task": "TextClassifer"}))
    with pytest.raises(DataError, match="Did you mean 'TextClassifier'"):
        load_task(tmp_path / "saved")
    with pytest.raises(DataError, match="holds a TextClassifer, not a TextClassifier"):
        TextClassifier.load(tmp_path / "saved")
    (tmp_path / "saved" / "task.json").write_text(json.dumps(settings))
    (tmp_path / "saved" / "model.weights.h5").write_bytes(b"half a file")
    with pytest.raises(DataError, match=r"model\.weights\.h5 does not hold this task's weights"):
        load_task(tmp_path / "saved")
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="is a file"):
        classifier([0, 1]).save(tmp_path / "file")
