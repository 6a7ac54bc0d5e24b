"""The pretraining run: loss and gradients, learning, going on after a crash, and what can go wrong."""

import dataclasses
import errno
import itertools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from support.gradients import to_numpy
from support.models import TINY, untidy
from test_pretraining_data import tokenizer, write_corpus

from bert4albert import build_model
from bert4albert.checkpoint.dialects import GOOGLE_ALBERT
from bert4albert.errors import ConfigError, DataError, TokenizerError, TrainingError
from bert4albert.files import reserved
from bert4albert.pretraining.command import main
from bert4albert.pretraining.examples import Examples
from bert4albert.pretraining.logs import read_log
from bert4albert.pretraining.masking import Masking
from bert4albert.pretraining.objective import Pretraining
from bert4albert.pretraining.recipe import Recipe
from bert4albert.pretraining.shards import Shards, tokenize_corpus
from bert4albert.pretraining.state import load_state, read_progress, save_state
from bert4albert.pretraining.training import build_training, pretrain, shrink_embeddings
from bert4albert.text import Tokenizer

VOCABULARY = list(tokenizer().vocab)
CONFIG = TINY | {
    "vocab_size": len(VOCABULARY),
    # On PyTorch Keras draws dropout from PyTorch's own generator, which is no part of a run's state.
    "hidden_dropout_prob": 0.0 if keras.backend.backend() == "torch" else 0.1,
}
RECIPE = Recipe(length=40, batch_size=8, steps=12, learning_rate=1e-3, seed=3)
OPTIONS = {"save_every": 4, "log_every": 3, "valid_batches": 2, "workers": 1}


@pytest.fixture
def corpus(tmp_path):
    return write_corpus(tmp_path / "corpus.txt")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing interrupted: its folder, and its weights."""
    folder = tmp_path_factory.mktemp("whole")
    return folder / "run", weights_of(run(write_corpus(folder / "corpus.txt"), folder / "run"))


def run(corpus, folder, recipe=RECIPE, **options):
    return pretrain(corpus, VOCABULARY, CONFIG, folder, recipe, **{"valid": corpus, **OPTIONS, **options})


def weights_of(trunk):
    return {name: to_numpy(weight) for name, weight in trunk.named_weights()}


def assert_identical(first, second):
    assert [name for name in first if not np.array_equal(first[name], second[name])] == []


def test_loss_and_gradients_of_a_training_step_equal_the_original(golden):
    case = golden("google_albert")
    expected = case.expected
    trunk = build_model(case.config, case.checkpoint, with_nsp=True, with_mlm="linear", masked_positions=True)
    training = Pretraining(trunk)
    # One step of plain descent moves every weight by its gradient.
    training.compile(keras.optimizers.SGD(1.0))
    before = weights_of(trunk)
    weights = np.ones(expected["masked_ids"].shape, "float32")
    measured = training.train_on_batch(
        [expected["token_ids"], expected["segment_ids"], expected["masked_positions"]],
        [expected["masked_ids"], weights, expected["sentence_order_labels"][:, 0]],
        return_dict=True,
    )
    assert abs(measured["loss"] - float(expected["total_loss"])) < 1e-5
    assert abs(measured["mlm_loss"] - float(expected["mlm_loss"])) < 1e-5
    assert abs(measured["sop_loss"] - float(expected["sop_loss"])) < 1e-5
    for name, after in weights_of(trunk).items():
        stored = GOOGLE_ALBERT.stored_as(name)
        theirs = case.gradients[stored.name.replace("/", "|")]
        gradient = (before[name] - after).T if stored.transposed else before[name] - after
        rounding = 2e-7 * max(1.0, np.abs(after).max())
        assert np.abs(gradient - theirs).max() <= 1e-4 * np.abs(theirs).max() + rounding, name


def test_initial_weights_follow_from_the_seed():
    first, again = (weights_of(build_training(CONFIG, RECIPE).trunk) for _ in range(2))
    other = weights_of(build_training(CONFIG, dataclasses.replace(RECIPE, seed=4)).trunk)
    assert_identical(first, again)
    assert not np.array_equal(first["embeddings/word/embeddings"], other["embeddings/word/embeddings"])


@pytest.mark.once
@pytest.mark.eager
def test_a_deeper_model_begins_with_the_shared_block_of_a_shallow_one(tmp_path, corpus):
    shallow = run(corpus, tmp_path / "one", dataclasses.replace(RECIPE, steps=2, word_embeddings="counted"), valid=None)
    training = build_training({**CONFIG, "num_hidden_layers": 5}, RECIPE, checkpoint=tmp_path / "one" / "model")
    assert training.trunk.config.num_hidden_layers == 5
    assert_identical(weights_of(shallow), weights_of(training.trunk))
    recipe = dataclasses.replace(RECIPE, word_embeddings="counted")
    with pytest.raises(ConfigError, match="leave out word_embeddings='counted', or the checkpoint"):
        build_training(CONFIG, recipe, checkpoint=tmp_path / "one" / "model")


@pytest.mark.once
@pytest.mark.eager
def test_counted_word_embeddings_are_as_long_as_random_ones_and_unseen_words_stay_random(tmp_path, corpus):
    random = weights_of(build_training(CONFIG, RECIPE).trunk)
    recipe = dataclasses.replace(RECIPE, steps=1, learning_rate=0.0, word_embeddings="counted")
    begun = weights_of(run(corpus, tmp_path / "run", recipe, valid=None))
    name = "embeddings/word/embeddings"
    seen = np.unique(Shards(tmp_path / "run" / "shards").tokens(0))
    scale = 0.02 * CONFIG["embedding_size"] ** 0.5
    lengths = np.linalg.norm(begun[name][seen], axis=1)
    factor = lengths[0] / scale  # by which all were shrunk in the end
    assert factor == pytest.approx(1.0, abs=0.01)
    np.testing.assert_allclose(lengths, factor * scale, rtol=1e-5)
    unseen = np.setdiff1d(np.arange(len(VOCABULARY)), seen)
    np.testing.assert_allclose(begun[name][unseen], factor * random[name][unseen], rtol=1e-4)
    assert np.exp(begun["masked_lm/bias"]).sum() == pytest.approx(1.0, abs=1e-5)


def test_embeddings_are_shrunk_without_changing_any_output():
    trunk = build_training(CONFIG, RECIPE).trunk
    untidy(trunk)
    random = np.random.default_rng(0)
    inputs = [random.integers(1, 306, (3, 9)), random.integers(0, 2, (3, 9)), random.integers(0, 9, (3, 4))]
    before = [to_numpy(output) for output in trunk(inputs)]
    shrink_embeddings(trunk)
    words = weights_of(trunk)["embeddings/word/embeddings"]
    assert np.sqrt(np.mean(words**2)) == pytest.approx(0.02, rel=1e-4)
    for expected, output in zip(before, trunk(inputs), strict=True):
        np.testing.assert_allclose(to_numpy(output), expected, atol=2e-5)


def test_unused_masked_positions_do_not_count():
    training = build_training(CONFIG, RECIPE)
    untidy(training.trunk)
    random = np.random.default_rng(0)
    rows = random.integers(6, 306, (3, 20)).astype("int32")
    _, positions, masked_ids, weights = Masking.of(tokenizer())(rows, random)
    order = np.array([0, 1, 1], "int32")

    def loss(count, spoiled):
        changed = np.where(weights > 0, masked_ids, spoiled)
        y = [changed[:, :count], weights[:, :count], order]
        return training.test_on_batch([rows, rows * 0, positions[:, :count]], y, return_dict=True)

    used = int(weights.sum(axis=1).max())
    assert used < weights.shape[1]
    assert loss(None, 0) == pytest.approx(loss(used, 9), abs=1e-6)


def test_fixed_masks_of_32_sequences_are_learnt_by_heart():
    random = np.random.default_rng(0)
    rows = random.integers(6, 306, (32, 24)).astype("int32")
    rows[:, 0], rows[:, 11], rows[:, 23] = 2, 3, 3
    seen, positions, masked_ids, weights = Masking.of(tokenizer())(rows, random)
    segments = np.repeat([[0] * 12 + [1] * 12], 32, axis=0).astype("int32")
    order = random.integers(0, 2, 32).astype("int32")
    config = {**CONFIG, "hidden_dropout_prob": 0.0}
    training = build_training(config, Recipe(steps=300, learning_rate=5e-3, warmup=0.1))
    x, y = [seen, segments, positions], [masked_ids, weights, order]
    for _ in range(300):
        measured = training.train_on_batch(x, y, return_dict=True)
        if measured["mlm_accuracy"] > 0.95 and measured["sop_accuracy"] == 1.0:
            return
    pytest.fail(f"not learnt in 300 steps: {measured}")


@pytest.mark.once
@pytest.mark.eager
def test_an_interrupted_run_reaches_the_same_weights(tmp_path, corpus, monkeypatch):
    expected = weights_of(run(corpus, tmp_path / "whole"))
    # Before the first checkpoint, then right after the next one.
    for at, saved in ((2, 0), (5, 4)):
        batches, original = itertools.count(1), Pretraining.train_on_batch

        def stopping(self, *arguments, batches=batches, at=at, original=original, **options):
            if next(batches) == at:
                raise KeyboardInterrupt
            return original(self, *arguments, **options)

        with monkeypatch.context() as patch:
            patch.setattr(Pretraining, "train_on_batch", stopping)
            with pytest.raises(KeyboardInterrupt):
                run(corpus, tmp_path / "parts")
        assert read_progress(tmp_path / "parts" / "state.npz")["step"] == saved
    assert_identical(expected, weights_of(run(corpus, tmp_path / "parts")))


KILLED = """
import itertools, os, signal, sys
import keras
sys.path.insert(0, {tests!r})
import test_pretraining_training as tests
from pathlib import Path
batches, original = itertools.count(1), tests.Pretraining.train_on_batch

def dying(self, *arguments, **options):
    if next(batches) == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(self, *arguments, **options)

tests.Pretraining.train_on_batch = dying
folder = Path({folder!r})
tests.run(folder / "corpus.txt", folder / "parts")
"""


def test_a_run_killed_with_signal_9_goes_on_bit_for_bit(tmp_path, corpus, whole):
    script = KILLED.format(tests=str(Path(__file__).parent), folder=str(tmp_path))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "KERAS_BACKEND": keras.backend.backend()}
    ended = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()[-2000:]
    assert read_progress(tmp_path / "parts" / "state.npz")["step"] == 4
    assert_identical(whole[1], weights_of(run(corpus, tmp_path / "parts")))
    logs = [read_log(folder / "log.csv") for folder in (tmp_path / "parts", whole[0])]
    assert [(row["step"], row["split"]) for row in logs[0]] == [(row["step"], row["split"]) for row in logs[1]]
    assert all(row["tokens"] == row["step"] * RECIPE.batch_size * RECIPE.length for log in logs for row in log)


@pytest.mark.once
@pytest.mark.eager
def test_a_run_can_be_made_longer_but_not_otherwise_changed(tmp_path, corpus):
    short = dataclasses.replace(RECIPE, steps=4)
    run(corpus, tmp_path / "run", short)
    with pytest.raises(ConfigError, match=r"a run with batch_size=8, learning_rate=0.001: continue with the same"):
        run(corpus, tmp_path / "run", dataclasses.replace(short, batch_size=4, learning_rate=1.0))
    run(corpus, tmp_path / "run", dataclasses.replace(short, steps=6))
    assert read_progress(tmp_path / "run" / "state.npz")["step"] == 6


@pytest.mark.once
@pytest.mark.eager
def test_the_model_of_a_run_loads_like_any_other(tmp_path, corpus):
    trunk = run(corpus, tmp_path / "run", dataclasses.replace(RECIPE, steps=2), half=True)
    folder = tmp_path / "run" / "model"
    loaded = build_model(folder, with_nsp=True, with_mlm="linear", masked_positions=True)
    for name, weight in weights_of(loaded).items():
        assert np.array_equal(weight, weights_of(trunk)[name].astype("float16").astype("float32")), name
    assert Tokenizer(folder).vocab == tokenizer().vocab
    assert (tmp_path / "run" / "log.csv").stat().st_size
    assert build_model(folder, model="albert_unshared").config.num_blocks == 3


def losing(self, *_, original=Pretraining.train_on_batch, **__):
    return {**original(self, *_, **__), "loss": float("nan")}


def disk_full(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.once
@pytest.mark.eager
@pytest.mark.parametrize(
    ("target", "replacement", "error", "words"),
    [
        (
            f"{Pretraining.__module__}.Pretraining.train_on_batch",
            losing,
            TrainingError,
            r"The loss is nan in step 5, at a learning rate of \d.*lower learning rate",
        ),
        ("numpy.savez", disk_full, DataError, r"No space left on device.*what was there before is intact"),
    ],
)
def test_a_run_that_fails_leaves_the_last_good_state(tmp_path, corpus, monkeypatch, target, replacement, error, words):
    folder = tmp_path / "run"
    run(corpus, folder, dataclasses.replace(RECIPE, steps=4))
    before = (folder / "state.npz").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(target, replacement)
        with pytest.raises(error, match=words):
            run(corpus, folder, dataclasses.replace(RECIPE, steps=8))
    assert (folder / "state.npz").read_bytes() == before
    assert not list(folder.glob(".*"))


@pytest.mark.once
@pytest.mark.eager
def test_weights_lost_in_the_last_step_are_told_though_its_loss_is_that_before_it(tmp_path, corpus, monkeypatch):
    folder = tmp_path / "run"
    run(corpus, folder, dataclasses.replace(RECIPE, steps=2))
    before = (folder / "state.npz").read_bytes()

    def overflow(self, *args, original=Pretraining.train_on_batch, **options):
        measured = original(self, *args, **options)
        self.trunk.embeddings.norm.gamma.assign(np.full(16, np.nan))
        return measured

    with monkeypatch.context() as patch:
        patch.setattr(Pretraining, "train_on_batch", overflow)
        with pytest.raises(
            TrainingError, match=r"gamma holds NaN or infinite numbers after step 3, at a learning rate"
        ):
            run(corpus, folder, dataclasses.replace(RECIPE, steps=3))
    assert (folder / "state.npz").read_bytes() == before
    assert not list(folder.glob(".*"))


@pytest.mark.once
@pytest.mark.eager
@pytest.mark.skipif(sys.platform == "win32", reason="folders are reserved with flock, which Windows lacks")
def test_two_runs_never_share_a_folder(tmp_path, corpus):
    with reserved(tmp_path / "run"), pytest.raises(DataError, match="belongs to a run that is still going"):
        run(corpus, tmp_path / "run", dataclasses.replace(RECIPE, steps=2))
    assert not list((tmp_path / "run").iterdir())
    run(corpus, tmp_path / "run", dataclasses.replace(RECIPE, steps=2))


@pytest.mark.once
@pytest.mark.eager
def test_weights_that_are_not_finite_are_never_saved(tmp_path):
    training = build_training(CONFIG, RECIPE)
    save_state(tmp_path / "state.npz", training, {})
    before = (tmp_path / "state.npz").read_bytes()
    training.trunk.embeddings.norm.gamma.assign(np.full(16, np.inf))
    with pytest.raises(DataError, match="gamma holds NaN or infinite numbers"):
        save_state(tmp_path / "state.npz", training, {})
    assert (tmp_path / "state.npz").read_bytes() == before


@pytest.mark.once
@pytest.mark.eager
@pytest.mark.parametrize(
    ("vocabulary", "error", "words"),
    [
        ([token for token in VOCABULARY if token != "[MASK]"], TokenizerError, r"no \[MASK\]"),
        ([*VOCABULARY, "更"], ConfigError, "change the config to 307"),
    ],
)
def test_a_vocabulary_that_does_not_fit_is_refused_before_training(tmp_path, corpus, vocabulary, error, words):
    config = {**CONFIG, "vocab_size": len(VOCABULARY) - ("[MASK]" not in vocabulary)}
    with pytest.raises(error, match=words):
        pretrain(corpus, vocabulary, config, tmp_path / "run", RECIPE, **OPTIONS)


@pytest.mark.once
@pytest.mark.eager
def test_a_damaged_state_and_one_of_another_model_say_so(tmp_path):
    path = tmp_path / "state.npz"
    save_state(path, build_training(CONFIG, RECIPE), {"step": 1})
    with pytest.raises(DataError, match="another model or optimizer"):
        load_state(path, build_training({**CONFIG, "num_hidden_layers": 2}, RECIPE, sharing="unshared"))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match="is damaged"):
        read_progress(path)


@pytest.mark.once
@pytest.mark.eager
@pytest.mark.parametrize("changes", [{"optimizer": "lamb", "accumulate": 2}, {"dtype": "mixed_bfloat16"}])
def test_every_recipe_trains(tmp_path, corpus, changes):
    recipe = dataclasses.replace(RECIPE, steps=2, **changes)
    before = weights_of(build_training(CONFIG, recipe).trunk)
    after = weights_of(run(corpus, tmp_path / "run", recipe, sharing="unshared", valid=None))
    assert np.abs(before["embeddings/word/embeddings"] - after["embeddings/word/embeddings"]).max() > 1e-6


@pytest.mark.eager
def test_remat_changes_nothing_but_memory(tmp_path, corpus):
    config = {**CONFIG, "hidden_dropout_prob": 0.0}
    batch, _ = next(Examples(tokenize_corpus(corpus, tokenizer(), tmp_path, 1), tokenizer(), 40, 8).batches())
    measured = []
    for remat in (False, True):
        training = build_training(config, dataclasses.replace(RECIPE, remat=remat))
        for _ in range(2):
            loss = training.train_on_batch([*batch[:3]], [*batch[3:]])[0]
        measured.append(float(loss))
    assert measured[0] == pytest.approx(measured[1], abs=1e-5)


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="only on JAX does Keras fail")
def test_remat_with_dropout_is_refused_where_keras_cannot_do_it():
    with pytest.raises(ConfigError, match="set hidden_dropout_prob and attention_probs_dropout_prob to 0"):
        build_training(CONFIG, dataclasses.replace(RECIPE, remat=True))


@pytest.mark.once
@pytest.mark.eager
def test_accumulated_batches_make_one_step_of_their_mean(tmp_path, corpus):
    config = {**CONFIG, "hidden_dropout_prob": 0.0}
    # So many steps that the learning rate is the same in both batches.
    recipe = dataclasses.replace(RECIPE, steps=100_000, warmup=0.0)
    shards = tokenize_corpus(corpus, tokenizer(), tmp_path / "shards", 1)
    once, twice = build_training(config, recipe), build_training(config, dataclasses.replace(recipe, accumulate=2))
    batch, _ = next(Examples(shards, tokenizer(), 40, 8).batches())
    # The mean of two halves is that of the whole where both hide as many tokens.
    weights = np.zeros_like(batch.masked_weights)
    weights[:, 0] = 1.0
    x, y = [*batch[:3]], [batch.masked_ids, weights, batch.sentence_order]
    once.train_on_batch(x, y)
    for half in (slice(0, 4), slice(4, 8)):
        twice.train_on_batch([part[half] for part in x], [part[half] for part in y])
    first, second = weights_of(once.trunk), weights_of(twice.trunk)
    for name in first:
        # Adam's first step is the sign of a gradient, and that of a key bias is rounding noise.
        if not name.endswith("key/bias"):
            assert np.abs(first[name] - second[name]).max() < 5e-5, name


@pytest.mark.once
@pytest.mark.eager
@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"optimizer": "adam"}, "optimizer must be one of adamw, lamb, not 'adam'"),
        ({"dtype": "float16"}, "dtype must be one of float32, mixed_bfloat16"),
        ({"steps": 0}, "steps must be a whole number of at least 1, not 0"),
        ({"length": 4}, "length must be a whole number of at least 5"),
    ],
)
def test_recipes_that_cannot_be_run_are_refused(setting, words):
    with pytest.raises(ConfigError, match=words):
        Recipe(**setting)


@pytest.mark.once
def test_the_commands_build_a_vocabulary_and_pretrain(tmp_path, corpus, capsys):
    vocab, config = tmp_path / "vocab.txt", tmp_path / "config.json"
    assert main(["build-vocab", "--corpus", str(corpus), "--out", str(vocab), "--size", "400"]) == 0
    size = len(vocab.read_text(encoding="utf-8").splitlines())
    config.write_text(json.dumps({**CONFIG, "vocab_size": size}))
    options = f"--corpus {corpus} --valid {corpus} --vocab {vocab} --config {config} --out {tmp_path / 'run'}"
    numbers = "--steps 3 --length 40 --batch-size 8 --log-every 1 --save-every 2 --workers 1 --sharing 0 0 1"
    assert main(["pretrain", *options.split(), *numbers.split(), "--tensorboard"]) == 0
    assert "The model is in" in capsys.readouterr().out
    blocks = build_model(tmp_path / "run" / "model").encoder.blocks
    kernels = [to_numpy(block.intermediate.kernel) for block in blocks]
    assert np.array_equal(kernels[0], kernels[1])
    assert not np.array_equal(kernels[1], kernels[2])
    assert list((tmp_path / "run" / "tensorboard" / "train").iterdir())
    assert (tmp_path / "run" / "curves.png").stat().st_size > 1000
