"""Training that notices: numbers that are none, Ctrl-C at any moment, threads that ask at once."""

import threading
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
from support.models import TINY

from bert4albert import Bert4AlbertError, ConfigError, Tokenizer, TrainingError, build_model
from bert4albert.tasks import TextClassifier

LETTERS = "abcdefghij"
TOKENIZER = Tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *LETTERS])
EXAMPLES = [(" ".join(LETTERS[i % 7 : i % 7 + 3]), "xy"[i % 2]) for i in range(12)]


def classifier(**options):
    keras.utils.set_random_seed(1)
    trunk = build_model(TINY | {"num_hidden_layers": 1, "max_position_embeddings": 24}, **options)
    return TextClassifier(trunk, TOKENIZER, ["x", "y"], maxlen=16)


def weights_of(task):
    return [np.array(weight) for weight in task.model.get_weights()]


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


class At(keras.callbacks.Callback):
    """Does something at the end of one batch or one epoch, counted from 0."""

    def __init__(self, action, batch=None, epoch=None):
        super().__init__()
        self.action, self.batch, self.epoch, self.seen = action, batch, epoch, 0

    def on_train_batch_end(self, batch, logs=None):
        if self.seen == self.batch:
            self.action(self.model)
        self.seen += 1

    def on_epoch_end(self, epoch, logs=None):
        if epoch == self.epoch:
            self.action(self.model)


def break_a_weight(model):
    weight = model.trainable_weights[-1]
    weight.assign(np.full(tuple(weight.shape), np.nan, "float32"))


def interrupt(_):
    raise KeyboardInterrupt


@pytest.fixture(scope="module")
def task():
    return classifier()


def fit(task, *arguments, **options):
    return task.fit(*arguments, **{"epochs": 2, "batch_size": 4, "learning_rate": 1e-3, "verbose": 0} | options)


@pytest.mark.eager
def test_a_loss_that_is_no_number_ends_the_training_with_the_weights_from_before(task):
    before = weights_of(task)
    with pytest.raises(
        TrainingError, match=r"loss is nan at step 3 \(epoch 1\).*learning rate of .*lower learning_rate"
    ):
        fit(task, EXAMPLES, callbacks=[At(break_a_weight, batch=1)])
    assert same(weights_of(task), before)
    assert issubclass(TrainingError, Bert4AlbertError)
    assert task.predict(["a"])


@pytest.mark.eager
@pytest.mark.once
def test_weights_broken_by_the_last_step_are_noticed_though_its_loss_was_fine(task):
    before = weights_of(task)
    with pytest.raises(TrainingError, match=r"weight .* is not finite at step 3 \(epoch 1\)"):
        fit(task, EXAMPLES, epochs=1, callbacks=[At(break_a_weight, batch=2)])
    assert same(weights_of(task), before)


@pytest.mark.eager
def test_with_validation_the_best_finite_weights_are_in_place(task, monkeypatch):
    seen, scores = [], iter([0.5, 0.25])

    def score(*_):
        seen.append(weights_of(task))
        return {"accuracy": next(scores)}

    monkeypatch.setattr(task, "score", score)
    with pytest.raises(TrainingError, match=r"epoch 3"):
        fit(task, EXAMPLES, EXAMPLES, epochs=3, ema=0.5, callbacks=[At(break_a_weight, batch=6)])
    assert same(weights_of(task), seen[0])


@pytest.mark.eager
@pytest.mark.parametrize(("where", "ema"), [({"batch": 0}, 0.5), ({"batch": 4}, None), ({"epoch": 0}, 0.5)])
def test_ctrl_c_leaves_a_usable_task(task, where, ema):
    with pytest.raises(KeyboardInterrupt):
        fit(task, EXAMPLES, ema=ema, callbacks=[At(interrupt, **where)])
    assert all(np.isfinite(weight).all() for weight in weights_of(task))
    assert len(task.predict([text for text, _ in EXAMPLES])) == 12


@pytest.mark.eager
@pytest.mark.parametrize("ema", [None, 0.5])
def test_ctrl_c_while_the_first_step_compiles_leaves_the_weights_from_before(task, monkeypatch, ema):
    before = weights_of(task)
    # The loss is traced inside the first step.
    monkeypatch.setattr(type(task), "loss", property(lambda self: lambda targets, logits: interrupt(logits)))
    with pytest.raises(KeyboardInterrupt):
        fit(task, EXAMPLES, ema=ema)
    assert same(weights_of(task), before)
    assert task.predict(["a"])


@pytest.mark.eager
@pytest.mark.once
def test_ctrl_c_after_evaluations_leaves_the_best_weights(task, monkeypatch):
    seen, scores = [], iter([0.5, 0.9, 0.1])

    def score(*_):
        seen.append(weights_of(task))
        return {"accuracy": next(scores)}

    monkeypatch.setattr(task, "score", score)
    with pytest.raises(KeyboardInterrupt):
        fit(task, EXAMPLES, EXAMPLES, epochs=4, callbacks=[At(interrupt, batch=10)])
    assert same(weights_of(task), seen[1])


@pytest.mark.eager
@pytest.mark.once
def test_a_metric_that_is_no_number_is_never_the_best(task, monkeypatch):
    seen, scores = [], iter([float("nan"), 0.5, float("nan")])

    def score(*_):
        seen.append(weights_of(task))
        return {"accuracy": next(scores)}

    monkeypatch.setattr(task, "score", score)
    fit(task, EXAMPLES, EXAMPLES, epochs=3)
    assert same(weights_of(task), seen[1])


@pytest.mark.eager
@pytest.mark.once
def test_backup_and_restore_is_refused_in_words(task, tmp_path):
    with pytest.raises(ConfigError, match="BackupAndRestore forgets"):
        fit(task, EXAMPLES, callbacks=[keras.callbacks.BackupAndRestore(tmp_path / "backup")])


def ask_from_threads(task, threads, questions):
    """The answers of so many threads that begin at the same moment, and the same questions' answers in a row."""
    random = np.random.default_rng(0)
    texts = [
        [" ".join(random.choice([*LETTERS], random.integers(1, 14))) for _ in range(random.integers(1, 4))]
        for _ in range(questions)
    ]
    task.predict_proba(["a"])  # Built, and nothing else compiled.
    barrier = threading.Barrier(threads)

    def ask(thread):
        barrier.wait()
        return {index: task.predict_proba(texts[index]) for index in range(thread, questions, threads)}

    with ThreadPoolExecutor(threads) as pool:
        answers = {index: answer for found in pool.map(ask, range(threads)) for index, answer in found.items()}
    return [answers[index] for index in range(questions)], [task.predict_proba(of) for of in texts]


@pytest.mark.parametrize(
    ("threads", "questions"), [(4, 24), pytest.param(10, 1000, marks=pytest.mark.slow)], ids=["few", "many"]
)
def test_threads_that_ask_at_once_get_the_answers_of_one_after_the_other(task, threads, questions):
    together, serial = ask_from_threads(task, threads, questions)
    for one, other in zip(together, serial, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.eager
@pytest.mark.once
@pytest.mark.filterwarnings("ignore")
def test_a_quantised_task_is_not_saved_where_it_could_not_be_loaded(tmp_path):
    quantised = classifier()
    quantised.model.quantize("int8")
    assert quantised.predict(["a"])
    for save in (lambda: quantised.save(tmp_path / "task"), lambda: quantised.model.save(tmp_path / "model.keras")):
        with pytest.raises(ConfigError, match=r"is quantised \(int8\).*quantise it again after loading"):
            save()
    assert not (tmp_path / "task").exists()


@pytest.mark.eager
def test_answers_follow_the_weights_and_new_variables(task):
    """What was compiled for an answer must not keep old weights, nor miss those of LoRA."""
    before = task.predict_proba(["a b"])
    task.model.layers[-1].enable_lora(2)
    fit(task, EXAMPLES, epochs=1)
    direct = keras.ops.softmax(task.model(list(TOKENIZER.encode_batch(["a b"]))))
    np.testing.assert_allclose(task.predict_proba(["a b"]), keras.ops.convert_to_numpy(direct), atol=1e-5)
    assert not np.allclose(task.predict_proba(["a b"]), before, atol=1e-7)
