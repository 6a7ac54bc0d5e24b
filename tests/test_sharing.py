"""Schedules say which block runs at which depth."""

import pytest

from bert4albert import ConfigError
from bert4albert.sharing import PARTS, Schedule, grouped_schedule, parse_schedule

pytestmark = pytest.mark.once


@pytest.mark.parametrize(
    ("layers", "groups", "inner", "schedule"),
    [
        (3, 1, 1, (0, 0, 0)),
        (6, 3, 1, (0, 0, 1, 1, 2, 2)),
        (4, 2, 2, (0, 1, 0, 1, 2, 3, 2, 3)),
        (4, 4, 1, (0, 1, 2, 3)),
    ],
)
def test_groups_follow_albert(layers, groups, inner, schedule):
    assert grouped_schedule(layers, groups, inner) == schedule


OWN = grouped_schedule(12, 1)


@pytest.mark.parametrize(
    ("spec", "blocks"),
    [
        (None, [0] * 12),
        ("shared", [0] * 12),
        ("unshared", [*range(12)]),
        ("groups:5", [0, 0, 0, 1, 1, 2, 2, 2, 3, 3, 4, 4]),
        ("cycle:5", [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1]),
        ("cycle_rev:3", [0, 1, 2, 0, 1, 2, 0, 1, 2, 2, 1, 0]),
        ("sandwich", [0, *[1] * 10, 2]),
        ("middle_cycle:3", [0, 1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 4]),
        ([0, 1, 0] * 4, [0, 1, 0] * 4),
    ],
)
def test_each_name_means_its_schedule(spec, blocks):
    schedule = parse_schedule(spec, OWN)
    assert schedule == tuple(blocks)
    assert schedule.as_json() == blocks
    assert parse_schedule(schedule.as_json(), OWN) == schedule


@pytest.mark.parametrize(("depth", "blocks"), [(1, [0]), (2, [0, 1]), (3, [0, 1, 2]), (4, [0, 1, 1, 2])])
def test_a_sandwich_of_few_layers(depth, blocks):
    assert parse_schedule("sandwich", grouped_schedule(depth, 1)) == blocks


def test_parts_are_shared_apart_and_parts_not_named_keep_the_own_sharing():
    own = grouped_schedule(4, 2)
    schedule = parse_schedule({"attention": "unshared", "norm": "cycle:2", "feed_forward": [0, 0, 0, 0]}, own)
    assert schedule.attention == (0, 1, 2, 3)
    assert schedule.attention_norm == schedule.output_norm == (0, 1, 0, 1)
    assert schedule.feed_forward == (0, 0, 0, 0)
    assert parse_schedule({"attention": "unshared"}, own).feed_forward == (0, 0, 1, 1)
    assert parse_schedule(schedule.as_json(), own) == schedule
    assert schedule != own
    assert hash(parse_schedule({part: "shared" for part in PARTS}, own)) == hash((0, 0, 1, 1))


@pytest.mark.parametrize(
    "sharing",
    [
        "half",
        [0, 1],
        [0, 2, 2],
        [0, -1, 1],
        [0, 1, True],
        [0, 10**9, 0],
        3,
        "groups:0",
        "groups:4",
        "groups:",
        "groups",
        "cycle:²",
        "cycle:-1",
        "cycle:9999999999",
        "middle_cycle:2",
        "unshared:2",
        {"attn": "shared"},
        {"norm": "shared", "output_norm": "shared"},
        {"attention": {"attention": "shared"}},
        {3: "shared"},
    ],
)
def test_what_is_no_schedule_is_refused(sharing):
    with pytest.raises(ConfigError, match="sharing"):
        parse_schedule(sharing, grouped_schedule(3, 1))


def test_a_name_close_to_a_known_one_is_guessed():
    with pytest.raises(ConfigError, match="Did you mean 'groups:K'"):
        parse_schedule("group:2", OWN)
    with pytest.raises(ConfigError, match="Did you mean 'attention'"):
        parse_schedule({"atention": "shared"}, OWN)


def test_each_copy_starts_from_the_copies_it_stands_for():
    unshared, grouped = Schedule.of_blocks([0, 1, 2, 3]), Schedule.of_blocks([0, 0, 1, 1])
    assert unshared.sources(grouped)["attention"] == [[0], [0], [1], [1]]
    assert Schedule.of_blocks([0, 1, 1, 0]).sources(grouped)["feed_forward"] == [[0, 1], [0, 1]]
    assert grouped.sources(unshared)["output_norm"] == [[0, 1], [2, 3]]


def test_a_schedule_is_described_in_words():
    assert str(Schedule.of_blocks([0, 0, 0])) == "3 block applications share 1 block"
    assert "each with a block of its own" in str(Schedule.of_blocks([0, 1]))
    assert "0 1 1" in str(Schedule.of_blocks([0, 1, 1]))
    assert "attention: each with a copy of its own" in str(parse_schedule({"attention": "unshared"}, OWN))
