"""The examples run as the README calls them, on small pieces of real data."""

import gzip
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.models import TINY

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
pytestmark = pytest.mark.once


def run_example(name, *arguments):
    """Run an example in a process of its own and return what it printed."""
    command = [sys.executable, EXAMPLES / f"{name}.py", *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2"})
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout


@pytest.fixture
def small_model(shared, tmp_path):
    """The arguments that name a small model with random weights and the Chinese vocabulary."""
    config = tmp_path / "config.json"
    config.write_text(json.dumps(TINY | {"vocab_size": 21128, "max_position_embeddings": 128}))
    return ["--config", config, "--vocab", shared / "golden" / "tokenization" / "vocab_zh.txt"]


def test_sentiment_trains_two_models_on_real_reviews(shared, tmp_path, small_model):
    files = []
    for split, count in (("train", 160), ("valid", 40), ("test", 40)):
        source = "valid" if split == "test" else split
        with gzip.open(shared / "data" / "sentiment" / f"sentiment.{source}.data.gz", "rt", encoding="utf-8") as file:
            lines = [next(file) for _ in range(count)]
        path = tmp_path / f"{split}.tsv"
        path.write_text("".join(lines), encoding="utf-8")
        files += [f"--{split}", path]
    models = ["albert_unshared", "bert"]
    options = ["--epochs", 2, "--maxlen", 48, "--save", tmp_path / "saved"]
    printed = run_example("sentiment", *small_model, *files, *options, "--model", *models)
    assert len(re.findall(r"^  .* -> \d \(true: \d\)$", printed, re.MULTILINE)) == 6
    assert {path.name for path in (tmp_path / "saved").iterdir()} == {f"{model}.keras" for model in models}
    assert printed.count("random weights") == 2
    for model in models:
        row = re.search(rf"^{model} +([\d.]+) +([\d.]+) +[\d.]+$", printed, re.MULTILINE)
        assert row is not None, printed
        assert all(0 <= float(accuracy) <= 1 for accuracy in row.groups())
    assert len(re.findall(r"epoch +\d+ +loss", printed)) == 4


def test_iflytek_trains_on_part_of_the_real_texts_and_writes_a_report(shared, tmp_path, small_model):
    folder = shared / "data" / "iflytek"
    with gzip.open(folder / "dev.json.gz", "rt", encoding="utf-8") as file:
        lines = [next(file) for _ in range(20)]
    dev = tmp_path / "dev.json"
    dev.write_text("".join(lines), encoding="utf-8")
    options = [
        "--epochs",
        2,
        "--maxlen",
        32,
        "--limit",
        64,
        "--points",
        "unshared",
        "--seeds",
        1,
        "--out",
        tmp_path / "out",
    ]
    printed = run_example("iflytek", folder / "train.json.gz", dev, *small_model, *options)
    assert re.search(r"^\| unshared +\| [\d.]+ +\|", printed, re.MULTILINE), printed
    assert (tmp_path / "out" / "report.md").is_file()


def test_the_demonstration_compares_and_ends_with_a_line_of_reference(tmp_path, small_model):
    options = ["--epochs", 1, "--seeds", 1, "--out", tmp_path / "out"]
    printed = run_example("reviews", *small_model, *options)
    assert len(re.findall(r"^  .* -> [01] \(true: [01]\)$", printed, re.MULTILINE)) == 3
    assert "A single seed supports no difference" in printed
    assert f"naive Bayes on characters and pairs of them: accuracy {100 * 101 / 140:.2f}" in printed


def test_a_file_without_labels_is_named_with_its_line(tmp_path, small_model):
    path = tmp_path / "train.tsv"
    path.write_text("好\t1\n没有标签\n", encoding="utf-8")
    command = [sys.executable, EXAMPLES / "sentiment.py", *small_model, "--train", path]
    result = subprocess.run([*map(str, command)], capture_output=True, text=True)
    assert result.returncode != 0
    assert "train.tsv, line 2 is not a text" in result.stderr.splitlines()[-1]


DATA = {
    "ner": ("ner/train.txt.gz", "ner/dev.txt.gz", []),
    "relation_extraction": ("duie/train.json.gz", "duie/dev.json.gz", []),
    "reading_comprehension": (
        "webqa/train.json.gz",
        "webqa/dev.json.gz",
        ["--question-maxlen", 16, "--answer-maxlen", 6],
    ),
    "seq2seq": ("sentiment/sentiment.train.data.gz", "sentiment/sentiment.valid.data.gz", ["--target-maxlen", 6]),
}


@pytest.mark.parametrize("name", DATA)
def test_every_task_example_trains_on_real_data_and_prints_its_table(shared, tmp_path, small_model, name):
    train, dev, options = DATA[name]
    files = [shared / "data" / train, shared / "data" / dev]
    limits = [
        "--epochs",
        1,
        "--maxlen",
        32,
        "--limit",
        24,
        "--dev-limit",
        4,
        "--points",
        "unshared",
        "--seeds",
        1,
        "--out",
        tmp_path / "out",
    ]
    printed = run_example(name, *files, *small_model, *limits, "--save", tmp_path / "saved", *options)
    assert re.search(r"^\| unshared +\| [\d.]+ +\|", printed, re.MULTILINE), printed
    assert (tmp_path / "out" / "report.md").is_file()
    assert (tmp_path / "saved" / "task.json").is_file()
    assert f"saved     {tmp_path / 'saved'}" in printed


@pytest.mark.parametrize(
    ("name", "last"),
    [
        ("sentiment", r"final test acc: [01]\.\d+"),
        ("sequence_labeling", r"科学院的陈立下周去青岛开会。 \["),
        ("relation_extraction", r"陈立生于昆明，后来写了《旧城》。 \["),
        ("title_generation", r"titles word for word: \d+ of 16"),
        ("reading_comprehension", r"right answers: \d+ of 8"),
    ],
)
def test_whole_scripts_in_the_old_style_run_without_arguments(tmp_path, monkeypatch, name, last):
    monkeypatch.chdir(tmp_path)
    assert re.search(last, run_example(f"bert4keras/{name}"))
