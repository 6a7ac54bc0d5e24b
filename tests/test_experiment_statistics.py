"""The interval of a comparison holds the true difference as often as it says, and words claim nothing by chance."""

import numpy as np
import pytest

from bert4albert.experiment.statistics import RESAMPLES, paired_difference, resamples, seeds_needed, supported

pytestmark = pytest.mark.once

REPETITIONS = 250

# Standard deviations: of an example, of an example at a point, of a seed at a point, of an example in one run.
WORLDS = {
    "seeds matter": (1.0, 0.0, 0.1, 0.0),
    "examples matter": (1.0, 1.0, 0.01, 0.1),
    "only noise": (1.0, 0.0, 0.0, 1.0),
    "all matter": (1.0, 0.5, 0.05, 0.5),
}


def made_up_runs(random, world, points, seeds, examples, difference):
    """Return scores of examples, [points, seeds, examples]: the later points are better by the difference."""
    of_example, of_point, of_run, alone = WORLDS[world]
    scores = random.normal(0, of_example, examples) + random.normal(0, of_point, (points, 1, examples))
    scores = scores + random.normal(0, of_run, (points, seeds, 1)) + random.normal(0, alone, (points, seeds, examples))
    scores[1:] += difference
    return scores


def differences(scores):
    """Return the differences of the later points from the first."""
    count = scores.shape[-1]
    weights = np.stack([np.bincount(rows, minlength=count) for rows in resamples(count)]) / count
    metrics, resampled = scores.mean(axis=-1), scores @ weights.T
    return [paired_difference(metrics[p], metrics[0], resampled[p], resampled[0], count) for p in range(1, len(scores))]


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("world", WORLDS)
def test_the_interval_holds_the_true_difference_in_90_to_98_of_100(world, seeds):
    random = np.random.default_rng(3)
    held = 0
    for _ in range(REPETITIONS):
        (found,) = differences(made_up_runs(random, world, 2, seeds, 120, 0.3))
        held += found.low <= 0.3 <= found.high
    assert 0.90 <= held / REPETITIONS <= 0.985


@pytest.mark.parametrize("points", [2, 5])
@pytest.mark.parametrize("world", WORLDS)
def test_without_a_difference_at_most_5_of_100_comparisons_claim_one(world, points):
    random = np.random.default_rng(4)
    claims = 0
    for _ in range(REPETITIONS):
        # Right or wrong, so that few seeds may agree to the last example.
        right = made_up_runs(random, world, points, 3, 80, 0.0) > -1.0
        claims += any(supported(differences(right.astype(float))))
    assert claims / REPETITIONS <= 0.05


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("world", WORLDS)
def test_the_same_of_two_thousand_comparisons(world, seeds):
    random = np.random.default_rng(5)
    held = claims = 0
    for _ in range(2000):
        (found,) = differences(made_up_runs(random, world, 2, seeds, 200, 0.3))
        held += found.low <= 0.3 <= found.high
        claims += any(supported(differences(made_up_runs(random, world, 2, seeds, 100, 0.0))))
    assert 0.90 <= held / 2000 <= 0.98
    assert claims / 2000 <= 0.05


def test_a_large_difference_is_claimed_and_a_single_seed_claims_nothing():
    random = np.random.default_rng(6)
    scores = made_up_runs(random, "all matter", 3, 3, 200, 5.0)
    assert supported(differences(scores)) == [True, True]
    alone = differences(scores[:, :1])
    assert supported(alone) == [False, False]
    assert all(found.low == -np.inf and found.high == np.inf for found in alone)


def test_equal_runs_differ_by_nothing():
    scores = np.tile(np.random.default_rng(7).normal(size=(1, 1, 50)), (2, 3, 1))
    (found,) = differences(scores)
    assert (found.mean, found.low, found.high, found.probability) == (0.0, 0.0, 0.0, 1.0)
    assert supported([found]) == [False]
    assert seeds_needed(found) is not None


def test_a_few_examples_that_all_agree_prove_nothing():
    right = np.zeros((2, 3, 4))
    right[1] = 1.0
    right[1, :, 0] = 0.0
    (found,) = differences(right)
    assert found.mean == 0.75
    assert supported([found]) == [False]


def test_more_seeds_tell_smaller_differences_apart_until_the_examples_forbid_it():
    random = np.random.default_rng(8)
    metrics, resampled = random.normal(0, 0.05, (2, 4)), np.zeros((2, 4, RESAMPLES))
    small = paired_difference(metrics[1] + 0.05, metrics[0], *resampled, 500)
    large = paired_difference(metrics[1] + 0.2, metrics[0], *resampled, 500)
    assert seeds_needed(large) < seeds_needed(small)
    assert seeds_needed(small, comparisons=4) > seeds_needed(small)
    alike = np.broadcast_to(random.normal(0, 0.2, RESAMPLES), (4, RESAMPLES))
    assert seeds_needed(paired_difference(metrics[1] + 0.05, metrics[0], alike, resampled[0], 500)) is None


@pytest.mark.parametrize("degrees", [1, 2, 4, 199])
def test_quantiles_are_those_of_students_t(degrees):
    from bert4albert.experiment.statistics import _student

    known = {1: 12.7062, 2: 4.30265, 4: 2.77645, 199: 1.97196}
    assert _student(0.95, degrees) == pytest.approx(known[degrees], rel=1e-4)
