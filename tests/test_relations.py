"""Relation extraction: the half pointers' losses against their definitions, and what is found in texts."""

import json

import keras
import numpy as np
import pytest
from keras import ops
from support.gradients import to_numpy, value_and_gradients
from support.models import untidy

from bert4albert import ConfigError, DataError, Tokenizer, build_model
from bert4albert.heads.half_pointers import CasRelLoss, ObjectPointers, SubjectSampler, power_crossentropy
from bert4albert.tasks.relations import METHODS, Relation, RelationExtractor

# tests/test_tasks.py runs every task on every backend.
pytestmark = pytest.mark.once

FILMS, PEOPLE = ["秘鲁", "长江图", "红", "大冒险记"], ["王芳", "李小明", "张伟"]


@pytest.fixture(scope="module")
def examples():
    """Films with directors and actors; in some texts a film has two actors, in one nobody anything."""
    found = []
    for i, film in enumerate(FILMS):
        director, actor = PEOPLE[i % 3], PEOPLE[(i + 1) % 3]
        found.append((f"《{film}》由{director}执导。", [(film, "导演", director)]))
        both = [(film, "主演", actor), (film, "主演", director)]
        found.append((f"{actor}、{director}主演了《{film}》", both))
        found.append((f"{director}在《{film}》当导演，{actor}演", [(film, "导演", director), (film, "主演", actor)]))
    return [*found, ("今天由她演。", [])]


@pytest.fixture(scope="module")
def tokenizer(examples):
    characters = sorted(set("".join(text for text, _ in examples)))
    return Tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters])


@pytest.fixture
def backbone(tiny_config):
    keras.utils.set_random_seed(1)
    return build_model({**tiny_config, "num_hidden_layers": 2}, model="albert", dropout_rate=0.0)


@pytest.mark.parametrize("power", [1, 2, 4])
def test_the_loss_of_a_power_equals_its_definition_and_has_gradients_in_both_tails(power):
    logits = np.array([-3.0, -0.5, 0.0, 1.5, 4.0], "float32")
    for target in (0, 1):
        probability = (1 / (1 + np.exp(-logits.astype("float64")))) ** power
        expected = -np.log(probability if target else 1 - probability)
        targets = ops.convert_to_tensor(np.full(5, target))
        np.testing.assert_allclose(
            to_numpy(power_crossentropy(targets, ops.convert_to_tensor(logits), power)), expected, rtol=1e-5, atol=1e-7
        )
        tails = np.array([-80.0, 80.0], "float32")
        value, (gradient,) = value_and_gradients(
            lambda x, t=targets: ops.sum(power_crossentropy(t[:2], x, power)), [tails]
        )
        # Wrong by 80: the loss is about 80 (times the power where all factors are wrong), its slope about 1 each.
        wrong, slope = (0, -power) if target else (1, 1)
        np.testing.assert_allclose(value, 80 * power if target else 80 - np.log(power), rtol=1e-5)
        np.testing.assert_allclose(gradient[wrong], slope, rtol=1e-5)
        np.testing.assert_allclose(gradient[1 - wrong], 0, atol=1e-6)


def test_a_subject_is_a_true_start_and_a_true_end_not_before_it():
    # Starts 1, 5, 5; ends 2, 6, 8; then a text without relations.
    relations = np.array([[[1, 2, 0, 3, 3], [5, 6, 0, 3, 3], [5, 8, 1, 1, 1]], np.zeros((3, 5))]).astype("int32")
    sampler, token_ids = SubjectSampler(), np.ones((2, 11), "int32")
    drawn = {tuple(map(int, to_numpy(sampler(token_ids, relations))[row])) for row in (0,) for _ in range(60)}
    assert drawn == {(1, 2), (1, 6), (1, 8), (5, 6), (5, 8)}
    assert to_numpy(sampler(token_ids, relations))[1].tolist() == [0, 0]


def losses_by_hand(token_ids, relations, subject, subject_logits, object_logits):
    """The loss of each text, one probability at a time."""
    result = np.zeros(len(token_ids))
    for b, t, i in np.ndindex(*subject_logits.shape):
        if token_ids[b, t] == 0:
            continue
        real = [row for row in relations[b].tolist() if row[0] > 0]
        p = (1 / (1 + np.exp(-subject_logits[b, t, i]))) ** 2
        result[b] -= np.log(p if any(row[i] == t for row in real) else 1 - p)
        for predicate in range(object_logits.shape[2]):
            true = any(row[:3] == [*subject[b], predicate] and row[3 + i] == t for row in real)
            p = (1 / (1 + np.exp(-object_logits[b, t, predicate, i]))) ** 4
            result[b] -= np.log(p if true else 1 - p)
    return result


def casrel_case(extra=0):
    """Relations of three texts, the last with none, and logits; `extra` positions of padding with wild logits."""
    generator = np.random.default_rng(0)
    token_ids = np.array([[2, 7, 8, 9, 6, 5, 3], [2, 7, 8, 9, 3, 0, 0], [2, 7, 3, 0, 0, 0, 0]])
    relations = np.zeros((3, 3 + extra, 5), "int32")
    relations[0, :3] = [[1, 2, 0, 4, 5], [1, 2, 2, 3, 3], [3, 3, 1, 1, 2]]
    relations[1, :1] = [[2, 3, 1, 1, 1]]
    subject = np.array([[1, 2], [2, 3], [0, 0]], "int32")
    logits = [generator.normal(0, 1.5, (3, 7, *shape)).astype("float32") for shape in [(2,), (3, 2)]]
    logits = [np.concatenate([x, np.full((3, extra, *x.shape[2:]), 50.0, "float32")], axis=1) for x in logits]
    return np.pad(token_ids, [(0, 0), (0, extra)]).astype("int32"), relations, subject, *logits


@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_the_loss_of_half_pointers_equals_its_definition(dtype):
    case = [array.astype(dtype) if array.dtype == "int32" else array for array in casrel_case()]
    np.testing.assert_allclose(
        to_numpy(CasRelLoss()(*map(ops.convert_to_tensor, case))), losses_by_hand(*case), rtol=1e-5
    )


def test_padding_changes_no_loss_and_no_gradient():
    results = []
    for extra in (0, 4):
        *ids, subject_logits, object_logits = casrel_case(extra)
        layer, ids = CasRelLoss(), list(map(ops.convert_to_tensor, ids))
        value, gradients = value_and_gradients(
            lambda s, o, layer=layer, ids=ids: ops.sum(layer(*ids, s, o)), [subject_logits, object_logits]
        )
        results.append([value, *(gradient[:, :7] for gradient in gradients)])
        assert not any(gradient[to_numpy(ids[0]) == 0].any() for gradient in gradients)
    for first, second in zip(*results, strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-5, atol=1e-6)


def test_object_pointers_depend_on_the_subject_only_once_trained(tmp_path):
    hidden, subject = keras.Input((None, 6)), keras.Input((2,), dtype="int32")
    model = keras.Model([hidden, subject], ObjectPointers(3)(hidden, subject))
    x = np.random.default_rng(0).normal(size=(2, 5, 6)).astype("float32")
    subjects = [np.array([[1, 2], [1, 1]]), np.array([[3, 3], [2, 4]])]
    new = [to_numpy(model([x, s])) for s in subjects]
    assert new[0].shape == (2, 5, 3, 2)
    np.testing.assert_array_equal(*new)
    untidy(model)
    trained = [to_numpy(model([x, s])) for s in subjects]
    assert np.abs(trained[0] - trained[1]).min(axis=(1, 2, 3)).min() > 0
    model.save(tmp_path / "objects.keras")
    np.testing.assert_array_equal(
        to_numpy(keras.models.load_model(tmp_path / "objects.keras")([x, subjects[0]])), trained[0]
    )


def test_a_new_extractor_finds_nothing_and_says_so_with_zeros(backbone, tokenizer, examples):
    extractor = RelationExtractor(backbone, tokenizer, ["主演", "导演"], maxlen=32)
    assert extractor.evaluate(examples) == {"precision": 0.0, "recall": 0.0, "f1": 0.0}


@pytest.mark.parametrize("method", METHODS)
def test_each_method_learns_and_survives_saving(method, backbone, tokenizer, examples, tmp_path):
    path = tmp_path / "train.json"
    rows = [
        {"text": t, "spo_list": [dict(zip(("subject", "predicate", "object"), spo, strict=True)) for spo in r]}
        for t, r in examples
    ]
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    extractor = RelationExtractor(backbone, tokenizer, method=method, dropout=0.0, maxlen=32)
    extractor.fit(path, epochs=40, batch_size=13, learning_rate=1e-2, verbose=0)
    assert extractor.evaluate(examples)["f1"] >= 0.95
    texts = [examples[0][0], examples[4][0], "", " ", "😀", "《红》由王芳执导。" * 6, "她" * 70]
    answers = extractor.predict(texts, batch_size=3)
    assert answers[:2] == [extractor.predict([text])[0] for text in texts[:2]]
    assert answers[2:4] == [[], []]
    for text, found in zip(texts, answers, strict=True):
        for relation in found:
            assert relation.subject == text[slice(*relation.subject_span)]
            assert relation.object == text[slice(*relation.object_span)]
    assert Relation("秘鲁", "导演", "王芳", (1, 3), (5, 7)) in answers[0]
    extractor.save(tmp_path / "extractor")
    assert RelationExtractor.load(tmp_path / "extractor").predict(texts) == answers


def logits_at(length, *spans):
    """Logits [length, 2] that are high at the starts and ends of spans."""
    logits = np.full((length, 2), -5.0, "float32")
    for start, end in spans:
        logits[start, 0] = logits[end, 1] = 5.0
    return logits


def test_half_pointers_join_each_start_with_the_nearest_end_and_keep_to_the_thresholds(
    backbone, tokenizer, monkeypatch
):
    extractor = RelationExtractor(backbone, tokenizer, ["主演", "导演"], maxlen=32)
    text = "《长江图》由王芳、张伟主演"
    subject_logits = logits_at(15, (2, 4), (0, 0), (9, 10))
    subject_logits[9, 0] = 1.0  # 0.73 squared is 0.53: between the thresholds.
    object_logits = np.full((15, 2, 2), -5.0, "float32")
    object_logits[:, 0] = logits_at(15, (7, 8), (10, 11))
    vectors = np.zeros((1, 15, 48), "float32")

    def run(model, inputs, batch_size=32):
        if len(model.outputs) == 2:
            return subject_logits[None], vectors
        assert inputs[1].tolist() == [[2, 4]] * 4
        return np.stack([object_logits] * 4)

    monkeypatch.setattr(extractor, "run", run)
    assert extractor.predict([text], batch_size=4) == [
        [
            Relation("长江图", "主演", "张伟", (1, 4), (9, 11)),
            Relation("长江图", "主演", "王芳", (1, 4), (6, 8)),
        ]
    ]
    assert extractor.predict([text], start_threshold=0.99, end_threshold=0.99) == [[]]


@pytest.mark.parametrize(
    ("example", "message"),
    [
        (("红", [("红", "作者", "王芳")]), "predicate '作者', which is none of the 1 predicates"),
        ("红", "An example must be"),
        ({"text": "红"}, "An example must be"),
        (("红", [("红", "导演")]), "A relation must have"),
        (("红", [{"subject": "红", "predicate": "导演", "object": 3}]), "A relation must have"),
    ],
)
def test_examples_that_cannot_be_used_are_named(example, message, backbone, tokenizer):
    with pytest.raises(DataError, match=message):
        RelationExtractor(backbone, tokenizer, ["导演"], maxlen=32).fit([example], verbose=0)


def test_what_is_not_in_the_text_is_not_learnt_and_counts_as_missed(backbone, tokenizer):
    extractor = RelationExtractor(backbone, tokenizer, ["导演"], maxlen=32)
    example = ("《红》由王芳执导。", [("长江图", "导演", "王芳"), ("红", "导演", "王芳")])
    inputs, _ = extractor.columns([example], extractor.encode([example[0]]))
    assert [[tuple(map(int, relation)) for relation in row] for row in inputs[2]] == [[(2, 2, 0, 5, 6)]]
    assert extractor.score([example], [[Relation("红", "导演", "王芳", (1, 2), (4, 6))]])["recall"] == 0.5


def test_a_wrong_method_names_the_right_ones(backbone, tokenizer):
    with pytest.raises(ConfigError, match="casrel, gplinker"):
        RelationExtractor(backbone, tokenizer, method="tplinker", maxlen=32)
