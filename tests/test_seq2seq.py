"""Seq2Seq and ReadingComprehension: they learn, answer, save and load, and say what they cannot use."""

import gzip
import json

import keras
import numpy as np
import pytest

from bert4albert import ConfigError, DataError, Tokenizer, build_model
from bert4albert.generation import generate
from bert4albert.tasks import ReadingComprehension, Seq2Seq, reading_comprehension, text_metrics

# tests/test_tasks.py runs every task on every backend.
pytestmark = pytest.mark.once

CHARACTERS = "春夏秋冬天地山水红黄蓝绿一二三四五六七八九十。，？在是哪里呢什么颜色abAB "
COLOURS = {"山": "红", "水": "蓝", "天": "绿", "地": "黄"}


@pytest.fixture(scope="module")
def tokenizer():
    characters = dict.fromkeys(CHARACTERS.replace(" ", "").lower())
    return Tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters])


@pytest.fixture
def backbone(tiny_config):
    keras.utils.set_random_seed(0)
    config = {**tiny_config, "num_hidden_layers": 2, "initializer_range": 0.05}
    return build_model(config, application="unilm", dropout_rate=0.0)


@pytest.fixture
def writer(backbone, tokenizer):
    return Seq2Seq(backbone, tokenizer, maxlen=16, target_maxlen=6)


@pytest.fixture
def reader(backbone, tokenizer):
    return ReadingComprehension(backbone, tokenizer, maxlen=24, question_maxlen=10, target_maxlen=6)


def pairs():
    """Each text has one colour, which is its title."""
    texts = ["{}是{}。", "春{}是{}", "在{}，是{}。", "一二{}，{}"]
    return [(text.format(thing, colour), colour + thing) for text in texts for thing, colour in COLOURS.items()]


def question(thing, *answers):
    """A question with one passage for each answer, in which the answer stands."""
    passages = [
        {"passage": f"一二三，{thing}是{answer}。" if answer else "春夏秋冬。", "answer": answer} for answer in answers
    ]
    return {"question": f"{thing}是什么颜色？", "passages": passages}


def test_the_loss_is_on_the_target_alone(writer, tokenizer):
    examples = [("天地", "红"), ("山水春夏", "黄蓝绿")]
    (token_ids, segment_ids, positions), words, weights = writer.columns(examples, writer.encode(["天地", "山水春夏"]))
    for row, (source, target) in enumerate(examples):
        whole, segments = tokenizer.encode(source, target)
        assert token_ids[row] == whole[:-1]
        assert segment_ids[row] == segments[:-1]
        count = int(weights[row].sum())
        assert count == len(target) + 1
        assert (
            words[row, :count].tolist()
            == [whole[position + 1] for position in positions[row, :count]]
            == whole[-count:]
        )
        assert not weights[row, count:].any()


def test_the_logits_of_the_model_are_those_of_the_decoder(writer):
    (token_ids, segment_ids, positions), *_ = writer.columns([("天地", "红黄")], writer.encode(["天地"]))
    inputs = [np.array(token_ids), np.array(segment_ids), positions]
    logits = np.array(writer.model.predict_on_batch(inputs))[0]
    seen = []

    def forced(log_probs, new_tokens, _):
        seen.append(log_probs[0].copy())
        target = [*token_ids[0], 3][4 + new_tokens.shape[1]]
        log_probs[:, np.arange(log_probs.shape[1]) != target] = -np.inf
        return log_probs

    assert generate(writer.model, writer.encode(["天地"]), 3, logits_processor=forced) == [[*token_ids[0][4:], 3]]
    expected = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    np.testing.assert_allclose(seen, expected, atol=1e-5)


def test_a_writer_learns_saves_and_loads(writer, tmp_path):
    examples = pairs()
    history = writer.fit(examples, examples[:3], epochs=2, batch_size=4, verbose=0)
    assert {"loss", "rouge_l", "exact", "val_loss", "val_rouge_l"} <= set(history)
    writer.fit(examples, epochs=70, batch_size=4, learning_rate=3e-3, verbose=0)
    texts = [text for text, _ in examples]
    answers = writer.predict(texts, num_beams=2)
    assert writer.score(examples, answers)["exact"] >= 0.9
    writer.save(tmp_path / "writer")
    assert Seq2Seq.load(tmp_path / "writer").predict(texts, num_beams=2) == answers


def test_a_reader_learns_votes_and_knows_when_there_is_no_answer(reader, tmp_path):
    examples = [question(thing, *answers) for thing in COLOURS for answers in (["红"], ["蓝"], ["绿"], ["黄"], [""])]
    reader.fit(examples, epochs=80, batch_size=5, learning_rate=3e-3, verbose=0)
    scores = reader.evaluate(examples)
    assert scores["score"] == (scores["accuracy"] + scores["f1"]) / 2 >= 0.9
    several = [question("山", "", "红"), question("水", "蓝", "蓝", "绿"), question("山", "", "")]
    answers = reader.predict([(e["question"], [p["passage"] for p in e["passages"]]) for e in several])
    assert answers == ["红", "蓝", ""] == reader.predict(several, batch_size=2)
    reader.save(tmp_path / "reader")
    assert ReadingComprehension.load(tmp_path / "reader").predict(several) == answers


@pytest.mark.parametrize("num_beams", [1, 3])
def test_an_extractive_answer_stands_in_a_passage_as_it_is_written(reader, num_beams):
    passages = ["天 AB 地，abA 山。", "春夏秋冬" * 12]
    answers = reader.predict([("什么？", passages), ("哪里", passages[:1])], num_beams=num_beams, min_new_tokens=4)
    assert all(answer and any(answer in passage for passage in passages) for answer in answers)


def test_the_vote_weighs_the_passages_and_leaves_out_the_silent(tokenizer):
    end = tokenizer.sep_id
    vote = reading_comprehension._Vote([0, 0, 0, 1], end)
    probs = np.full((4, 6), 0.01, "float32")
    probs[[0, 1, 2, 3], [5, 4, end, end]] = 0.95
    probs[1, 5] = 0.5
    agreed = vote(np.log(probs), np.zeros((4, 0), int), np.arange(4))
    voters = probs[:2].astype("float64")
    np.testing.assert_allclose(agreed[:3], np.tile(np.log((voters**2).sum(0) / (voters.sum(0) + 1)), (3, 1)), rtol=1e-5)
    assert agreed[3].argmax() == end
    assert np.isneginf(np.delete(agreed[3], end)).all()


def test_long_passages_are_read_in_pieces_and_none_is_lost(reader, tokenizer):
    passage = "春夏秋冬天地。" * 6 + "山是红。"
    example = {"question": "山是什么颜色？", "passages": [{"passage": passage, "answer": "红"}]}
    encoded = reader.encode(reader.texts([example]))
    (token_ids, *_), words, weights = reader.columns(reader.examples([example]), encoded)
    assert len(token_ids) > 1
    assert all(len(ids) <= 24 + 10 + 6 for ids in token_ids)
    answers = [tokenizer.decode(row[: int(count)]) for row, count in zip(words, weights.sum(axis=1), strict=True)]
    assert answers == [""] * (len(answers) - 1) + ["红"]


def test_texts_of_any_kind_are_answered(writer, reader):
    for task_answers in (
        writer.predict(["", "天" * 500, "🙂", "龘龘", " "]),
        reader.predict([("", [""]), ("天" * 90, ["🙂"]), ("什么？", []), ("龘", ["山" * 300, ""])]),
    ):
        assert all(isinstance(answer, str) for answer in task_answers)
    assert writer.predict([]) == []
    assert len(writer.predict(["天地山水"], top_p=0.9, seed=1, no_repeat_ngram_size=1)) == 1


@pytest.mark.parametrize(
    ("expected", "given", "rouge", "f1"),
    [
        ("abc", "abc", 1, 1),
        ("abcd", "dabc", 0.75, 1),
        ("ab", "cd", 0, 0),
        ("", "", 1, 1),
        ("", "a", 0, 0),
        ("aab", "ab", 0.8, 0.8),
    ],
)
def test_scores_of_two_texts(expected, given, rouge, f1):
    assert text_metrics.rouge_l(expected, given) == pytest.approx(rouge)
    assert text_metrics.character_f1(expected, given) == pytest.approx(f1)


def test_examples_are_read_from_files(writer, reader, tmp_path):
    (tmp_path / "pairs.tsv").write_text("天地\t红\n山水\t蓝\n", encoding="utf-8")
    (tmp_path / "pairs.json").write_text('[["天地", "红"],\n["山水", "蓝"]]', encoding="utf-8")
    lines = '{"source": "天地", "target": "红"}\n{"source": "山水", "target": "蓝"}\n'
    (tmp_path / "pairs.jsonl").write_text(lines, encoding="utf-8")
    expected = writer.columns([("天地", "红"), ("山水", "蓝")], writer.encode(["天地", "山水"]))
    for name in ("pairs.tsv", "pairs.json", "pairs.jsonl"):
        examples = writer.read(tmp_path / name)
        writer.check(examples)
        columns = writer.columns(examples, writer.encode(list(map(writer.text_of, examples))))
        for found, wanted in zip(keras.tree.flatten(columns), keras.tree.flatten(expected), strict=True):
            np.testing.assert_array_equal(found, wanted)
    examples = [question("山", "红", "")]
    (tmp_path / "questions.json.gz").write_bytes(gzip.compress(json.dumps(examples).encode()))
    assert reader.read(tmp_path / "questions.json.gz") == examples


def test_the_shared_data_can_be_read(shared, reader):
    for name in ("webqa", "cmrc2018"):
        examples = reader.examples(shared / "data" / name / "dev.json.gz")[:20]
        reader.check(examples)
        (token_ids, *_), _, weights = reader.columns(examples, reader.encode([example.text for example in examples]))
        assert len(token_ids) == len(weights) >= 20


def test_what_cannot_be_used_is_said(tiny_config, tokenizer, backbone, writer, reader):
    with pytest.raises(ConfigError, match="application='unilm'"):
        Seq2Seq(build_model(tiny_config), tokenizer, maxlen=16, target_maxlen=6)
    with pytest.raises(ConfigError, match="add up to 74, more than the 64 positions"):
        Seq2Seq(backbone, tokenizer, maxlen=64, target_maxlen=10)
    with pytest.raises(DataError, match="Example 1: the target"):
        writer.fit([("天", "地"), ("天", 3)])
    with pytest.raises(DataError, match="Text 0"):
        reader.predict(["天地"])
    with pytest.raises(DataError, match="Example 0 is"):
        reader.evaluate([{"question": "天"}])
