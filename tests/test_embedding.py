"""Vectors of texts that learn what belongs together, and words for what is masked."""

import keras
import numpy as np
import pytest
from support.gradients import to_numpy
from support.models import TINY, untidy

from bert4albert import ConfigError, DataError, Tokenizer, TokenizerError, build_model
from bert4albert.tasks import FillMask, TextEmbedder, cosine_similarity, load_task
from bert4albert.tasks.embedding import POOLINGS, contrastive_loss

pytestmark = pytest.mark.eager
LETTERS = "abcdefghij"
TOKENIZER = Tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS])
TEXTS = ["a b c", "d", "e f g h i j a", ""]


def trunk(**options):
    keras.utils.set_random_seed(1)
    return untidy(build_model(TINY | {"num_hidden_layers": 2, "max_position_embeddings": 21}, **options))


@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_vector_is_the_pooled_hidden_states_whatever_stands_beside_the_text(pooling):
    model = trunk()
    embedder = TextEmbedder(model, TOKENIZER, pooling=pooling, normalize=False, maxlen=16)
    together, alone = embedder.embed(TEXTS, 3), np.concatenate([embedder.embed([text]) for text in TEXTS])
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-5)
    states = keras.Model(model.inputs, model.hidden_states)(list(TOKENIZER.encode_batch(TEXTS[:1])))
    first, last = to_numpy(states[0])[0], to_numpy(states[-1])[0]
    expected = {"cls": last[0], "mean": last.mean(axis=0), "first_last_mean": (first.mean(0) + last.mean(0)) / 2}
    np.testing.assert_allclose(together[0], expected[pooling], rtol=1e-4, atol=1e-5)
    unit = TextEmbedder(model, TOKENIZER, pooling=pooling, maxlen=16).embed(TEXTS)
    np.testing.assert_allclose(unit, together / np.linalg.norm(together, axis=1, keepdims=True), rtol=1e-4, atol=1e-5)


def test_the_contrastive_loss_is_that_of_its_definition():
    vectors = np.random.default_rng(0).normal(size=(3, 2, 5)).astype("float32")
    unit = vectors / np.linalg.norm(vectors, axis=2, keepdims=True)
    similarities = unit[:, 0] @ unit[:, 1].T / 0.05
    expected = np.log(np.exp(similarities).sum(axis=1)) - similarities.diagonal()
    loss = contrastive_loss(keras.ops.convert_to_tensor(vectors), 0.05)
    np.testing.assert_allclose(to_numpy(loss), expected, rtol=1e-4)


@pytest.mark.once
@pytest.mark.slow
def test_pairs_that_belong_together_get_close(tmp_path):
    pairs = [(f"{one} {other}", f"{other} {one} {one}") for one in LETTERS[:5] for other in LETTERS[5:]]
    embedder = TextEmbedder(trunk(), TOKENIZER, maxlen=16, temperature=0.1)
    before = embedder.evaluate(pairs)
    history = embedder.fit(pairs, pairs, epochs=6, batch_size=25, learning_rate=3e-3, verbose=0)
    after = embedder.evaluate(pairs)
    assert after["accuracy"] == max(history["accuracy"]) > before["accuracy"]
    similarities = embedder.similarity(["a f"], ["f a a", "b g"])
    assert similarities[0, 0] > similarities[0, 1]
    embedder.save(tmp_path / "embedder")
    np.testing.assert_allclose(load_task(tmp_path / "embedder").embed(TEXTS), embedder.embed(TEXTS), atol=1e-6)


@pytest.mark.once
def test_pairs_come_from_rows_with_names():
    embedder = TextEmbedder(trunk(), TOKENIZER, maxlen=16)
    rows = [{"sentence1": "a", "sentence2": "b", "weight": 0.5}]
    assert embedder.examples(rows)[0][:3] == ("a", "b", 0.5)
    assert embedder.examples([{"q": "a", "r": "b"}], {"text": "q", "second_text": "r"})[0][:2] == ("a", "b")
    assert embedder.embed([]).shape == (0, 48)
    with pytest.raises(DataError, match="Text 1"):
        embedder.embed(["a", 3])
    with pytest.raises(ConfigError, match="pooling must be one of"):
        TextEmbedder(trunk(), TOKENIZER, pooling="max", maxlen=16)
    with pytest.raises(DataError, match="of one size"):
        cosine_similarity(np.ones((2, 3)), np.ones((2, 4)))


@pytest.mark.once
def test_masks_are_filled_with_the_most_probable_tokens():
    model = trunk(with_mlm=True)
    filler = FillMask(model, TOKENIZER, maxlen=16)
    texts = ["a [MASK] c [MASK]", "[MASK]", "b[MASK]b"]
    found = filler.predict(texts, top_k=3, batch_size=2)
    assert [len(of_text) for of_text in found] == [2, 1, 1]
    for text, of_text in zip(texts, found, strict=True):
        ids, segments = TOKENIZER.encode(text, keep_special=True)
        probabilities = to_numpy(model([np.array([ids]), np.array([segments])]))[0]
        for place, of_mask in zip(np.flatnonzero(np.array(ids) == TOKENIZER.mask_id), of_text, strict=True):
            known = probabilities[place][: TOKENIZER.vocab_size]
            order = np.argsort(-known)[:3]
            assert [filling.token for filling in of_mask] == TOKENIZER.ids_to_tokens(order)
            np.testing.assert_allclose([filling.score for filling in of_mask], known[order], rtol=1e-4)
    assert filler.predict([]) == []
    again = filler.predict([{"review": texts[0]}], 3, columns={"text": "review"})
    assert [[filling.token for filling in of_mask] for of_mask in again[0]] == [
        [filling.token for filling in of_mask] for of_mask in found[0]
    ]


@pytest.mark.once
@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["a [MASK]", "a b"], r"Text 1 has 0 times \[MASK\]"),
        (["a " * 20 + "[MASK]"], "0 of them within its first 16 tokens"),
        (["[MASK]", 3], "Text 1: the text is 3"),
        ("[MASK]", "takes a list"),
    ],
)
def test_texts_without_a_mask_are_named(texts, message):
    with pytest.raises(DataError, match=message):
        FillMask(trunk(with_mlm=True), TOKENIZER, maxlen=16).predict(texts)


@pytest.mark.once
def test_masks_need_the_head_and_the_token():
    with pytest.raises(ConfigError, match="with_mlm=True"):
        FillMask(trunk(), TOKENIZER, maxlen=16)
    with pytest.raises(TokenizerError, match=r"no \[MASK\]"):
        FillMask(trunk(with_mlm=True), Tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a"]), maxlen=16)
