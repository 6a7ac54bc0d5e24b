"""Sharing schedules: which block runs at which depth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bert4albert.errors import ConfigError

Schedule = tuple[int, ...]


def grouped_schedule(num_layers: int, num_groups: int, inner: int = 1, source: str = "the config") -> Schedule:
    """Return ALBERT's schedule: layer i runs all `inner` blocks of group i * num_groups // num_layers.

    Arguments:
        num_layers: number of layers; there are num_layers * inner block applications.
        num_groups: number of groups with weights of their own; must divide `num_layers`, since Google's
            own formula rounds differently otherwise.
        inner: blocks in a group (`inner_group_num`).
        source: what to call the config in messages.

    Returns:
        The block index of each application. Raises `ConfigError` where the groups do not divide the layers.
    """
    if num_layers % num_groups:
        raise ConfigError(
            f"num_hidden_groups {num_groups} does not divide num_hidden_layers {num_layers} in {source}; "
            "use a number of groups that does."
        )
    return tuple((i * num_groups // num_layers) * inner + j for i in range(num_layers) for j in range(inner))


def unshared_schedule(depth: int) -> Schedule:
    """Return the schedule that gives each of `depth` applications a block of its own."""
    return tuple(range(depth))


def parse_schedule(sharing: Any, own: Schedule) -> Schedule:
    """Return the schedule that `sharing` means.

    Arguments:
        sharing: None for the config's own schedule, 'shared' (the same), 'unshared' (a block for each
            depth), or a list with one block index for each of the len(own) block applications.
        own: the schedule of the config itself.

    Returns:
        The schedule. Raises `ConfigError` for a list of the wrong length, or one that skips a block.
    """
    if sharing is None or sharing == "shared":
        return own
    if sharing == "unshared":
        return unshared_schedule(len(own))
    is_list = isinstance(sharing, Sequence) and not isinstance(sharing, str)
    if not is_list or not all(isinstance(b, int) and not isinstance(b, bool) for b in sharing):
        raise ConfigError(f"sharing must be 'shared', 'unshared' or a list of block indices, not {sharing!r:.80}.")
    if len(sharing) != len(own):
        raise ConfigError(f"sharing lists {len(sharing)} block applications; this model has {len(own)}.")
    if set(sharing) != set(range(max(sharing) + 1)):
        raise ConfigError(f"sharing {list(sharing)} must use every block from 0 to its largest, without gaps.")
    return tuple(sharing)


def depths_of_block(schedule: Schedule, block: int) -> list[int]:
    """Return the depths at which `block` is applied."""
    return [depth for depth, used in enumerate(schedule) if used == block]


def describe_schedule(schedule: Schedule) -> str:
    """Return one line that says what a schedule shares."""
    depth, blocks = len(schedule), max(schedule) + 1
    if blocks == 1:
        return f"{depth} block applications share 1 block"
    if blocks == depth and schedule == unshared_schedule(depth):
        return f"{depth} block applications, each with a block of its own"
    return f"{depth} block applications share {blocks} blocks: {' '.join(map(str, schedule))}"


def blocks_to_fill(schedule: Schedule, file_schedule: Schedule) -> list[int]:
    """Return, for each block of a model, the block of the file that it starts from.

    Arguments:
        schedule: the model's block at each depth.
        file_schedule: the file's block at each depth, of the same length.

    Returns:
        One file block for each model block. Raises `ConfigError` where the model shares between depths
        what the file keeps apart.
    """
    sources: dict[int, int] = {}
    for block, found in zip(schedule, file_schedule, strict=True):
        if sources.setdefault(block, found) != found:
            depths = depths_of_block(schedule, block)
            raise ConfigError(
                f"The model shares block {block} between depths {depths}, for which the checkpoint holds "
                f"{len({file_schedule[d] for d in depths})} different blocks; pass model='albert_unshared' or a "
                "sharing list that keeps them apart."
            )
    return [sources[block] for block in range(len(sources))]


def fewest_groups(schedule: Schedule, num_layers: int, inner: int = 1) -> int:
    """Return the smallest `num_hidden_groups` whose own schedule keeps apart all that `schedule` keeps apart.

    Arguments:
        schedule: the block used at each depth.
        num_layers: number of layers, which the groups must divide.
        inner: blocks in a group.

    Returns:
        The number of groups that gives exactly `schedule` if there is one, else `num_layers`: every depth is
        then written with a block of its own.
    """
    for groups in range(1, num_layers):
        if num_layers % groups == 0 and grouped_schedule(num_layers, groups, inner) == schedule:
            return groups
    return num_layers
