"""Which weights of a trunk are copies of one another, and which of them a schedule would share."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from bert4albert.checkpoint.names import in_block, part_of
from bert4albert.errors import ConfigError
from bert4albert.model import Trunk
from bert4albert.sharing import PARTS, parse_schedule


def copies_by_weight(trunk: Trunk) -> Iterator[tuple[str, list[Any]]]:
    """Yield (part, variables) for every weight of a block: the part it belongs to, and its variable in each copy."""
    found: dict[str, list[Any]] = defaultdict(list)
    for name, variable in trunk.named_weights():
        place = in_block(name)
        if place is not None:
            # Blocks come in the order of their numbers.
            found[place[1]].append(variable)
    for name, variables in found.items():
        yield part_of(name), variables


def shared_by(trunk: Trunk, sharing: Any) -> dict[str, list[list[int]]]:
    """Return the copies of each part that a schedule would share.

    Arguments:
        trunk: the trunk, which keeps apart at least what the schedule keeps apart.
        sharing: what `build_model(sharing=...)` takes.

    Returns:
        Part -> groups of two or more copies. Raises `ConfigError` where the trunk itself shares between depths what
        the schedule keeps apart.
    """
    wanted, groups = parse_schedule(sharing, trunk.config.own_schedule), {}
    for part, sources in trunk.config.sharing.sources(wanted).items():
        for copy, found in enumerate(sources):
            if len(found) > 1:
                raise ConfigError(
                    f"sharing {sharing!r:.80} keeps depths {trunk.config.sharing.depths(part, copy)} apart, between "
                    f"which this trunk shares its {part}; build the trunk with model='albert_unshared'."
                )
        groups[part] = _together([found[0] for found in sources])
    return groups


def copies_of_one(trunk: Trunk) -> dict[str, list[list[int]]]:
    """Return the copies of each part that began as the same copy of the checkpoint: part -> groups of two or more."""
    sources = trunk.config.sharing.sources(trunk.config.own_schedule)
    return {part: _together([found[0] for found in sources[part]]) for part in PARTS}


def _together(sources: list[int]) -> list[list[int]]:
    """Return the positions that hold the same number, where there are several."""
    groups = [[i for i, other in enumerate(sources) if other == source] for source in dict.fromkeys(sources)]
    return [group for group in groups if len(group) > 1]
