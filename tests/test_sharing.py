"""Schedules say which block runs at which depth."""

import pytest

from bert4albert import ConfigError
from bert4albert.sharing import blocks_to_fill, describe_schedule, grouped_schedule, parse_schedule

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


def test_names_and_lists_are_schedules():
    own = (0, 0, 0)
    assert parse_schedule(None, own) == parse_schedule("shared", own) == own
    assert parse_schedule("unshared", own) == (0, 1, 2)
    assert parse_schedule([0, 1, 0], own) == (0, 1, 0)


@pytest.mark.parametrize("sharing", ["half", [0, 1], [0, 2, 2], [0, -1, 1], [0, 1, True], 3])
def test_what_is_no_schedule_is_refused(sharing):
    with pytest.raises(ConfigError, match="sharing"):
        parse_schedule(sharing, (0, 0, 0))


def test_each_block_starts_from_the_block_it_replaces():
    assert blocks_to_fill((0, 1, 2, 3), (0, 0, 1, 1)) == [0, 0, 1, 1]
    assert blocks_to_fill((0, 1, 1, 0), (0, 0, 0, 0)) == [0, 0]


def test_sharing_what_the_file_keeps_apart_is_refused():
    with pytest.raises(ConfigError, match=r"depths \[0, 1\]"):
        blocks_to_fill((0, 0, 1), (0, 1, 2))


def test_a_schedule_is_described_in_words():
    assert describe_schedule((0, 0, 0)) == "3 block applications share 1 block"
    assert "each with a block of its own" in describe_schedule((0, 1))
    assert "0 1 1" in describe_schedule((0, 1, 1))
