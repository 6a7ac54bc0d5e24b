"""The layers of bert4keras as scripts put them together."""

import itertools

import keras
import numpy as np
import pytest

from bert4albert.bert4keras import layers
from bert4albert.bert4keras.backend import search_layer, set_gelu
from bert4albert.bert4keras.models import BERT
from bert4albert.bert4keras.parts import Norm

IDS = np.array([[3, 5, 0], [7, 0, 0], [2, 4, 6], [1, 0, 0]])
SIZES = {
    "vocab_size": 9,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 8,
    "hidden_act": "gelu",
}


class Twice(layers.Layer):
    """A layer of a script, which says nothing of masks."""

    def call(self, inputs):
        return inputs * 2.0

    def compute_output_shape(self, shape):
        return shape


def embedded():
    ids = keras.Input((3,))
    return ids, layers.Embedding(9, 4, mask_zero=True)(ids)


def test_the_maximum_leaves_padding_out():
    ids, x = embedded()
    model = keras.Model(ids, [x, layers.GlobalMaxPooling1D()(Twice()(x))])
    vectors, found = model.predict(IDS, verbose=0)
    wanted = [row[tokens > 0].max(axis=0) for row, tokens in zip(2 * vectors, IDS, strict=True)]
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layers.GlobalMaxPooling1D()))
    assert type(again) is layers.GlobalMaxPooling1D


@pytest.mark.parametrize("parts", [2, [1, 3]])
def test_masks_are_split_and_joined_with_their_batches(parts):
    ids, x = embedded()
    halves = layers.BatchSplit(parts)(x)
    joined = layers.GlobalMaxPooling1D()(layers.BatchConcat()(halves))
    by_half = layers.BatchConcat()([layers.GlobalMaxPooling1D()(half) for half in halves])
    whole = layers.GlobalMaxPooling1D()(x)
    wanted, *found = keras.Model(ids, [whole, joined, by_half]).predict(IDS, verbose=0, batch_size=4)
    for one in found:
        np.testing.assert_array_equal(one, wanted)


def test_a_random_field_learns_from_smoothed_labels():
    random = np.random.default_rng(0)
    crf, lengths = layers.ConditionalRandomField(lr_multiplier=3), (3, 1)
    scores = random.normal(size=(2, 3, 2)).astype("float32")
    masked = crf(scores, mask=np.arange(3) < np.array(lengths)[:, None])
    labels = random.dirichlet([1, 1], (2, 3)).astype("float32")
    trans, wanted = keras.ops.convert_to_numpy(crf.trans), []
    for row, soft, length in zip(scores, labels, lengths, strict=True):

        def score(path, row=row, length=length):
            steps = sum(path[i] @ trans @ path[i + 1] for i in range(length - 1))
            return steps + sum(path[i] @ row[i] for i in range(length))

        paths = [score(np.eye(2)[list(path)]) for path in itertools.product(range(2), repeat=length)]
        wanted.append(np.log(np.exp(paths).sum()) - score(soft))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(crf.dense_loss(labels, masked)), wanted, rtol=1e-4)
    hard = labels.argmax(axis=2)
    found = [crf.dense_loss(np.eye(2)[hard], masked), crf.sparse_loss(hard, masked)]
    np.testing.assert_allclose(*map(keras.ops.convert_to_numpy, found), rtol=1e-6)


def test_positions_of_ones_own_may_be_fractions():
    layer = layers.SinusoidalPositionEmbedding(4, "zero", custom_position_ids=True)
    found = keras.ops.convert_to_numpy(layer([np.zeros((1, 2, 4), "float32"), np.array([[0.5, 2.0]], "float32")]))
    np.testing.assert_allclose(found[0, :, 0], np.sin([0.5, 2.0]), rtol=1e-5)


def test_an_input_longer_than_the_table_of_positions_fails():
    layer = layers.PositionEmbedding(3, 4)
    assert layer(np.zeros((2, 3, 4), "float32")).shape == (2, 3, 4)
    with pytest.raises(Exception, match=r"(?i)shape|size|dim"):
        layer(np.zeros((2, 5, 4), "float32"))


def test_gelu_is_what_set_gelu_says():
    given = np.array([[-1.0, 0.5]], "float32")
    layer = layers.FeedForward(2, "gelu")
    try:
        set_gelu("tanh")
        later = layers.FeedForward(2, "gelu")
        again = later.from_config(later.get_config())
        norm = layers.LayerNormalization(conditional=True, hidden_units=2, hidden_activation="gelu")
        condition = keras.Input((3,))
        bert = BERT(config=SIZES)
        settings = {"layer_norm_cond_hidden_size": 2, "layer_norm_cond_hidden_act": "gelu"}
        bert.build(layer_norm_cond=condition, additional_input_layers=condition, **settings)
    finally:
        set_gelu("erf")
    for function, tanh in (
        (layer.activation[0], False),
        (later.activation[0], True),
        (again.activation[0], True),
        (norm.hidden_activation, True),
    ):
        np.testing.assert_array_equal(function(given), keras.ops.gelu(given, approximate=tanh))
    assert bert.layers["Embedding-Norm"].get_config()["hidden_activation"] == "gelu_tanh"


def test_a_saved_gelu_stays_what_it_was():
    given = np.array([[-1.0, 0.5]], "float32")
    feed, norm = layers.FeedForward(2, ["gelu", "relu"]), layers.LayerNormalization(hidden_activation="gelu")
    # What files say that were written when "gelu" was the erf form, and when it was chosen by `set_gelu`.
    old = [{**feed.get_config(), "activation": ["gelu", "relu"]}, {**norm.get_config(), "hidden_activation": "gelu"}]
    part = Norm(BERT(config=SIZES).config, size=8, conditional=True, hidden_units=2, hidden_activation="gelu")
    try:
        set_gelu("tanh")
        again = [feed.from_config(feed.get_config()), feed.from_config(old[0])]
        norms = [norm.from_config(norm.get_config()), norm.from_config(old[1])]
        dense = Norm.from_config(part.get_config()).condition.hidden_dense
    finally:
        set_gelu("erf")
    found = [layer.activation[0] for layer in again] + [layer.hidden_activation for layer in norms]
    for function in (*found, dense.activation):
        np.testing.assert_array_equal(function(given), keras.ops.gelu(given, approximate=False))
    assert again[1].activation[1] is keras.activations.relu


def test_norms_of_half_precision_bear_large_numbers():
    x = np.random.default_rng(0).normal(size=(2, 3, 64)) * 100
    x[..., 3] += 900
    wanted = (x - x.mean(axis=-1, keepdims=True)) / x.std(axis=-1, keepdims=True)
    norm = layers.LayerNormalization(conditional=True, dtype="mixed_float16")
    found = norm([x.astype("float16"), np.ones((2, 4), "float16")])
    np.testing.assert_allclose(keras.ops.convert_to_numpy(found), wanted, atol=0.01)


def test_layers_compute_in_their_own_dtype():
    attention, feed = layers.MultiHeadAttention(2, 4, dtype="float64"), layers.FeedForward(4, dtype="float64")
    feed.build((None, None, 4))
    assert {layer.dtype for layer in (attention.q_dense, attention.o_dense, feed.i_dense[0], feed.o_dense)} == {
        "float64"
    }


@pytest.mark.once
def test_a_search_ends_at_layers_to_exclude():
    tokens = keras.Input((3,))
    first = keras.layers.Dense(2, name="first")
    second = keras.layers.Dense(2, name="second")
    output = keras.layers.Dense(2)(second(first(tokens)))
    assert search_layer(output, "first") is first
    assert search_layer(output, "first", {second}) is None
    assert search_layer(output, "second", {second}) is second
