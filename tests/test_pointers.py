"""Global pointers and their loss against the formulas written out, and the conditional norm."""

import keras
import numpy as np
import pytest
from keras import ops
from support.gradients import to_numpy, value_and_gradients
from support.models import untidy

from bert4albert.errors import ConfigError
from bert4albert.heads.conditional_norm import ConditionalLayerNormalization
from bert4albert.heads.crf import CRF
from bert4albert.heads.half_pointers import ObjectPointers
from bert4albert.heads.pointers import (
    EfficientGlobalPointer,
    GlobalPointer,
    multilabel_crossentropy,
    rotate,
    span_loss,
)

POINTERS = [GlobalPointer, EfficientGlobalPointer]


def hidden_states(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def pointer_model(pointer_class, **kwargs):
    hidden, attention_mask = keras.Input((None, 10)), keras.Input((None,), dtype="bool")
    return untidy(
        keras.Model([hidden, attention_mask], pointer_class(3, head_size=6, **kwargs)(hidden, attention_mask))
    )


def rotated(vector, position):
    """Rotate one vector by its position, pair by pair."""
    result = np.array(vector, "float64")
    for i in range(0, len(vector), 2):
        angle = position * 10000 ** (-i / len(vector))
        a, b = vector[i], vector[i + 1]
        result[i : i + 2] = a * np.cos(angle) - b * np.sin(angle), b * np.cos(angle) + a * np.sin(angle)
    return result


def test_rotation_equals_its_definition():
    x = hidden_states(2, 5, 6)
    expected = [[rotated(x[b, t], t) for t in range(5)] for b in range(2)]
    np.testing.assert_allclose(to_numpy(rotate(ops.convert_to_tensor(x))), expected, atol=1e-5)


@pytest.mark.parametrize("rotary", [True, False])
def test_a_global_pointer_is_a_product_of_rotated_queries_and_keys(rotary):
    model = pointer_model(GlobalPointer, rotary=rotary, ordered=False)
    x = hidden_states(1, 4, 10)
    scores = to_numpy(model([x, np.ones((1, 4), bool)]))
    kernel, bias = map(to_numpy, model.layers[-1].pairs.weights)
    pairs = (x[0] @ kernel + bias).reshape(4, 3, 2, 6)
    for head, i, j in np.ndindex(3, 4, 4):
        query, key = pairs[i, head, 0], pairs[j, head, 1]
        if rotary:
            query, key = rotated(query, i), rotated(key, j)
        np.testing.assert_allclose(scores[0, head, i, j], query @ key / 6**0.5, atol=1e-5)


def test_an_efficient_pointer_adds_a_bias_for_each_label_to_one_product():
    model = pointer_model(EfficientGlobalPointer)
    scores = to_numpy(model([hidden_states(1, 5, 10), np.ones((1, 5), bool)]))[0]
    difference = scores[1] - scores[0]
    rows, columns = np.triu_indices(5)
    as_start, as_end = difference[0], difference[:, -1]
    np.testing.assert_allclose(
        difference[rows, columns], (as_start + as_end[:, None] - difference[0, -1])[rows, columns], atol=1e-5
    )
    assert np.abs(difference[rows, columns]).max() > 0.01


@pytest.mark.parametrize("pointer_class", POINTERS)
def test_spans_out_of_order_or_on_padding_are_ruled_out(pointer_class):
    mask = np.arange(5) < np.array([[5], [3]])
    scores = to_numpy(pointer_model(pointer_class)([hidden_states(2, 5, 10), mask]))
    allowed = np.triu(np.ones((5, 5), bool)) & mask[:, :, None] & mask[:, None, :]
    assert (np.abs(scores) < 1e3).tolist() == np.broadcast_to(allowed[:, None], scores.shape).tolist()
    assert (scores[np.broadcast_to(~allowed[:, None], scores.shape)] == -1e12).all()


@pytest.mark.parametrize("pointer_class", POINTERS)
def test_padding_changes_nothing(pointer_class):
    model = pointer_model(pointer_class)
    x, spans = hidden_states(2, 5, 10), np.array([[[1, 0, 2], [0, 3, 3]], [[2, 1, 1], [-1, -1, -1]]])
    mask = np.arange(5) < np.array([[5], [3]])
    wide_x = np.concatenate([np.where(mask[:, :, None], x, 1e3), 1e3 * hidden_states(2, 4, 10, seed=1)], axis=1)
    wide_mask = np.pad(mask, [(0, 0), (0, 4)])
    wide_spans = np.pad(spans, [(0, 0), (0, 3), (0, 0)], constant_values=-1)
    results = []
    for features, inside, targets in [(x, mask, spans), (wide_x.astype("float32"), wide_mask, wide_spans)]:
        inside, targets = map(ops.convert_to_tensor, (inside, targets))
        loss = lambda h, inside=inside, targets=targets: ops.sum(span_loss(targets, model.layers[-1](h, inside)))  # noqa: E731
        value, (gradient,) = value_and_gradients(loss, [features])
        results.append((value, gradient[:, :5], to_numpy(model.layers[-1](features, inside))[:, :, :5, :5]))
        assert not gradient[~to_numpy(inside)].any()
    for first, second in zip(*results, strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("density", [0.0, 0.2, 1.0])
def test_multilabel_loss_equals_its_definition(density):
    generator = np.random.default_rng(0)
    scores = generator.normal(0, 3, (4, 9)).astype("float32")
    right = generator.random((4, 9)) < density
    negative = np.log(1 + (np.exp(scores.astype("float64")) * ~right).sum(1))
    positive = np.log(1 + (np.exp(-scores.astype("float64")) * right).sum(1))
    targets = ops.convert_to_tensor(right.astype("int32"))
    value, (gradient,) = value_and_gradients(lambda s: ops.sum(multilabel_crossentropy(targets, s)), [scores])
    np.testing.assert_allclose(value, (negative + positive).sum(), rtol=1e-5)
    expected = np.where(right, -np.exp(-scores) / np.exp(positive)[:, None], np.exp(scores) / np.exp(negative)[:, None])
    np.testing.assert_allclose(gradient, expected, atol=1e-5)


def test_span_loss_sums_the_multilabel_loss_over_labels():
    scores = hidden_states(3, 2, 4, 4)
    spans = np.array([[[0, 0, 0], [1, 2, 3]], [[1, 1, 1], [-1, -1, -1]], [[-1, -1, -1], [-1, -1, -1]]])
    targets = np.zeros(scores.shape)
    for row, label, start, end in [(0, 0, 0, 0), (0, 1, 2, 3), (1, 1, 1, 1)]:
        targets[row, label, start, end] = 1
    expected = to_numpy(
        multilabel_crossentropy(targets.reshape(3, 2, 16), ops.convert_to_tensor(scores.reshape(3, 2, 16)))
    )
    found = to_numpy(span_loss(ops.convert_to_tensor(spans), ops.convert_to_tensor(scores)))
    np.testing.assert_allclose(found, expected.sum(1), rtol=1e-5)


@pytest.mark.parametrize("pointer_class", POINTERS)
def test_pointers_survive_saving(pointer_class, tmp_path):
    model, inputs = (
        pointer_model(pointer_class, rotary=False, ordered=False),
        [hidden_states(2, 5, 10), np.ones((2, 5), bool)],
    )
    model.save(tmp_path / "pointer.keras")
    again = keras.models.load_model(tmp_path / "pointer.keras")
    np.testing.assert_array_equal(to_numpy(model(inputs)), to_numpy(again(inputs)))


def test_an_odd_head_size_is_refused():
    with pytest.raises(ConfigError, match="head_size=5 is odd"):
        GlobalPointer(2, head_size=5)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: GlobalPointer(0), "heads must be a whole number, 1 or more, not 0"),
        (lambda: GlobalPointer(2, head_size=-4), "head_size must be a whole number, 2 or more, not -4"),
        (lambda: ObjectPointers(2.5), "predicates must be a whole number, 1 or more, not 2.5"),
        (lambda: CRF(-1), "learning_rate_multiplier must be a number above 0, not -1"),
    ],
)
def test_what_a_head_cannot_be_made_of_is_refused(make, words):
    with pytest.raises(ConfigError, match=words):
        make()


def norm_model():
    hidden, condition = keras.Input((None, 10)), keras.Input((7,))
    return keras.Model([hidden, condition], ConditionalLayerNormalization()(hidden, condition))


def test_a_new_conditional_norm_is_a_plain_norm():
    x = hidden_states(2, 5, 10)
    plain = keras.layers.LayerNormalization(epsilon=1e-12)
    np.testing.assert_allclose(to_numpy(norm_model()([x, hidden_states(2, 7)])), to_numpy(plain(x)), atol=1e-6)


def test_a_conditional_norm_adds_to_scale_and_shift(tmp_path):
    model = untidy(norm_model())
    x, condition = hidden_states(2, 5, 10), hidden_states(2, 7, seed=1)
    norm = model.layers[-1]
    gamma = to_numpy(norm.gamma) + condition @ to_numpy(norm.to_gamma)
    beta = to_numpy(norm.beta) + condition @ to_numpy(norm.to_beta)
    normed = (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True)
    np.testing.assert_allclose(to_numpy(model([x, condition])), normed * gamma[:, None] + beta[:, None], atol=1e-5)
    model.save(tmp_path / "norm.keras")
    again = keras.models.load_model(tmp_path / "norm.keras")
    np.testing.assert_array_equal(to_numpy(model([x, condition])), to_numpy(again([x, condition])))
