"""Tokenizers, snippets, and the tensor functions of `backend`, as scripts use them."""

import itertools
import json
import time

import keras
import numpy as np
import pytest

from bert4albert.bert4keras import backend, snippets
from bert4albert.bert4keras.backend import K
from bert4albert.bert4keras.tokenizers import SpTokenizer, Tokenizer, load_vocab, save_vocab
from bert4albert.errors import ConfigError

TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "天", "气", "##气", "good", "##ness", "!", "##!"]


@pytest.fixture(scope="session")
def cases(shared):
    folder = shared / "golden" / "tokenization"
    return folder, json.loads((folder / "cases.json").read_text(encoding="utf-8"))


def test_ids_tokens_and_places_are_those_of_bert4keras(cases):
    folder, file = cases
    tokenizer = Tokenizer(str(folder / "vocab_zh.txt"), do_lower_case=True)
    for case in file["cases"]:
        tokens = tokenizer.tokenize(case["text"])
        assert tokens == case["bert4keras_tokens"]
        assert tokenizer.encode(case["text"])[0] == case["bert4keras_ids"]
        assert tokenizer.encode(case["text"], maxlen=16)[0] == case["bert4keras_ids_maxlen16"]
        assert tokenizer.rematch(case["text"], tokens) == case["bert4keras_rematch"]


def test_a_vocabulary_is_simplified_and_saved(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("".join(f"{token}\n" for token in TOKENS), encoding="utf-8")
    small, keep_tokens = load_vocab(str(path), simplified=True, startswith=["[PAD]", "[UNK]", "[CLS]", "[SEP]"])
    assert [*small] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "天", "气", "good", "##ness", "!"]
    assert keep_tokens == [0, 1, 2, 3, 5, 6, 8, 9, 10]
    save_vocab(str(tmp_path / "small.txt"), small)
    assert load_vocab(str(tmp_path / "small.txt")) == small


def test_pairs_are_cut_and_joined():
    tokenizer = Tokenizer({token: index for index, token in enumerate(TOKENS)}, do_lower_case=True)
    assert tokenizer.encode("天气", "Goodness!") == ([2, 5, 6, 3, 8, 9, 10, 3], [0] * 4 + [1] * 4)
    assert tokenizer.encode("天气", "Goodness!", maxlen=6) == ([2, 5, 3, 8, 9, 3], [0] * 3 + [1] * 3)
    assert tokenizer.tokenize("天气好", maxlen=4) == ["[CLS]", "天", "气", "[SEP]"]
    assert tokenizer.decode([2, 5, 6, 8, 9, 10, 3]) == "天气goodness!"
    assert tokenizer._token_mask_id == 4
    assert not hasattr(Tokenizer({"[PAD]": 0, "1": 1}), "_token_unk_id")


def test_sentence_pieces_are_raw(shared):
    tokenizer = SpTokenizer(str(shared / "golden" / "tokenization" / "spiece_en.model"))
    ids, segments = tokenizer.encode("a good day")
    assert tokenizer.decode(ids[1:-1]) == "a good day"
    assert segments == [0] * len(ids)


def test_examples_are_shuffled_by_numpys_permutation():
    class Batches(snippets.DataGenerator):
        def __iter__(self, random=False):
            batch = []
            for is_end, example in self.sample(random):
                batch.append(example)
                if len(batch) == self.batch_size or is_end:
                    yield [batch], None
                    batch = []

    batches = Batches([*range(7)], 3)
    assert len(batches) == 3
    np.random.seed(5)
    order = np.random.permutation(7).tolist()
    np.random.seed(5)
    assert next(batches.forfit()) == ([order[:3]], None)
    assert [batch[0][0] for batch in batches] == [[0, 1, 2], [3, 4, 5], [6]]


def test_rows_are_padded_and_texts_cut():
    assert snippets.sequence_padding([[1], [2, 3]]).tolist() == [[1, 0], [2, 3]]
    assert snippets.sequence_padding([[1], [2, 3]], mode="pre").tolist() == [[0, 1], [2, 3]]
    assert snippets.sequence_padding([[1, 2, 3]], 2).tolist() == [[1, 2]]
    assert snippets.sequence_padding([[[1, 2]], [[3, 4], [5, 6]]], seq_dims=2).shape == (2, 2, 2)
    assert snippets.text_segmentate("一二三。四五六。七", 4, "\n。") == ["一二三。", "四五六。", "七"]
    assert snippets.longest_common_substring("abcde", "xbcdy") == (3, (1, 4, 1, 4))
    assert snippets.longest_common_subsequence("abc", "axc") == (2, [(0, 0), (2, 2)])
    assert snippets.strQ2B("ＡＢ　1") == "AB 1"


def test_lines_are_found_by_number(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("一\n二\n三\n", encoding="utf-8")
    with snippets.open(str(path), encoding="utf-8", indexable=True) as file:
        assert (file[2], file[0], len(file)) == ("三\n", "一\n", 3)
        assert [line.strip() for line in file] == ["二", "三"]
    with snippets.open(str(path), indexable=str(tmp_path / "lines.json")) as file:
        assert isinstance(file[1], str)  # as without an index
    with snippets.open(str(path), encoding="utf-8", indexable=str(tmp_path / "lines.json")) as file:
        assert file[1] == "二\n"
    with snippets.open(str(path), encoding="utf-8") as file:
        assert [line.strip() for line in file] == ["一", "二", "三"]


@pytest.mark.once
@pytest.mark.parametrize("dummy", [True, False])
def test_no_more_items_are_read_than_may_wait(dummy):
    read = []

    def items():
        for item in itertools.count():
            read.append(item)
            yield item

    results = snippets.parallel_apply_generator(abs, items(), workers=1, max_queue_size=3, dummy=dummy)
    assert [next(results) for _ in range(3)] == [(0, 0), (1, 1), (2, 2)]
    time.sleep(0.1)
    assert len(read) <= 3 + 3 + 1 + 1  # given out, waiting, at work, and the one for which there is no room yet
    results.close()
    assert sorted(snippets.parallel_apply(abs, range(-9, 0), 2, 1, dummy=dummy)) == [*range(1, 10)]


@pytest.mark.once
@pytest.mark.parametrize("dummy", [True, False])
def test_workers_draw_from_the_seeds_they_are_given(dummy):
    drawn = snippets.parallel_apply(lambda _: np.random.rand(), range(2), 1, 0, dummy=dummy, random_seeds=[5])
    np.random.seed(5)
    assert drawn == [np.random.rand(), np.random.rand()]


def test_the_best_path_is_found():
    decoder = snippets.ViterbiDecoder(np.array([[0.0, 1.0], [2.0, 0.0]]), starts=[0], ends=[0])
    assert decoder.decode(np.array([[0.0, 9.0], [0.0, 0.0], [0.0, 9.0]])).tolist() == [0, 1, 0]


def test_answers_are_drawn_by_numpys_choice():
    class Draw(snippets.AutoRegressiveDecoder):
        @snippets.AutoRegressiveDecoder.wraps(default_rtype="probas", use_states=True)
        def predict(self, inputs, output_ids, states):
            return np.tile([0.1, 0.2, 0.3, 0.4], (len(output_ids), 1)), (states or 0) + 1

    decoder = Draw(start_id=None, end_id=3, maxlen=6)
    np.random.seed(2)
    answers = decoder.random_sample([[1, 2]], 5, topk=3, topp=0.9)
    assert len(answers) == 5
    assert all(answer[-1] == 3 or len(answer) == 6 for answer in answers)
    assert decoder.beam_search([[1, 2]], topk=2).tolist() == [3]


def test_tensors_are_masked_and_gathered():
    x = keras.ops.convert_to_tensor(np.arange(12.0, dtype="float32").reshape(2, 3, 2))
    masked = backend.sequence_masking(x, np.array([[1, 1, 0], [1, 0, 0]]), -np.inf, 1)
    assert np.isinf(keras.ops.convert_to_numpy(masked)).sum() == 6
    gathered = backend.batch_gather(x, np.array([[2.0], [0.0]]))
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(gathered), [[[4, 5]], [[6, 7]]])
    scores = np.array([[2.0, -1.0]], "float32")
    loss = backend.multilabel_categorical_crossentropy(np.array([[1.0, 0.0]], "float32"), scores)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(loss), np.log1p(np.exp(-2)) + np.log1p(np.exp(-1)), rtol=1e-5)
    sparse = backend.sparse_multilabel_categorical_crossentropy(np.array([[0]]), np.array([[2.0, -1.0]], "float32"))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(sparse), keras.ops.convert_to_numpy(loss), rtol=1e-5)


def test_a_variable_keeps_its_constraint():
    variable = K.variable(np.ones(2), constraint=keras.constraints.NonNeg())
    keras.optimizers.SGD(1.0).apply([K.constant([3.0, 0.5])], [variable])
    assert K.eval(variable).tolist() == [0, 0.5]


def test_k_computes_as_keras_2():
    probabilities = np.array([[[0.2, 0.8], [0.5, 0.5]]], "float32")
    loss = K.sparse_categorical_crossentropy(np.array([[1.0, 0.0]]), probabilities)
    np.testing.assert_allclose(K.eval(loss), -np.log([[0.8, 0.5]]), rtol=1e-5)
    assert K.int_shape(loss) == (1, 2)
    assert K.prod(K.shape(loss)) == 2
    variable = K.zeros((2, 3))
    K.set_value(variable, np.ones((2, 3)))
    assert K.get_value(variable).sum() == 6
    chosen = K.where(np.array([True, False]), 1, 0)
    assert K.dtype(chosen) == "float32"
    assert K.eval(chosen).tolist() == [1, 0]
    assert K.dtype(K.where(np.array([True, False]), K.constant([1, 2], "int32"), 0)) == "int32"
    assert K.eval(K.constant([1, 2, 3, 4], shape=(2, 2))).tolist() == [[1, 2], [3, 4]]
    assert K.eval(K.constant(5, shape=(2, 2))).tolist() == [[5, 5], [5, 5]]
    assert K.dtype(K.constant(5, "int32", shape=(2, 2))) == "int32"
    assert keras.layers.Lambda(lambda x: x * K.constant(2.0, shape=(3,)))(keras.Input((3,))).shape == (None, 3)
    with pytest.raises(ConfigError, match="pool_mode"):
        K.pool2d(np.ones((1, 4, 4, 1), "float32"), 2, pool_mode="mean")
    with pytest.raises(AttributeError, match="ctc_decode"):
        K.__getattr__("ctc_decode")
