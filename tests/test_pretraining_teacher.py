"""Learning from a teacher's vectors: the batches, the loss, going on after a crash, and files that cannot be used."""

import dataclasses
import itertools
import json

import keras
import numpy as np
import pytest
from support.gradients import to_numpy
from test_pretraining_data import WORDS, tokenizer, write_corpus
from test_pretraining_training import CONFIG, RECIPE, assert_identical, run, weights_of

from bert4albert import build_model
from bert4albert.errors import ConfigError, DataError
from bert4albert.pretraining.command import main
from bert4albert.pretraining.logs import read_log
from bert4albert.pretraining.objective import Pretraining
from bert4albert.pretraining.recipe import Recipe
from bert4albert.pretraining.state import read_progress, save_state
from bert4albert.pretraining.teacher import Teacher
from bert4albert.pretraining.training import build_training

SIZE = 7
TEACHER_RECIPE = dataclasses.replace(RECIPE, steps=6, passages=48, accumulate=2)


def write_teacher(folder, passages=130, seed=0, longest=30):
    """Passages of 1 to `longest` words with a vector each: the text file and the array."""
    random = np.random.default_rng(seed)
    texts = ["".join(random.choice(WORDS, random.integers(1, longest + 1))) for _ in range(passages)]
    (folder / "passages.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
    np.save(folder / "vectors.npy", random.normal(size=(passages, SIZE)).astype("float16"))
    return {"teacher_texts": folder / "passages.txt", "teacher_vectors": folder / "vectors.npy"}


def teacher_of(files, length=40):
    return Teacher(files["teacher_texts"], files["teacher_vectors"], tokenizer(), length)


def mask_nothing(passages):
    """A batch of masked words and sentence order that asks for nothing, beside the passages."""
    rows = np.full((2, 6), 7, "int32")
    x = [rows, rows * 0, np.zeros((2, 3), "int32"), passages.passage_ids]
    y = [np.zeros((2, 3), "int32"), np.zeros((2, 3), "float32"), np.array([0, 1], "int32"), passages.vectors]
    return x, y


@pytest.mark.once
def test_batches_hold_every_passage_once_beside_its_vector_and_sort_by_length(tmp_path):
    files = write_teacher(tmp_path)
    teacher = teacher_of(files)
    texts = files["teacher_texts"].read_text(encoding="utf-8").split()
    vectors = np.load(files["teacher_vectors"]).astype("float32")
    row_of = {tuple(tokenizer().encode(text)[0]): index for index, text in enumerate(texts)}
    assert teacher.size == SIZE
    kept = list(range(49, 130, 50))
    learnt = []
    for batch in itertools.islice(teacher.batches(8, seed=5), 128 // 8):
        assert batch.passage_ids.shape[1] % 8 == 0
        for ids, vector in zip(batch.passage_ids, batch.vectors, strict=True):
            row = row_of[tuple(ids[ids != 0])]
            learnt.append(row)
            np.testing.assert_allclose(vector, vectors[row] / np.linalg.norm(vectors[row]), atol=1e-5)
        lengths = (batch.passage_ids != 0).sum(axis=1)
        assert lengths.max() - lengths.min() <= 6
    assert len(set(learnt)) == 128
    assert not set(learnt) & set(kept)
    held_out = np.concatenate([(batch.passage_ids != 0).sum(axis=1) for batch in teacher.held_out(2)])
    assert sorted(held_out) == sorted(len(texts[row]) + 2 for row in kept)


@pytest.mark.once
def test_batches_begin_anywhere_in_the_same_order(tmp_path):
    teacher = teacher_of(write_teacher(tmp_path))
    whole = list(itertools.islice(teacher.batches(8, seed=5), 40))
    for start in (1, 15, 16, 33):
        for expected, batch in zip(whole[start:], teacher.batches(8, seed=5, start=start), strict=False):
            assert np.array_equal(expected.passage_ids, batch.passage_ids)
            assert np.array_equal(expected.vectors, batch.vectors)


@pytest.mark.once
def test_long_passages_are_cut(tmp_path):
    batch = next(teacher_of(write_teacher(tmp_path), length=11).batches(64, seed=0))
    assert batch.passage_ids.shape[1] == 11
    assert set(batch.passage_ids[:, -1]) <= {0, tokenizer().sep_id}


def test_the_loss_is_one_minus_the_cosine_plus_the_divergence_of_the_similarities(tmp_path):
    passages = next(teacher_of(write_teacher(tmp_path)).batches(9, seed=0))
    recipe = Recipe(vector_weight=0.5, temperature=0.3)
    config = {**CONFIG, "hidden_dropout_prob": 0.0}
    training = build_training(config, recipe, vector_size=SIZE)
    x, y = mask_nothing(passages)
    measured = training.test_on_batch(x, y, return_dict=True)

    last_states = keras.Model(training.trunk.inputs[:2], training.trunk.hidden_states[-1])
    states = to_numpy(last_states([passages.passage_ids, passages.passage_ids * 0])).astype("float64")
    inside = (passages.passage_ids != 0)[:, :, None]
    mean = (states * inside).sum(axis=1) / inside.sum(axis=1)
    kernel, bias = training.get_layer("vector").get_weights()
    predicted = mean @ kernel + bias
    predicted /= np.linalg.norm(predicted, axis=1, keepdims=True)
    mean /= np.linalg.norm(mean, axis=1, keepdims=True)

    def log_shares(vectors):
        cosines = vectors @ vectors.T / 0.3
        np.fill_diagonal(cosines, -np.inf)
        return cosines - np.log(np.exp(cosines).sum(axis=1, keepdims=True))

    expected, found = log_shares(passages.vectors.astype("float64")), log_shares(mean)
    others = ~np.eye(9, dtype=bool)
    divergence = (np.exp(expected) * np.where(others, expected - found, 0)).sum(axis=1).mean()
    cosine = (predicted * passages.vectors).sum(axis=1).mean()
    assert measured["vector_cosine"] == pytest.approx(cosine, abs=1e-5)
    assert measured["similarity_loss"] == pytest.approx(divergence, abs=1e-5)
    rest = measured["mlm_loss"] + measured["sop_loss"]
    assert measured["loss"] == pytest.approx(rest + 0.5 * (1 - cosine + divergence), abs=1e-5)


def test_vectors_are_learnt(tmp_path):
    config = {**CONFIG, "hidden_dropout_prob": 0.0}
    passages = next(teacher_of(write_teacher(tmp_path)).batches(24, seed=0))
    training = build_training(config, Recipe(steps=80, learning_rate=5e-3, warmup=0.1), vector_size=SIZE)
    x, y = mask_nothing(passages)
    before = training.test_on_batch(x, y, return_dict=True)["vector_cosine"]
    training.fit_vector_layer([passages])
    fitted = training.test_on_batch(x, y, return_dict=True)["vector_cosine"]
    assert before < 0.4 < fitted
    for _ in range(80):
        measured = training.train_on_batch(x, y, return_dict=True)
        if measured["vector_cosine"] > 0.95 and measured["similarity_loss"] < 0.1:
            return
    pytest.fail(f"not learnt in 80 steps: {measured}")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run with a teacher that nothing interrupted: its folder, its corpus and teacher, and its weights."""
    folder = tmp_path_factory.mktemp("whole")
    # Passages of one length are compiled once.
    corpus, files = write_corpus(folder / "corpus.txt"), write_teacher(folder, longest=6)
    return folder, corpus, files, weights_of(run(corpus, folder / "run", TEACHER_RECIPE, **files))


@pytest.mark.once
def test_an_interrupted_run_with_a_teacher_reaches_the_same_weights(tmp_path, whole):
    _, corpus, files, weights = whole
    batches, original = itertools.count(1), Pretraining.train_on_batch

    def stopping(self, *arguments, **options):
        if next(batches) == 11:
            raise KeyboardInterrupt
        return original(self, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Pretraining, "train_on_batch", stopping)
        with pytest.raises(KeyboardInterrupt):
            run(corpus, tmp_path / "parts", TEACHER_RECIPE, **files)
    assert read_progress(tmp_path / "parts" / "state.npz")["step"] == 4
    assert_identical(weights, weights_of(run(corpus, tmp_path / "parts", TEACHER_RECIPE, **files)))


@pytest.mark.once
def test_the_log_of_a_run_with_a_teacher_says_how_near_the_vectors_are(whole):
    rows = read_log(whole[0] / "run" / "log.csv")
    assert {row["split"] for row in rows} == {"train", "valid"}
    assert all(-1 <= row["vector_cosine"] <= 1 for row in rows)
    assert all(row["similarity_loss"] >= 0 for row in rows)


@pytest.mark.once
def test_a_run_goes_on_only_with_the_same_teacher(tmp_path, whole):
    folder, corpus, files, _ = whole
    other = write_teacher(tmp_path, seed=1)
    longer = dataclasses.replace(TEACHER_RECIPE, steps=8)
    for teacher in (other, {}):
        with pytest.raises(ConfigError, match="is of a run with other teacher vectors: continue with the same"):
            run(corpus, folder / "run", longer, valid=None, **teacher)
    alone = tmp_path / "state.npz"
    save_state(
        alone, build_training(CONFIG, RECIPE), {"step": 1, "place": [0, 1], "recipe": dataclasses.asdict(RECIPE)}
    )
    with pytest.raises(ConfigError, match="is of a run without a teacher"):
        run(corpus, tmp_path, RECIPE, valid=None, **files)


@pytest.mark.once
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda vectors: vectors[1:], "holds 129 vectors and the texts 130 passages"),
        (lambda vectors: vectors[:, 0], r"must hold one array of floats, \[passages, size\]; it holds float16 \[130\]"),
        (lambda vectors: (9 * vectors).astype("int32"), r"it holds int32 \[130, 7\]"),
        (lambda vectors: vectors * (np.arange(130) != 41)[:, None], r"Vector 42 of .*is zero or not finite \(1 such"),
        (lambda vectors: np.where(vectors > 2, np.nan, vectors), "is zero or not finite"),
    ],
)
def test_vectors_that_cannot_be_learnt_are_refused(tmp_path, change, words):
    files = write_teacher(tmp_path)
    np.save(files["teacher_vectors"], change(np.load(files["teacher_vectors"])))
    with pytest.raises(DataError, match=words):
        teacher_of(files)


@pytest.mark.once
def test_files_that_are_no_teacher_are_refused(tmp_path):
    corpus, files = write_corpus(tmp_path / "corpus.txt"), write_teacher(tmp_path)
    files["teacher_vectors"].write_text("0.1 0.2\n")
    with pytest.raises(DataError, match=r"cannot be read as a NumPy file.*write it with numpy\.save"):
        teacher_of(files)
    with pytest.raises(DataError, match="cannot be read as a NumPy file"):
        teacher_of(files | {"teacher_vectors": tmp_path / "missing.npy"})
    files["teacher_texts"].write_text("\n \n")
    with pytest.raises(DataError, match="hold no passage"):
        teacher_of(files)
    with pytest.raises(ConfigError, match="teacher_texts needs teacher_vectors"):
        run(corpus, tmp_path / "run", teacher_texts=corpus)
    for setting, words in (({"passages": 1}, "passages must be"), ({"temperature": 0.0}, "temperature must be")):
        with pytest.raises(ConfigError, match=words):
            Recipe(**setting)


@pytest.mark.once
def test_the_command_learns_from_one_vector_a_line_of_the_corpus(tmp_path):
    corpus = write_corpus(tmp_path / "corpus.txt", documents=20)
    lines = [line for line in corpus.read_text(encoding="utf-8").splitlines() if line]
    np.save(tmp_path / "vectors.npy", np.random.default_rng(0).normal(size=(len(lines), SIZE)))
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "vocab.txt").write_text("\n".join(tokenizer().vocab) + "\n", encoding="utf-8")
    options = f"--corpus {corpus} --vocab {tmp_path / 'vocab.txt'} --config {tmp_path / 'config.json'}"
    numbers = "--steps 2 --length 40 --batch-size 8 --workers 1 --passages 16 --vector-weight 2 --log-every 1"
    teacher = f"--teacher-vectors {tmp_path / 'vectors.npy'} --out {tmp_path / 'run'}"
    assert main(["pretrain", *options.split(), *numbers.split(), *teacher.split()]) == 0
    assert len(read_log(tmp_path / "run" / "log.csv")) == 2
    # The layer between the states and the vectors is no part of the model.
    stored = build_model(tmp_path / "run" / "model", with_nsp=True, with_mlm="linear")
    assert SIZE not in {side for weight in weights_of(stored).values() for side in weight.shape}
