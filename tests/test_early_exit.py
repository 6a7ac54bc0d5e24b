"""Texts leave at the first depth that is sure of their label, and without confidence nothing changes."""

import keras
import numpy as np
import pytest
from support.gradients import to_numpy
from support.models import TINY, untidy

from bert4albert import ConfigError, Tokenizer, build_model
from bert4albert.heads.exits import exits_loss
from bert4albert.tasks import TextClassifier, load_task

pytestmark = pytest.mark.eager
LETTERS = "abcdefghij"
TOKENIZER = Tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *LETTERS])
RANDOM = np.random.default_rng(0)
TEXTS = [" ".join(RANDOM.choice([*LETTERS], RANDOM.integers(1, 14))) for _ in range(23)]
EXAMPLES = [(text, "xy"["a" in text]) for text in TEXTS]


def classifier(pooling="cls", **options):
    keras.utils.set_random_seed(1)
    trunk = build_model(TINY | {"max_position_embeddings": 21}, sharing="unshared", with_pool=pooling == "pooler")
    return TextClassifier(
        trunk, TOKENIZER, **{"labels": ["x", "y"], "exits": True, "maxlen": 16, "pooling": pooling} | options
    )


@pytest.fixture(scope="module", params=["cls", "mean", "pooler"])
def task(request):
    """A classifier whose depths differ in how sure they are."""
    task = classifier(request.param)
    untidy(task.model)
    return task


def probabilities_of_depths(task):
    """What every depth gives for every text, [texts, depth, labels], computed at once."""
    batch = list(TOKENIZER.encode_batch(TEXTS, maxlen=16))
    return to_numpy(keras.ops.softmax(task.model(batch)))


def test_each_text_leaves_at_the_first_depth_that_is_sure(task):
    every = probabilities_of_depths(task)
    largest = every.max(axis=2)
    for confidence in (0.51, float(np.median(largest)), 1.0):
        sure = largest >= confidence
        sure[:, -1] = True
        # A probability next to the confidence may fall on either side.
        certain = (np.abs(largest - confidence) > 1e-5).all(axis=1)
        expected = every[np.arange(len(TEXTS)), sure.argmax(axis=1)]
        found = task.predict_proba(TEXTS, 8, confidence=confidence)
        np.testing.assert_allclose(found[certain], expected[certain], rtol=1e-4, atol=1e-5)
        labels = np.array(task.labels)[found.argmax(axis=1)].tolist()
        assert task.predict(TEXTS, 23, confidence=confidence) == labels


def test_without_confidence_the_answer_is_that_of_the_whole_depth(task):
    np.testing.assert_allclose(task.predict_proba(TEXTS, 5), probabilities_of_depths(task)[:, -1], rtol=1e-4, atol=1e-5)


@pytest.mark.once
def test_evaluations_tell_the_mean_depth_and_draw_it(tmp_path):
    task = classifier()
    untidy(task.model)
    usual = task.evaluate(EXAMPLES)
    assert usual.keys() == {"accuracy", "macro_f1"}
    one = task.evaluate(EXAMPLES, confidence=0.6)
    assert one.keys() == {*usual, "mean_depth"}
    confidences = (1.0, 0.01, 0.6)
    several = task.evaluate(EXAMPLES, confidence=confidences, picture=tmp_path / "exits.png")
    assert [result["confidence"] for result in several] == [*confidences]
    assert several[0]["mean_depth"] > several[2]["mean_depth"] > several[1]["mean_depth"] == 1
    assert {name: several[2][name] for name in one} == one
    assert all(result["seconds"] > 0 for result in several)
    assert (tmp_path / "exits.png").read_bytes().startswith(b"\x89PNG")
    task.save(tmp_path / "task")
    assert load_task(tmp_path / "task").predict(TEXTS, confidence=0.6) == task.predict(TEXTS, confidence=0.6)


@pytest.mark.once
@pytest.mark.parametrize("confidence", [0, -0.1, 1.01, float("nan"), True, "0.8", None])
def test_what_is_no_confidence_is_refused(confidence):
    task = classifier()
    with pytest.raises(ConfigError, match="above 0 and up to 1"):
        task.evaluate(EXAMPLES, confidence=(0.5, confidence))
    if confidence is not None:
        with pytest.raises(ConfigError, match="above 0 and up to 1"):
            task.predict(TEXTS, confidence=confidence)
        with pytest.raises(ConfigError, match="above 0 and up to 1"):
            task.predict_proba(TEXTS, confidence=confidence)


@pytest.mark.once
@pytest.mark.parametrize("options", [{"exits": False}, {"multi_label": True}, {"regression": True, "labels": None}])
def test_confidence_needs_exits_and_one_label(options):
    task = classifier(**options)
    for ask in (task.predict, task.predict_proba):
        with pytest.raises(ConfigError, match="exits=True"):
            ask(TEXTS, confidence=0.5)
    with pytest.raises(ConfigError, match="exits=True"):
        task.evaluate([("a", "x")], confidence=0.5)


@pytest.mark.once
def test_every_depth_learns(tmp_path):
    task = classifier()
    before = task.model.get_layer("exits").get_weights()
    history = task.fit(EXAMPLES, EXAMPLES, epochs=1, batch_size=8, verbose=0)
    assert np.isfinite(history["loss"]).all()
    after = task.model.get_layer("exits").get_weights()
    assert all(not np.array_equal(one, other) for one, other in zip(before, after, strict=True))


@pytest.mark.once
@pytest.mark.slow
def test_every_depth_learns_several_labels_and_numbers():
    several = classifier(multi_label=True)
    several.fit([(text, [label]) for text, label in EXAMPLES], epochs=1, batch_size=8, verbose=0)
    numbers = classifier(regression=True, labels=None)
    numbers.fit([(text, len(text)) for text in TEXTS], epochs=1, batch_size=8, verbose=0)
    assert len(numbers.predict(TEXTS)) == len(several.predict(TEXTS)) == len(TEXTS)


def test_the_loss_weighs_each_depth_by_its_number():
    outputs = keras.ops.convert_to_tensor(RANDOM.normal(size=(4, 3, 2)).astype("float32"))
    loss = exits_loss(lambda targets, logits: logits[:, 0] * targets, 2.0, outputs)
    expected = 2 * (to_numpy(outputs)[:, :, 0] * [1, 2, 3]).sum(axis=1) / 6
    np.testing.assert_allclose(to_numpy(loss), expected, rtol=1e-6)
