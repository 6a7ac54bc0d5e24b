"""What a text and what an example is: the same from every kind of data, and an error with its place for the rest."""

import gzip
import json
import warnings

import keras
import numpy as np
import pytest
from support.models import TINY

from bert4albert import ConfigError, DataError, Tokenizer, build_model
from bert4albert.tasks import ReadingComprehension, RelationExtractor, Seq2Seq, Tagger, TextClassifier

pytestmark = [pytest.mark.once, pytest.mark.eager]

LETTERS = "abcdefghij"
TOKENIZER = Tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS])
TEXTS, LABELS = ["a b", 'c\n"d", e', "f"], ["x", "y", "x"]
ROWS = [{"text": text, "label": label} for text, label in zip(TEXTS, LABELS, strict=True)]


@pytest.fixture(scope="module")
def trunk():
    return build_model(TINY | {"num_hidden_layers": 1})


@pytest.fixture(scope="module")
def writing_trunk():
    return build_model(TINY | {"num_hidden_layers": 1}, application="unilm")


@pytest.fixture
def classifier(trunk):
    return TextClassifier(trunk, TOKENIZER, maxlen=16)


def pairs_of(task, data, **options):
    return [(example.text, example.answer) for example in task.examples(data, **options)]


def every_form(rows, folder):
    """The same rows as every kind of data: name -> data."""
    pandas = pytest.importorskip("pandas")
    datasets = pytest.importorskip("datasets")
    frame = pandas.DataFrame(rows)
    frame.to_csv(folder / "data.csv", index=False)
    frame.to_csv(folder / "data.csv.gz", index=False)
    frame.to_parquet(folder / "data.parquet")
    lines = "\n".join(json.dumps(row) for row in rows)
    (folder / "data.jsonl").write_text(lines)
    (folder / "data.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    (folder / "data.json").write_text(json.dumps(rows))
    files = ["data.csv", "data.csv.gz", "data.parquet", "data.jsonl", "data.jsonl.gz", "data.json"]
    return {
        "list": rows,
        "generator": (row for row in rows),
        "frame": frame,
        "dataset": datasets.Dataset.from_list(rows),
        **{name: folder / name for name in files},
    }


def test_every_kind_of_table_gives_the_same_examples(classifier, tmp_path):
    expected = list(zip(TEXTS, LABELS, strict=True))
    for name, data in every_form(ROWS, tmp_path).items():
        assert pairs_of(classifier, data) == expected, name


@pytest.mark.slow
def test_every_kind_of_table_trains_the_same_weights(tmp_path):
    columns = {"text": "review", "label": "stars"}
    rows = [
        {"review": f"{LETTERS[i]} {LETTERS[-i]}, {i}", "stars": "xyz"[i % 3], "weight": 1 + i / 4} for i in range(7)
    ]
    found = {}
    for name, data in every_form(rows, tmp_path).items():
        keras.utils.set_random_seed(3)
        task = TextClassifier(build_model(TINY | {"num_hidden_layers": 1}), TOKENIZER, maxlen=16)
        task.fit(data, columns=columns, epochs=1, batch_size=4, seed=2, verbose=0)
        found[name] = task.model.get_weights()
    keras.utils.set_random_seed(3)
    untrained = TextClassifier(
        build_model(TINY | {"num_hidden_layers": 1}), TOKENIZER, maxlen=16
    ).backbone.get_weights()
    assert any(not np.array_equal(one, other) for one, other in zip(found["list"], untrained, strict=False))
    for name, weights in found.items():
        assert all(np.array_equal(one, other) for one, other in zip(weights, found["list"], strict=True)), name


def test_every_kind_of_table_gives_the_same_texts_with_answers_or_without(classifier, tmp_path):
    for name, data in every_form(ROWS, tmp_path).items():
        assert classifier.texts(data) == TEXTS, name
    for name, data in every_form([{"text": text} for text in TEXTS], tmp_path).items():
        assert classifier.texts(data) == TEXTS, name


def test_names_of_the_users_own_are_mapped_and_what_nothing_uses_is_named_once(classifier, tmp_path):
    rows = [{"review": row["text"], "stars": row["label"], "id": 3} for row in ROWS]
    columns = {"text": "review", "label": "stars"}
    for name, data in every_form(rows, tmp_path).items():
        classifier._told.clear()
        with pytest.warns(UserWarning, match="Nothing uses the columns id") as told:
            assert pairs_of(classifier, data, columns=columns) == list(zip(TEXTS, LABELS, strict=True)), name
        assert len(told) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        classifier.examples(rows, columns)


def test_a_column_that_is_not_there_is_named_with_the_closest(classifier):
    with pytest.raises(DataError, match=r"no column 'reviews' for 'text', but there are review.*Did you mean 'review'"):
        classifier.examples([{"review": "a", "label": 1}], {"text": "reviews"})
    with pytest.raises(DataError, match=r"columns maps 'txt'.*Did you mean 'text'"):
        classifier.examples(ROWS, {"txt": "text"})
    with pytest.raises(DataError, match=r"no 'label' among its columns text, labels.*Did you mean 'labels'"):
        classifier.examples([{"text": "a", "labels": 1}])
    with pytest.raises(DataError, match="has none"):
        classifier.examples([("a", 1)], {"text": "review"})


def test_series_and_arrays_are_lists_of_texts(classifier):
    pandas = pytest.importorskip("pandas")
    assert classifier.texts(pandas.Series(TEXTS, index=[7, 8, 9])) == TEXTS
    assert classifier.texts(np.array(TEXTS)) == TEXTS
    assert classifier.texts(np.array([["a", "b"], ["c", "d"]])) == [("a", "b"), ("c", "d")]
    assert pairs_of(classifier, np.array([["a", "x"], ["b", "y"]])) == [("a", "x"), ("b", "y")]
    assert all(type(text) is str for text in classifier.texts(np.array(TEXTS)))


def test_pairs_are_found_in_rows_with_names(classifier):
    rows = [{"sentence1": "a", "sentence2": "b", "label": 1}, {"sentence1": "c", "sentence2": "d", "label": 0}]
    assert classifier.texts(rows) == [("a", "b"), ("c", "d")]
    assert pairs_of(classifier, rows) == [(("a", "b"), 1), (("c", "d"), 0)]
    model_input = classifier.encode(classifier.texts(rows))
    assert model_input == classifier.encode([("a", "b"), ("c", "d")])


def test_class_labels_keep_their_names(classifier):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["bad", "good"])}
    )
    data = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}, features=features)
    assert pairs_of(classifier, data) == [("a", "good"), ("b", "bad")]


def test_a_table_without_a_header_has_its_parts_in_order(classifier, tmp_path):
    (tmp_path / "data.tsv").write_text("a b\tx\n\nc\ty\n")
    assert pairs_of(classifier, tmp_path / "data.tsv") == [("a b", "x"), ("c", "y")]
    assert classifier.texts(tmp_path / "data.tsv") == ["a b", "c"]
    (tmp_path / "named.tsv").write_text("label\ttext\nx\ta b\n")
    assert pairs_of(classifier, str(tmp_path / "named.tsv")) == [("a b", "x")]
    (tmp_path / "texts.tsv").write_text("a b\nc\n")
    assert classifier.texts(str(tmp_path / "texts.tsv")) == ["a b", "c"]


@pytest.mark.parametrize(
    "header", ["review\tstars", "Sentence\tLabel", "文本\t标签", "question1\tquestion2\tis_duplicate"]
)
def test_a_header_of_other_names_is_no_example(classifier, tmp_path, header):
    cells = header.split("\t")
    (tmp_path / "data.tsv").write_text(f"{header}\n" + "\t".join("abc"[: len(cells)]) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=rf"data\.tsv, line 1 looks like a header.*columns=.*'text': '{cells[0]}'"):
        classifier.examples(tmp_path / "data.tsv")
    columns = {"text": cells[0], "label": cells[-1]} | ({"second_text": cells[1]} if len(cells) == 3 else {})
    assert len(classifier.examples(tmp_path / "data.tsv", columns)) == 1


def test_a_first_label_that_is_no_number_among_numbers_is_a_header(classifier, tmp_path):
    (tmp_path / "data.tsv").write_text("Was gesagt wird\tWie\na\t1\nb\t0\n")
    with pytest.raises(DataError, match="line 1 looks like a header"):
        classifier.examples(tmp_path / "data.tsv")
    (tmp_path / "texts.tsv").write_text("review\na\nb\n")
    with pytest.raises(DataError, match="line 1 looks like a header"):
        classifier.texts(str(tmp_path / "texts.tsv"))
    assert classifier.texts(str(tmp_path / "texts.tsv"), {"text": "review"}) == ["a", "b"]


def test_columns_of_answers_may_be_named_where_there_are_none(classifier):
    columns = {"text": "review", "label": "stars"}
    assert classifier.texts([{"review": "a"}], columns) == ["a"]
    with pytest.raises(DataError, match="no column 'stars'"):
        classifier.examples([{"review": "a"}], columns)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", 'text,label\na,x\n"b,y\n', "a.csv, line 3 is not CSV"),
        ("a.csv", "text,label\na,x,z\n", "line 2 has 3 columns, its header has 2"),
        ("a.csv", "text,text\na,x\n", "names a column twice"),
        ("a.csv", "review,stars\na,x\n", "line 2 has no 'text' among its columns review, stars"),
        ("a.tsv", "a\tx\tz\tu\n", "line 1: row 1 has 4 columns"),
        ("a.jsonl", '{"text": "a", "label": 1}\n{"text": 3, "label": 1}\n', "a.jsonl, line 2: the text is 3"),
        ("a.jsonl", '{"text": "a", "label": null}\n', "a.jsonl, line 1 has the label None"),
        ("a.parquet", "no parquet", "cannot be read as parquet"),
        ("a.csv", "text,label,weight\na,x,heavy\n", "line 2 has the weight 'heavy'"),
    ],
)
def test_files_that_cannot_be_used_are_named_with_the_line(classifier, tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message):
        classifier.examples(tmp_path / name)


NOT_TEXTS = [3, None, float("nan"), b"a", ["a"], ["a", 3], ("a", "b", "c"), {"txt": "a"}, object(), "\ud83d"]


@pytest.mark.parametrize("wrong", NOT_TEXTS, ids=lambda value: repr(value)[:12])
def test_what_is_no_text_is_named_by_its_index_in_every_task(trunk, writing_trunk, wrong):
    tasks = [
        TextClassifier(trunk, TOKENIZER, ["x"], maxlen=16),
        Tagger(trunk, TOKENIZER, ["x"], maxlen=16),
        RelationExtractor(trunk, TOKENIZER, ["x"], maxlen=16),
        Seq2Seq(writing_trunk, TOKENIZER, maxlen=16),
    ]
    for task in tasks:
        with pytest.raises(DataError, match="Text 1"):
            task.predict(["a", wrong])
        with pytest.raises(DataError, match="Example 1"):
            task.evaluate([("a", {"Tagger": [], "RelationExtractor": []}.get(type(task).__name__, "x")), wrong])
    reader = ReadingComprehension(writing_trunk, TOKENIZER, maxlen=16, question_maxlen=8, target_maxlen=8)
    with pytest.raises(DataError, match="Text 1"):
        reader.predict([("a", ["b"]), wrong])


@pytest.mark.parametrize("data", [b"ab", {"text": ["a"]}, {"a", "b"}, 3, None], ids=repr)
def test_what_holds_no_texts_is_refused(classifier, data):
    with pytest.raises(DataError, match="Expected a list"):
        classifier.predict(data)
    with pytest.raises(DataError, match="Expected a list"):
        classifier.evaluate(data)


@pytest.mark.parametrize("label", [None, float("nan"), 0.5, b"x", ["x"], np.nan], ids=repr)
def test_what_is_no_label_is_named_by_its_index(classifier, label):
    with pytest.raises(DataError, match="Example 1 has the label"):
        classifier.fit([("a", "x"), ("b", label)])


def test_missing_cells_of_tables_are_no_classes(classifier):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"text": ["a", "b"], "label": [1, None]})
    with pytest.raises(DataError, match="Example 1 has the label nan"):
        classifier.fit(frame)
    with pytest.raises(DataError, match="Text 1: the text is"):
        classifier.predict(pandas.DataFrame({"text": ["a", None]}))


@pytest.mark.parametrize(
    "span", [("0", "1", "x"), (0.0, 1.0, "x"), (True, 2, "x"), (0, 1, 3), (0, 1), "x", None, {"start": 0, "label": "x"}]
)
def test_what_is_no_span_is_named_by_its_index(trunk, span):
    with pytest.raises(DataError, match="Example 1 has the span"):
        Tagger(trunk, TOKENIZER, maxlen=16).fit([("a b", []), ("a b", [span])])


def test_spans_and_triples_come_from_every_table(trunk, tmp_path):
    spans = [{"start": 0, "end": 1, "label": "X"}, {"start": 2, "end": 3, "label": "Y"}]
    tagger = Tagger(trunk, TOKENIZER, maxlen=16)
    for name, data in every_form([{"text": "a b", "spans": spans}] * 2, tmp_path).items():
        if "csv" not in name:
            assert pairs_of(tagger, data) == [("a b", [(0, 1, "X"), (2, 3, "Y")])] * 2, name
    (tmp_path / "spans.csv").write_text('text,spans\na b,"[[0, 1, ""X""]]"\n')
    assert pairs_of(tagger, tmp_path / "spans.csv") == [("a b", [(0, 1, "X")])]
    (tmp_path / "ner.tsv").write_text("a\tB-X\nb\tO\n")
    assert pairs_of(tagger, tmp_path / "ner.tsv") == [("a b"[::2], [(0, 1, "X")])]
    extractor = RelationExtractor(trunk, TOKENIZER, maxlen=16)
    row = {"text": "a b", "spo_list": [{"subject": "a", "predicate": "r", "object": "b"}]}
    for name, data in every_form([row] * 2, tmp_path).items():
        if "csv" not in name:
            assert pairs_of(extractor, data) == [("a b", [("a", "r", "b")])] * 2, name


def test_questions_come_from_every_table(writing_trunk, tmp_path):
    reader = ReadingComprehension(writing_trunk, TOKENIZER, maxlen=16, question_maxlen=8, target_maxlen=8)
    row = {"question": "a", "passages": [{"passage": "b c", "answer": "c"}, {"passage": "d", "answer": ""}]}
    for name, data in every_form([row] * 2, tmp_path).items():
        if "csv" not in name:
            assert pairs_of(reader, data) == [(("a", ["b c", "d"]), ["c", ""])] * 2, name


def test_labels_of_numpy_are_labels_and_can_be_saved(trunk, tmp_path):
    task = TextClassifier(trunk, TOKENIZER, np.array([0, 1]), maxlen=16)
    assert [type(label) for label in task.labels] == [int, int]
    task.save(tmp_path / "given")
    task = TextClassifier(trunk, TOKENIZER, maxlen=16)
    task.learn(task.examples(list(zip(["a", "b"], np.array([3, 5]), strict=True))))
    assert task.labels == [3, 5]
    task.save(tmp_path / "learnt")
    assert TextClassifier.load(tmp_path / "learnt").labels == [3, 5]


def test_numbers_as_strings_are_sorted_as_numbers(classifier):
    classifier.learn([("a", str(label)) for label in (10, 9, 2)])
    assert classifier.labels == ["2", "9", "10"]


def test_weights_weigh_examples_in_every_task(trunk, writing_trunk):
    rows = [{"text": "a b", "label": "x", "weight": 2.0}, {"text": "c", "label": "y", "weight": 0.5}]
    classifier = TextClassifier(trunk, TOKENIZER, ["x", "y"], maxlen=16, class_weights={"x": 3.0})
    tagged = [{"text": "a b", "spans": [], "weight": 2.0}, {"text": "c", "spans": [], "weight": 0.5}]
    related = [{"text": "a b", "spo_list": [], "weight": 2.0}, {"text": "c", "spo_list": [], "weight": 0.5}]
    written = [{"source": "a b", "target": "c", "weight": 2.0}, {"source": "c", "target": "", "weight": 0.5}]
    cases = [
        (classifier, rows, [6.0, 0.5]),
        (Tagger(trunk, TOKENIZER, ["x"], maxlen=16), tagged, [2.0, 0.5]),
        (RelationExtractor(trunk, TOKENIZER, ["x"], method="gplinker", maxlen=16), related, [2.0, 0.5]),
        (Seq2Seq(writing_trunk, TOKENIZER, maxlen=16), written, [2.0, 0.5]),
    ]
    for task, data, expected in cases:
        examples = task.examples(data)
        encoded = task.encode([example.text for example in examples])
        dataset = task.dataset(examples, encoded, batch_size=2, seed=0, shuffle=False)
        (_, _, weights), *_ = list(dataset)
        column = np.asarray(weights[0] if isinstance(weights, tuple) else weights)
        np.testing.assert_allclose(column if column.ndim == 1 else column[:, 0], expected)


def test_soft_labels_are_parts_of_labels(trunk):
    task = TextClassifier(trunk, TOKENIZER, ["x", "y", "z"], maxlen=16)
    examples = task.examples([("a", {"x": 0.25, "z": 0.75}), ("b", [0, 1, 0]), ("c", "y")])
    _, targets = task.columns(examples, task.encode(["a", "b", "c"]))
    np.testing.assert_allclose(targets, [[0.25, 0, 0.75], [0, 1, 0], [0, 1, 0]])
    assert task.score(examples, ["z", "y", "x"])["accuracy"] == pytest.approx(2 / 3)
    for wrong in ({"x": 0.5, "y": 0.6}, {"x": -0.5, "y": 1.5}, [0.5, 0.5], {}, {"x": float("nan")}):
        with pytest.raises(DataError, match="Example 0 has the label"):
            task.examples([("a", wrong)])
    with pytest.raises(DataError, match="none of the 3 labels"):
        task.check(task.examples([("a", {"w": 1.0})]))


def test_numbers_are_estimated_and_measured_by_their_correlations(trunk):
    task = TextClassifier(trunk, TOKENIZER, regression=True, maxlen=16)
    data = [("a", 1.0), ("b", 4), ("c", "2.5"), ("d", np.float32(8))]
    scores = task.score(data, [1.0, 2.0, 1.5, 30.0])
    assert scores["spearman"] == pytest.approx(1.0)
    assert scores["pearson"] == pytest.approx(np.corrcoef([1, 4, 2.5, 8], [1, 2, 1.5, 30])[0, 1])
    assert task.score(data, [1.0] * 4) == {"pearson": 0.0, "spearman": 0.0}
    history = task.fit(data, data, epochs=1, verbose=0)
    assert set(history) >= {"loss", "pearson", "spearman"}
    # It begins at the mean: 3.875.
    assert all(isinstance(number, float) and abs(number - 3.875) < 1 for number in task.predict(["a", "b"]))
    with pytest.raises(ConfigError, match="no probabilities"):
        task.predict_proba(["a"])
    with pytest.raises(ConfigError, match="leave labels"):
        TextClassifier(trunk, TOKENIZER, ["x"], regression=True, maxlen=16)
    for wrong in ("good", None, float("inf"), True):
        with pytest.raises(DataError, match="Example 0 has the label"):
            task.examples([("a", wrong)])


def test_a_distribution_is_learnt_as_such(trunk):
    task = TextClassifier(trunk, TOKENIZER, ["x", "y"], maxlen=16)
    history = task.fit([("a", {"x": 0.5, "y": 0.5})] * 4, epochs=1, verbose=0)
    # Never below the entropy of what is to be learnt.
    assert history["loss"][0] >= np.log(2) - 1e-6
