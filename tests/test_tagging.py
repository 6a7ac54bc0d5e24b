"""Spans, tags and the tagger: nothing is found, lost or moved that should not be."""

import gzip

import keras
import numpy as np
import pytest

from bert4albert import ConfigError, DataError, Tokenizer, build_model
from bert4albert.tasks.tagging import METHODS, Entity, Tagger, read_tagged, read_words
from bert4albert.text.spans import TokenizedTexts, precision_recall_f1, spans_of_tags, tag_set, tags_of_spans

# tests/test_tasks.py runs every task on every backend.
pytestmark = pytest.mark.once

PEOPLE, PLACES = ["王芳", "李小明", "张伟", "赵一"], ["北京", "上海市", "广州"]
TEMPLATES = ["{p}在{q}。", "昨天{p}去{q}了。", "{q}的{p}说：好！", "{p}和朋友从{q}来，很晚。"]
EXTRA = ["2", "0", "19", "##20", "abc", "##d", "x", "k", "##m"]


@pytest.fixture(scope="module")
def tokenizer():
    characters = sorted(set("".join([*PEOPLE, *PLACES, *TEMPLATES]) + "年月。！？") - set("{}pq"))
    return Tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters, *EXTRA])


@pytest.fixture(scope="module")
def examples():
    found = []
    for template in TEMPLATES:
        for person in PEOPLE:
            place = PLACES[len(found) % len(PLACES)]
            text = template.format(p=person, q=place)
            starts = [(text.index(person), person, "PER"), (text.index(place), place, "LOC")]
            found.append((text, [(start, start + len(name), label) for start, name, label in sorted(starts)]))
    return found


@pytest.fixture
def backbone(tiny_config):
    keras.utils.set_random_seed(1)
    return build_model({**tiny_config, "num_hidden_layers": 2}, model="albert", dropout_rate=0.0)


def random_spans(generator, length):
    """Spans that do not overlap."""
    spans, position = [], 0
    while position < length:
        size = int(generator.integers(1, 4))
        if generator.random() < 0.6 and position + size <= length:
            spans.append((position, position + size - 1, str(generator.choice(["PER", "A-B", ""]))))
        position += size
    return spans


@pytest.mark.parametrize("scheme", ["BIO", "BIOES"])
def test_spans_become_tags_and_spans_again(scheme):
    generator = np.random.default_rng(0)
    for length in range(20):
        spans = random_spans(generator, length)
        tags = tags_of_spans(spans, length, scheme)
        assert spans_of_tags(tags) == spans
        assert set(tags) <= set(tag_set(["PER", "A-B", ""], scheme))


@pytest.mark.parametrize(
    ("tags", "spans"),
    [
        ("O I-A I-A O", [(1, 2, "A")]),
        ("B-A I-B I-B", [(0, 0, "A"), (1, 2, "B")]),
        ("B-A B-A O I-A", [(0, 0, "A"), (1, 1, "A"), (3, 3, "A")]),
        ("S-A E-A I-A", [(0, 0, "A"), (1, 1, "A"), (2, 2, "A")]),
        ("B M E S B E", [(0, 2, ""), (3, 3, ""), (4, 5, "")]),
        ("", []),
    ],
)
def test_tags_that_do_not_fit_together_are_read_as_conlleval_does(tags, spans):
    assert spans_of_tags(tags.split()) == spans


def test_tags_keep_the_first_of_overlapping_spans():
    assert tags_of_spans([(0, 2, "A"), (1, 3, "B"), (3, 3, "C")], 4) == ["B-A", "I-A", "I-A", "B-C"]


def test_f1_without_answers_is_0_and_never_an_error():
    assert precision_recall_f1([{1}, {2}], [set(), set()]) == {"precision": 0.0, "recall": 0.0, "f1": 0.0}
    assert precision_recall_f1([set()], [set()])["f1"] == 0.0
    assert precision_recall_f1([{1, 2}, {3}], [{1, 4}, set()]) == {"precision": 0.5, "recall": 1 / 3, "f1": 0.4}


def test_characters_become_tokens_and_characters_again(tokenizer):
    text = " 王芳 在2019年\u200b　abcd北京😀"
    encoded = TokenizedTexts(tokenizer, [text], 32)
    for part in ["王芳", "2019", "年", "abcd", "北京", "😀", "王芳 在"]:
        start = text.index(part)
        tokens = encoded.tokens(0, start, start + len(part))
        assert encoded.characters(0, *tokens) == (start, start + len(part))
        assert encoded.find(0, part) == tokens
    assert encoded.tokens(0, 0, 1) is None
    # Part of a token (abc, ##d) stands for all of it, spaces at the edges for nothing.
    assert encoded.characters(0, *encoded.tokens(0, text.index("bc"), text.index("bc") + 1)) == (12, 15)
    assert encoded.characters(0, *encoded.tokens(0, 0, 3)) == (1, 3)


def test_a_long_text_is_read_in_pieces_without_loss(tokenizer):
    sentence = "王芳在北京。"
    text = sentence * 9 + "赵" * 30
    encoded = TokenizedTexts(tokenizer, ["", text, "王芳"], 16)
    assert encoded.text_of_row == [0, *[1] * (len(encoded.text_of_row) - 2), 2]
    assert max(map(len, encoded.inputs[0])) <= 16
    covered = []
    for row in range(1, len(encoded.text_of_row) - 1):
        covered += range(*encoded.characters(row, 1, len(encoded.inputs[0][row]) - 2))
    assert covered == list(range(len(text)))
    for start in range(0, 54, 6):
        rows = [row for row in range(1, len(encoded.text_of_row) - 1) if encoded.tokens(row, start, start + 6)]
        assert len(rows) == 1


def test_a_tagged_file_becomes_texts_with_spans(tmp_path):
    lines = "王 B-PER\n芳\tI-PER\n在 O\n\n\n北 B-LOC\n京 E-LOC\n\u3000 O\nJohn B-PER\nSmith I-PER\n. O"
    path = tmp_path / "ner.txt.gz"
    path.write_bytes(gzip.compress(lines.encode()))
    assert read_tagged(path) == [
        ("王芳在", [(0, 2, "PER")]),
        ("北京\u3000John Smith.", [(0, 2, "LOC"), (3, 13, "PER")]),
    ]


def test_a_file_without_tags_is_refused(tmp_path):
    path = tmp_path / "ner.txt"
    path.write_text("王 B-PER\n芳\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"line 2: expected a character and its tag"):
        read_tagged(path)


def test_segmented_text_becomes_words(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("我们  爱 北京\n\n好\n", encoding="utf-8")
    words = [(0, 2, "word"), (2, 3, "word"), (3, 5, "word")]
    assert read_words(path) == [("我们爱北京", words), ("好", [(0, 1, "word")])]


@pytest.mark.parametrize(
    "method",
    # tests/test_crf.py and tests/test_pointers.py have the layers of the others learn.
    [pytest.param(name, marks=[pytest.mark.slow] * (name in ("crf", "efficient_global_pointer"))) for name in METHODS],
)
def test_each_method_learns_and_survives_saving(method, backbone, tokenizer, examples, tmp_path):
    if method.endswith("pointer"):
        # Spans around both others, which tags cannot express.
        examples = [(text, [*spans, (spans[0][0], spans[1][1], "BOTH")]) for text, spans in examples]
    tagger = Tagger(backbone, tokenizer, method=method, scheme="BIOES", head_size=16, dropout=0.0, maxlen=32)
    # The efficient pointer tells three nested labels apart by biases alone, which takes longer.
    epochs = 50 if method == "efficient_global_pointer" else 25
    tagger.fit(examples, epochs=epochs, batch_size=16, learning_rate=1e-2, verbose=0)
    assert tagger.evaluate(examples)["f1"] >= 0.95
    texts = [examples[0][0], examples[-1][0], "", " ", "😀", "王芳在" * 15, "zzz"]
    answers = tagger.predict(texts, batch_size=3)
    assert answers[:2] == [tagger.predict([text])[0] for text in texts[:2]]
    assert all(
        texts[i][entity.start : entity.end] == entity.text for i, found in enumerate(answers) for entity in found
    )
    assert answers[2:4] == [[], []]
    assert max(entity.end for entity in answers[5]) > 32
    tagger.save(tmp_path / "tagger")
    assert Tagger.load(tmp_path / "tagger").predict(texts) == answers


def test_a_text_is_cut_into_all_its_words(backbone, tokenizer, monkeypatch):
    tagger = Tagger(backbone, tokenizer, ["word"], scheme="BIOES", maxlen=32)
    entities = [Entity(1, 3, "word", "王芳"), Entity(3, 4, "word", "在")]
    monkeypatch.setattr(tagger, "predict", lambda texts, batch_size: [entities, []])
    assert tagger.segment([" 王芳在 北京", ""]) == [["王芳", "在", "北京"], []]


@pytest.mark.parametrize(
    ("example", "message"),
    [
        (("王芳", [(0, 3, "PER")]), r"span \(0, 3, 'PER'\), but its text is 2 characters"),
        (("王芳", [(1, 1, "PER")]), "expected 0 <= start < end"),
        (("王芳", [(0, 2, "ORG")]), "label 'ORG', which is none of the labels of this tagger: 'PER'"),
        ("王芳", "An example must be"),
        (("王芳", [(0, 2)]), "An example must be"),
    ],
)
def test_examples_that_cannot_be_used_are_named(example, message, backbone, tokenizer):
    with pytest.raises(DataError, match=message):
        Tagger(backbone, tokenizer, ["PER"], maxlen=32).fit([example], verbose=0)


@pytest.mark.parametrize(("argument", "hint"), [({"method": "crff"}, "crf"), ({"scheme": "BIOE"}, "BIOES")])
def test_a_wrong_choice_names_the_right_ones(argument, hint, backbone, tokenizer):
    with pytest.raises(ConfigError, match=hint):
        Tagger(backbone, tokenizer, maxlen=32, **argument)
    with pytest.raises(ConfigError, match="no labels yet"):
        Tagger(backbone, tokenizer, maxlen=32).predict(["王芳"])
