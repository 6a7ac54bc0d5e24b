"""The CRF against brute force: every label sequence written out."""

from itertools import pairwise, product

import keras
import numpy as np
import pytest
from keras import ops
from support.gradients import to_numpy, value_and_gradients

from bert4albert.heads.crf import CRF, negative_log_likelihood, viterbi

CASES = [(2, (1,)), (3, (4, 2, 1)), (4, (5, 5, 3)), (1, (3,))]


def case(labels, lengths, scale=1.5, seed=0):
    """Emissions, transitions, label sequences (-1 for padding) and mask; the padding holds wild numbers."""
    generator = np.random.default_rng(seed)
    shape = (len(lengths), max(lengths))
    mask = np.arange(shape[1]) < np.array(lengths)[:, None]
    emissions = generator.normal(0, scale, (*shape, labels)).astype("float32")
    emissions[~mask] = generator.choice([1e4, -1e30, np.inf, np.nan], ((~mask).sum(), labels))
    transitions = generator.normal(0, scale, (labels, labels)).astype("float32")
    return emissions, transitions, np.where(mask, generator.integers(0, labels, shape), -1), mask


def paths(emissions, transitions):
    """Yield every label sequence of one row with its score, in float64."""
    emissions, transitions = emissions.astype("float64"), transitions.astype("float64")
    for path in product(range(len(transitions)), repeat=len(emissions)):
        score = sum(emissions[t, label] for t, label in enumerate(path))
        yield path, score + sum(transitions[i, j] for i, j in pairwise(path))


def enumerated(emissions, transitions, labels, mask):
    """Return the summed loss and its two gradients, from the probability of every label sequence."""
    loss, by_emission, by_transition = 0.0, np.zeros(emissions.shape), np.zeros(transitions.shape)
    for row, length in enumerate(mask.sum(1)):
        all_paths = list(paths(emissions[row, :length], transitions))
        scores = np.array([score for _, score in all_paths])
        log_z = scores.max() + np.log(np.exp(scores - scores.max()).sum())
        target = tuple(labels[row, :length])
        loss += log_z - dict(all_paths)[target]
        for path, score in all_paths:
            weight = np.exp(score - log_z) - (path == target)
            for t, label in enumerate(path):
                by_emission[row, t, label] += weight
            for i, j in pairwise(path):
                by_transition[i, j] += weight
    return loss, by_emission, by_transition


def total_loss(labels):
    labels = labels.astype("int32")
    return lambda e, a: ops.sum(negative_log_likelihood(*map(ops.convert_to_tensor, (labels, e, a))))


@pytest.mark.parametrize(("labels", "lengths"), CASES)
def test_loss_and_gradients_equal_enumeration(labels, lengths):
    emissions, transitions, targets, mask = case(labels, lengths)
    loss, by_emission, by_transition = enumerated(emissions, transitions, targets, mask)
    value, gradients = value_and_gradients(total_loss(targets), [emissions, transitions])
    np.testing.assert_allclose(value, loss, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(gradients[0], by_emission, atol=1e-5)
    np.testing.assert_allclose(gradients[1], by_transition, atol=1e-5)


@pytest.mark.parametrize(("labels", "lengths"), CASES)
def test_viterbi_equals_enumeration(labels, lengths):
    for seed in range(5):
        emissions, transitions, _, mask = case(labels, lengths, seed=seed)
        found = to_numpy(viterbi(*map(ops.convert_to_tensor, (emissions, transitions, mask))))
        for row, length in enumerate(mask.sum(1)):
            best = max(paths(emissions[row, :length], transitions), key=lambda item: item[1])[0]
            assert tuple(found[row, :length]) == best
            assert not found[row, length:].any()


def test_scores_of_a_hundred_do_not_overflow():
    emissions, transitions, targets, mask = case(3, (6, 4), scale=200.0)
    loss, *_ = enumerated(emissions, transitions, targets, mask)
    value, gradients = value_and_gradients(total_loss(targets), [emissions, transitions])
    np.testing.assert_allclose(value, loss, rtol=1e-5)
    assert all(np.isfinite(gradient).all() for gradient in gradients)


def test_padding_changes_nothing():
    emissions, transitions, targets, mask = case(3, (5, 2))
    wide = [(0, 0), (0, 4)]
    padded = [
        np.pad(emissions, [*wide, (0, 0)], constant_values=7.0),
        transitions,
        np.pad(targets, wide, constant_values=-1),
        np.pad(mask, wide),
    ]
    results = []
    for e, a, labels, m in [(emissions, transitions, targets, mask), padded]:
        value, (by_emission, by_transition) = value_and_gradients(total_loss(labels), [e, a])
        best = viterbi(*map(ops.convert_to_tensor, (e, a, m)))
        results.append([value, by_emission[:, :5], by_transition, to_numpy(best)[:, :5]])
        assert not by_emission[~m].any()
    for first, second in zip(*results, strict=True):
        np.testing.assert_allclose(first, second, atol=1e-6)


def crf_model(multiplier=100.0, dtype=None):
    features, attention_mask = keras.Input((None, 5)), keras.Input((None,), dtype="bool")
    crf = CRF(multiplier, dtype=dtype)
    emissions = keras.layers.Dense(3, dtype=dtype)(features)
    training = keras.Model(features, crf(emissions))
    tagging = keras.Model([features, attention_mask], crf(emissions, attention_mask, decode=True))
    return crf, training, tagging


def test_it_learns_transitions_that_emissions_cannot_show():
    """Labels follow the cycle 0, 1, 2 from a label that only the first features give."""
    keras.utils.set_random_seed(1)
    first = np.arange(48) % 3
    labels = (first[:, None] + np.arange(7)) % 3
    features = np.random.default_rng(0).normal(0, 0.1, (48, 7, 5)).astype("float32")
    features[:, 0, :3] += 3 * np.eye(3)[first]
    crf, training, tagging = crf_model(multiplier=10.0)
    training.compile(keras.optimizers.Adam(0.05), loss=crf.loss)
    history = training.fit(features, labels, epochs=20, batch_size=24, verbose=0).history["loss"]
    assert history[-1] < 0.3 * history[0]
    assert to_numpy(crf.transitions).argmax(1).tolist() == [1, 2, 0]
    assert (tagging.predict([features, np.ones((48, 7), bool)], verbose=0) == labels).mean() > 0.98


def test_a_step_of_fit_follows_the_gradient_of_the_transitions():
    emissions, _, targets, mask = case(3, (4, 2))
    crf, inputs = CRF(learning_rate_multiplier=4.0), keras.Input((None, 3))
    model = keras.Model(inputs, crf(inputs))
    model.compile(keras.optimizers.SGD(0.5), loss=crf.loss)
    model.fit(emissions, targets, verbose=0)
    gradient = enumerated(emissions, np.zeros((3, 3), "float32"), targets, mask)[2] / 2
    # The multiplier acts on the weight and again on its gradient.
    np.testing.assert_allclose(to_numpy(crf.transitions), -0.5 * 4.0**2 * gradient, atol=1e-5)


def test_it_survives_saving(tmp_path):
    crf, _, tagging = crf_model()
    crf.scaled_transitions.assign(np.random.default_rng(0).normal(0, 0.05, (3, 3)))
    inputs = [np.random.default_rng(1).normal(size=(2, 6, 5)).astype("float32"), np.ones((2, 6), bool)]
    tagging.save(tmp_path / "crf.keras")
    again = keras.models.load_model(tmp_path / "crf.keras")
    np.testing.assert_array_equal(to_numpy(tagging(inputs)), to_numpy(again(inputs)))
    assert isinstance(again.layers[-1], CRF)
    np.testing.assert_array_equal(to_numpy(again.layers[-1].transitions), to_numpy(crf.transitions))


def test_half_precision_loses_nothing_in_the_sums():
    crf, training, tagging = crf_model(dtype="mixed_bfloat16")
    features = np.random.default_rng(0).normal(size=(2, 6, 5)).astype("float32")
    labels = np.array([[0, 1, 2, 2, 0, 1], [1, 1, 0, -1, -1, -1]])
    loss = to_numpy(crf.loss(ops.convert_to_tensor(labels), training(features)))
    assert loss.dtype == "float32"
    emissions = to_numpy(ops.cast(training(features), "float32"))
    expected = enumerated(emissions, np.zeros((3, 3)), labels, labels >= 0)[0]
    np.testing.assert_allclose(loss.sum(), expected, rtol=1e-5)
    assert to_numpy(tagging([features, labels >= 0])).shape == (2, 6)
