"""A run that was killed and goes on ends as one that never stopped, bit for bit."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
from support.fuzzing import changed_bytes
from support.gradients import to_numpy
from support.models import TINY, eagerly

from bert4albert import ConfigError, DataError, Tokenizer, build_model
from bert4albert.tasks import RelationExtractor, TextClassifier
from bert4albert.training import Evaluator, RunState

pytestmark = pytest.mark.eager
LETTERS = "abcdefghij"
TOKENIZER = Tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *LETTERS])
EXAMPLES = [(" ".join(LETTERS[i % 7 : i % 7 + 3]), "xy"[i % 2]) for i in range(8)]
VALID = [(" ".join(LETTERS[i % 5 : i % 5 + 2]), "xy"[i % 3 % 2]) for i in range(3)]


class KilledError(Exception):
    """What ends a run in these tests."""


class KillAt(keras.callbacks.Callback):
    """Fails at a batch, counted from 0 over all epochs that it sees, or at the end of an epoch."""

    def __init__(self, batch=None, epoch=None):
        super().__init__()
        self.batch, self.epoch, self.seen = batch, epoch, 0

    def on_train_batch_end(self, batch, logs=None):
        if self.seen == self.batch:
            raise KilledError
        self.seen += 1

    def on_epoch_end(self, epoch, logs=None):
        if epoch == self.epoch:
            raise KilledError


def new_task(task_class=TextClassifier, **options):
    keras.utils.set_random_seed(3)  # The trunk's first weights, as a checkpoint would give them.
    return task_class(build_model(TINY | {"num_hidden_layers": 1, "max_position_embeddings": 24}), TOKENIZER, maxlen=16)


OPTIONS = {"epochs": 2, "batch_size": 4, "learning_rate": 1e-3, "ema": 0.5, "seed": 5, "verbose": 0}


def fit(task, folder=None, kill=None, **options):
    callbacks = [] if kill is None else [kill]
    return task.fit(EXAMPLES, VALID, resume=folder, callbacks=callbacks, **OPTIONS | options)


@pytest.fixture(scope="module")
def whole():
    """The history and the weights of a run that nothing stops."""
    task = new_task()
    with eagerly():
        return fit(task), task.model.get_weights()


def assert_same(history, weights, whole):
    assert history == whole[0]
    assert all(np.array_equal(one, other) for one, other in zip(weights, whole[1], strict=True))


def test_a_run_that_was_killed_ends_as_one_that_was_not(whole, tmp_path):
    # At the end of the first epoch, which so has not ended; in the second; and at the very end.
    for kill in [{"epoch": 0}, {"batch": 3}, {"epoch": 1}]:
        with pytest.raises(KilledError):
            fit(new_task(), tmp_path / "run", KillAt(**kill))
    task = new_task()
    history = fit(task, tmp_path / "run")
    assert_same(history, task.model.get_weights(), whole)
    # A finished run returns at once, also in a new task.
    task = new_task()
    assert fit(task, tmp_path / "run", KillAt(batch=0)) == history
    assert_same(history, task.model.get_weights(), whole)


@pytest.mark.once
@pytest.mark.slow
def test_a_run_in_a_folder_is_the_same_as_one_without(whole, tmp_path):
    task = new_task()
    assert_same(fit(task, tmp_path / "run"), task.model.get_weights(), whole)


@pytest.mark.once
@pytest.mark.slow
def test_a_run_without_validation_and_with_a_layer_that_draws_goes_on(tmp_path):
    data = [(text, [(text[0], "r", text[-1])]) for text, _ in EXAMPLES[:6]]
    options = {"epochs": 2, "batch_size": 4, "seed": 5, "verbose": 0}
    task = new_task(RelationExtractor)
    expected = task.fit(data, **options), task.model.get_weights()
    with pytest.raises(KilledError):
        new_task(RelationExtractor).fit(data, **options, resume=tmp_path, callbacks=[KillAt(batch=2)])
    task = new_task(RelationExtractor)
    assert_same(task.fit(data, **options, resume=tmp_path), task.model.get_weights(), expected)


@pytest.mark.once
@pytest.mark.slow
def test_patience_counts_on_over_a_kill(tmp_path, monkeypatch):
    monkeypatch.setattr(TextClassifier, "score", lambda *_: {"accuracy": 0.5})
    with pytest.raises(KilledError):
        fit(new_task(), tmp_path, KillAt(batch=3), epochs=9, early_stopping=2)
    assert len(fit(new_task(), tmp_path, epochs=9, early_stopping=2)["loss"]) == 3
    assert len(fit(new_task(), tmp_path, epochs=9, early_stopping=2)["loss"]) == 3


@pytest.mark.once
def test_another_run_is_refused_and_what_differs_is_named(tmp_path):
    with pytest.raises(KilledError):
        fit(new_task(), tmp_path, KillAt(epoch=1))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for options, name in [({"seed": 6}, "seed"), ({"epochs": 4}, "epochs"), ({"learning_rate": 2e-3}, "learning_rate")]:
        with pytest.raises(ConfigError, match=rf"differs in {name} \(was .*, is .*\)"):
            fit(new_task(), tmp_path, **options)
    with pytest.raises(ConfigError, match=r"differs in train \(was '8 examples"):
        new_task().fit(EXAMPLES[:-1], VALID, resume=tmp_path, **OPTIONS)
    task = new_task()
    task.dropout = 0.5
    with pytest.raises(ConfigError, match="differs in dropout"):
        fit(task, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    (tmp_path / "state.npz").write_bytes(b"half")
    with pytest.raises(DataError, match="is damaged"):
        fit(new_task(), tmp_path)


@pytest.mark.once
def test_an_optimizer_that_half_precision_made_infinite_is_put_back_as_it_was(tmp_path):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    state = RunState(tmp_path, {"data": "a"}, model, None)
    model.compile("adam", "mse", run_eagerly=True)
    model.fit(np.ones((4, 3)), np.ones((4, 2)), verbose=0, callbacks=[state])
    slot = model.optimizer.variables[-1]
    slot.assign(np.full(slot.shape, np.inf))
    state.on_epoch_end(1, {"loss": 1.0})
    slot.assign(np.zeros(slot.shape))
    RunState(tmp_path, {"data": "a"}, model, None).restore(model.optimizer)
    assert np.isinf(to_numpy(slot)).all()


@pytest.mark.once
def test_a_damaged_state_is_an_error_of_ours_or_restores_what_was_there(tmp_path):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    evaluator = Evaluator(lambda: {"accuracy": 0.5}, "accuracy")
    state = RunState(tmp_path, {"data": "a"}, model, evaluator)
    model.compile("adam", "mse", run_eagerly=True)
    model.fit(np.ones((4, 3)), np.ones((4, 2)), verbose=0, callbacks=[evaluator, state])
    weights, path = model.get_weights(), tmp_path / "state.npz"
    whole = path.read_bytes()
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files}
    progress = json.loads(str(arrays["progress"]))
    changes = [{"epoch": -1}, {"epoch": "1"}, {"history": []}, {"history": {"loss": ["a"]}}, {"facts": []}]
    changes += [{"history": {"loss": [1, 2]}}, {"facts": None}, {"evaluator": None}, {"evaluator": {}}]
    changes += [{"evaluator": {"best": None, "best_epoch": 0}}, {"evaluator": {"best": 1, "best_epoch": 7}}]
    damaged = [whole[: len(whole) // 2], b"", b"PK\x03\x04"]
    texts = [{"progress": np.array(json.dumps(progress | change))} for change in changes]
    others = ({"progress": np.array("[" * 5000)}, {"progress": np.ones(3)}, {"model/x": np.ones(2)}, {"model/0": []})
    for more in (*texts, *others):
        np.savez(path, **arrays | more)
        damaged.append(path.read_bytes())
    chance = random.Random(0)
    flipped = [changed_bytes(chance, whole) for _ in range(60)]
    for content in damaged + flipped:
        path.write_bytes(content)
        try:
            RunState(tmp_path, {"data": "a"}, model, evaluator).restore(model.optimizer)
        except (DataError, ConfigError):
            continue
        assert content in flipped
        assert all(np.array_equal(one, other) for one, other in zip(model.get_weights(), weights, strict=True))


@pytest.mark.once
def test_callbacks_of_every_recipe_find_their_metrics(tmp_path, capsys):
    path = tmp_path / "best.keras"
    plateau = keras.callbacks.ReduceLROnPlateau(monitor="val_loss", patience=0, min_delta=100.0, factor=0.5)
    callbacks = [
        keras.callbacks.EarlyStopping(monitor="val_loss", patience=1, min_delta=100.0),
        keras.callbacks.ModelCheckpoint(path, monitor="val_accuracy", mode="max", save_best_only=True),
        plateau,
        keras.callbacks.CSVLogger(tmp_path / "log.csv"),
    ]
    history = new_task().fit(EXAMPLES, VALID, callbacks=callbacks, **OPTIONS | {"verbose": 2, "ema": None})
    assert history["val_accuracy"] == history["accuracy"]
    assert history["val_macro_f1"] == history["macro_f1"]
    assert len(history["val_loss"]) == 2  # Stopped, since nothing gets better by 100.
    assert path.exists()
    assert "val_loss" in (tmp_path / "log.csv").read_text()
    assert float(plateau.model.optimizer.learning_rate) == pytest.approx(5e-4)
    assert "The weights of epoch" in capsys.readouterr().out


@pytest.mark.once
def test_the_loss_of_validation_is_the_loss_on_it():
    task = new_task()
    history = fit(task, epochs=1, ema=None)
    # One epoch: its weights are the best.
    probabilities = task.predict_proba([text for text, _ in VALID])
    right = [probabilities[row, task.labels.index(label)] for row, (_, label) in enumerate(VALID)]
    assert history["val_loss"][0] == pytest.approx(-np.log(right).mean(), rel=1e-4)


PROGRAM = """
import json, sys
sys.path[:0] = json.loads(sys.argv[2])
import numpy as np
import test_resume
task = test_resume.new_task()
history = test_resume.fit(task, sys.argv[1] or None, epochs=4)
print(json.dumps([history, [weight.tolist() for weight in task.model.get_weights()]]))
"""


@pytest.mark.slow
def test_random_kills_change_nothing(tmp_path):
    """Twenty runs, each killed at a random moment of its process and resumed until it ends."""
    command = [sys.executable, "-c", PROGRAM]
    paths = json.dumps([os.path.dirname(__file__), *sys.path])
    started = time.monotonic()
    expected = json.loads(
        subprocess.run([*command, "", paths], capture_output=True, check=True).stdout.splitlines()[-1]
    )
    seconds = time.monotonic() - started
    draw = random.Random(0)
    for run in range(20):
        folder = tmp_path / str(run)
        process = subprocess.Popen([*command, folder, paths], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        time.sleep(draw.uniform(0.4, 1.0) * seconds)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        printed = subprocess.run([*command, folder, paths], capture_output=True, check=True).stdout
        assert json.loads(printed.splitlines()[-1]) == expected, run
