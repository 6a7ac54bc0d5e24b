"""The card beside a checkpoint: what tasks take from it, and what no card may say."""

import json

import pytest
from support.models import TINY

from bert4albert import Tokenizer, build_model
from bert4albert.checkpoint.card import Card, read_card
from bert4albert.errors import ConfigError
from bert4albert.finding import PRETRAINED
from bert4albert.save import save_hf
from bert4albert.tasks import TextClassifier

pytestmark = pytest.mark.once

TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "好", "坏"]
EXAMPLES = [("好", "good"), ("坏", "bad")]


def write_card(folder, **recommended):
    (folder / "card.json").write_text(json.dumps({"recommended": recommended}), encoding="utf-8")


@pytest.fixture
def checkpoint(tmp_path):
    folder = tmp_path / "small"
    save_hf(build_model({**TINY, "vocab_size": len(TOKENS), "max_position_embeddings": 128}), folder, Tokenizer(TOKENS))
    write_card(folder, pooling="mean", learning_rate=0.25)
    return folder


def test_a_task_takes_what_the_card_recommends_and_says_so(checkpoint, capsys, monkeypatch):
    rates = []
    monkeypatch.setattr(
        "bert4albert.tasks.running.default_optimizer", lambda *arguments, **options: rates.append(arguments[2]) or "sgd"
    )
    task = TextClassifier(build_model(checkpoint), Tokenizer(checkpoint))
    assert task.settings()["pooling"] == "mean"
    assert capsys.readouterr().err == "pooling='mean', as the card of small recommends.\n"
    monkeypatch.setattr("keras.Model.fit", lambda *_, **__: type("History", (), {"history": {}}))
    monkeypatch.setattr("bert4albert.tasks.running.between_optimizer", lambda optimizer, *_: optimizer)
    task.fit(EXAMPLES, epochs=1)
    assert capsys.readouterr().err == "learning_rate=0.25, as the card of small recommends.\n"
    task.fit(EXAMPLES, epochs=1, verbose=0)
    task.fit(EXAMPLES, epochs=1, learning_rate=0.5)
    assert capsys.readouterr().err == ""
    assert rates == [0.25, 0.25, 0.5]


def test_the_users_choice_comes_first_and_without_a_card_nothing_changes(checkpoint, capsys):
    task = TextClassifier(build_model(checkpoint), Tokenizer(checkpoint), pooling="cls")
    assert task.pooling == "cls"
    # The config alone is a model with random weights, which the card says nothing about.
    random = build_model(checkpoint / "config.json")
    assert random.card == Card()
    assert TextClassifier(random, Tokenizer(checkpoint)).pooling == "cls"
    (checkpoint / "card.json").unlink()
    assert TextClassifier(build_model(checkpoint), Tokenizer(checkpoint)).pooling == "cls"
    assert capsys.readouterr().err == ""


def test_models_that_come_with_the_package_have_cards():
    for folder in PRETRAINED.iterdir():
        card = read_card(folder.name)
        assert card.name == folder.name
        assert card.pooling is not None
        assert card.learning_rate is not None


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "is no card"),
        ("[]", "is no card"),
        ('{"recommended": 3}', "is no card"),
        ('{"recommended": {"poling": "mean"}}', "Did you mean 'pooling'"),
        ('{"recommended": {"pooling": "max"}}', "pooling must be one of cls, mean, pooler"),
        ('{"recommended": {"learning_rate": "high"}}', "learning_rate must be a number between 0 and 1"),
        ("[" * 9000, "is no card"),
        ('{"recommended": {}}' + " " * 10_000, "is no card"),
        ('{"recommended": {"pooling": ["mean"]}}', "pooling must be one of cls, mean, pooler"),
        ('{"recommended": {"learning_rate": true}}', "learning_rate must be a number between 0 and 1"),
        ('{"recommended": {"learning_rate": NaN}}', "learning_rate must be a number between 0 and 1"),
    ],
)
def test_cards_that_say_nothing_of_use_are_refused(tmp_path, content, words):
    (tmp_path / "card.json").write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError, match=words):
        read_card(tmp_path)
