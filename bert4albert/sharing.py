"""Schedules: which copy of its weights each part of a block uses at each depth."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, overload

from bert4albert.errors import ConfigError, did_you_mean

PARTS = ("attention", "attention_norm", "feed_forward", "output_norm")

Copies = tuple[int, ...]


@dataclass(frozen=True)
class Schedule:
    """For each part of a block, the copy of its weights that is used at each depth.

    `albert` uses copy 0 everywhere, `albert_unshared` and `bert` a copy of its own at each depth. Where all parts
    agree a schedule is as good as the plain list of blocks: it equals that tuple, has its length, and is written so.

    Attributes:
        attention: the copy at each depth, counted from 0 without gaps.
        attention_norm: likewise.
        feed_forward: likewise.
        output_norm: likewise.

    Examples:
        >>> from bert4albert.sharing import Schedule
        >>> schedule = Schedule.of_blocks([0, 0, 1, 1])
        >>> print(schedule)
        4 block applications share 2 blocks: 0 0 1 1
        >>> schedule.num_blocks, schedule.depths("attention", 1)
        (2, [2, 3])
        >>> schedule == [0, 0, 1, 1]
        True
    """

    attention: Copies
    attention_norm: Copies
    feed_forward: Copies
    output_norm: Copies

    @classmethod
    def of_blocks(cls, blocks: Sequence[int]) -> Schedule:
        """Return the schedule of whole blocks: all parts use the same copy."""
        return cls(*[tuple(blocks)] * len(PARTS))

    @property
    def depth(self) -> int:
        """Number of block applications."""
        return len(self.attention)

    @property
    def num_blocks(self) -> int:
        """Number of copies of the part that has the most."""
        return max(map(self.num_copies, PARTS))

    @property
    def is_whole(self) -> bool:
        """Whether all parts agree, so that whole blocks are shared."""
        return len({self[part] for part in PARTS}) == 1

    def num_copies(self, part: str) -> int:
        """Return how many copies of its weights a part has."""
        return max(self[part]) + 1

    def depths(self, part: str, copy: int) -> list[int]:
        """Return the depths at which a copy of a part is used."""
        return [depth for depth, used in enumerate(self[part]) if used == copy]

    def sources(self, file: Schedule) -> dict[str, list[list[int]]]:
        """Return, for each part and each of its copies here, the copies of a file's schedule that it stands for.

        There is one where the file shares all that this schedule shares; copies of the file that come together in
        one copy here must be equal.
        """
        return {part: [_distinct(file[part], self.depths(part, copy)) for copy in range(self.num_copies(part))]
                for part in PARTS}  # fmt: skip

    def as_json(self) -> list[int] | dict[str, list[int]]:
        """Return what `parse_schedule` reads back: a list of blocks where all parts agree, else one for each part."""
        return [*self.attention] if self.is_whole else {part: [*self[part]] for part in PARTS}

    @overload
    def __getitem__(self, key: str) -> Copies: ...

    @overload
    def __getitem__(self, key: int) -> int: ...

    def __getitem__(self, key: str | int) -> Copies | int:
        """Return the copies of a part; or, where all parts agree, the block at a depth."""
        return getattr(self, key) if isinstance(key, str) else tuple(self)[key]

    def __len__(self) -> int:
        return self.depth

    def __iter__(self) -> Iterator[int]:
        if not self.is_whole:
            raise ConfigError(f"The parts are shared differently ({self}); ask for one part, such as .attention.")
        return iter(self.attention)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Schedule):
            return all(self[part] == other[part] for part in PARTS)
        if isinstance(other, tuple | list):
            return self.is_whole and self.attention == tuple(other)
        return NotImplemented

    def __hash__(self) -> int:
        return hash(self.attention if self.is_whole else tuple(self[part] for part in PARTS))

    def __str__(self) -> str:
        if self.is_whole:
            return _described(self.attention, "block")
        parts = [f"{part}: {_described(self[part], 'copy', 'copies')}" for part in PARTS]
        return f"{self.depth} block applications; " + "; ".join(parts)


def grouped_schedule(num_layers: int, num_groups: int, inner: int = 1, source: str = "the config") -> Schedule:
    """Return ALBERT's schedule: layer i runs all `inner` blocks of group i * num_groups // num_layers.

    Arguments:
        num_layers: number of layers; there are num_layers * inner block applications.
        num_groups: number of groups with weights of their own; must divide `num_layers`, since Google's
            own formula rounds differently otherwise.
        inner: blocks in a group (`inner_group_num`).
        source: what to call the config in messages.

    Returns:
        The schedule of blocks. Raises `ConfigError` where the groups do not divide the layers.
    """
    if num_layers % num_groups:
        raise ConfigError(
            f"num_hidden_groups {num_groups} does not divide num_hidden_layers {num_layers} in {source}; "
            "use a number of groups that does."
        )
    blocks = [(i * num_groups // num_layers) * inner + j for i in range(num_layers) for j in range(inner)]
    return Schedule.of_blocks(blocks)


def unshared_schedule(depth: int) -> Schedule:
    """Return the schedule that gives each of `depth` applications a block of its own."""
    return Schedule.of_blocks(range(depth))


def _cycle_rev(depth: int, count: int) -> list[int]:
    return [d % count for d in range(depth - count)] + [*reversed(range(count))]


def _sandwich(depth: int) -> list[int]:
    return [min(d, 1) + (1 < d == depth - 1) for d in range(depth)]


def _middle_cycle(depth: int, count: int) -> list[int]:
    return [0, *(1 + d % count for d in range(depth - 2)), count + 1]


# Names without a number, and names followed by `:K`: (function of depth and K, depths beside the K copies).
_PATTERNS: dict[str, Callable[[int], list[int]]] = {"unshared": lambda depth: [*range(depth)], "sandwich": _sandwich}
_COUNTED: dict[str, tuple[Callable[[int, int], list[int]], int]] = {
    "groups": (lambda depth, count: [d * count // depth for d in range(depth)], 0),
    "cycle": (lambda depth, count: [d % count for d in range(depth)], 0),
    "cycle_rev": (_cycle_rev, 0),
    "middle_cycle": (_middle_cycle, 2),
}
_SPECS = ("shared", *_PATTERNS, *(f"{name}:K" for name in _COUNTED))


def parse_schedule(sharing: Any, own: Schedule) -> Schedule:
    """Return the schedule that `sharing` means.

    Arguments:
        sharing: None or 'shared' for `own`; 'unshared'; 'groups:K' (K blocks of neighbours, sizes differing by at
            most one); 'cycle:K' (0..K-1 again and again); 'cycle_rev:K' (a cycle whose last K are reversed,
            arXiv:2104.06022); 'sandwich' (first and last of their own, one between, arXiv:2101.00234);
            'middle_cycle:K' (first and last of their own, the middle cycles through K, arXiv:2507.10524); a list
            with one index for each depth; or a dictionary from parts (`PARTS`, or 'norm' for both norms) to
            one of these, where a part that is not named stays as in `own`.
        own: the checkpoint's own schedule.

    Returns:
        The schedule. Raises `ConfigError` for a name, part, number or list that cannot be used.

    Examples:
        >>> from bert4albert.sharing import Schedule, parse_schedule
        >>> own = Schedule.of_blocks([0, 0, 0, 0, 0, 0])
        >>> list(parse_schedule("groups:2", own))
        [0, 0, 0, 1, 1, 1]
        >>> list(parse_schedule("cycle_rev:3", own))
        [0, 1, 2, 2, 1, 0]
        >>> parse_schedule({"feed_forward": "unshared"}, own).feed_forward
        (0, 1, 2, 3, 4, 5)
    """
    if isinstance(sharing, Schedule):
        return sharing
    if isinstance(sharing, Mapping):
        return Schedule(**{part: _copies(spec, own[part], part) for part, spec in _by_part(sharing).items()})
    return Schedule(**{part: _copies(sharing, own[part], "") for part in PARTS})


def _by_part(sharing: Mapping[Any, Any]) -> dict[str, Any]:
    specs: dict[str, Any] = dict.fromkeys(PARTS)
    given: set[str] = set()
    for name, spec in sharing.items():
        if name != "norm" and name not in PARTS:
            hint = did_you_mean(str(name), (*PARTS, "norm"))
            raise ConfigError(f"sharing has no part {name!r:.80}; parts are {', '.join(PARTS)}, norm.{hint}")
        parts = ("attention_norm", "output_norm") if name == "norm" else (name,)
        if given.intersection(parts):
            raise ConfigError("sharing names 'norm' and one of the norms, which says two things; name each norm once.")
        given.update(parts)
        specs |= dict.fromkeys(parts, spec)
    return specs


def _copies(sharing: Any, own: Copies, part: str) -> Copies:
    """Return the copy of one part at each depth."""
    depth, where = len(own), f" of {part}" if part else ""
    if sharing is None or sharing == "shared":
        return own
    if isinstance(sharing, str):
        return _named(sharing, depth, where)
    if not isinstance(sharing, Sequence):
        raise _unknown(sharing, where)
    if len(sharing) != depth:
        raise ConfigError(
            f"sharing{where} lists {len(sharing)} block applications; this model has {depth}, and needs one index "
            "for each."
        )
    if not all(isinstance(c, Integral) and not isinstance(c, bool) and 0 <= int(c) < depth for c in sharing):
        raise ConfigError(f"sharing{where} must hold whole numbers from 0 to {depth - 1}, not {list(sharing)!r:.80}.")
    if set(sharing) != set(range(max(sharing) + 1)):
        raise ConfigError(
            f"sharing{where} {list(sharing)!r:.80} must use every index from 0 to its largest, without gaps."
        )
    return tuple(map(int, sharing))


def _named(sharing: str, depth: int, where: str) -> Copies:
    name, colon, number = sharing.partition(":")
    if name in _PATTERNS and not colon:
        return tuple(_PATTERNS[name](depth))
    if name not in _COUNTED or not colon:
        raise _unknown(sharing, where)
    pattern, beside = _COUNTED[name]
    if not (number.isascii() and number.isdigit() and len(number) < 6 and 1 <= int(number) <= depth - beside):
        most = depth - beside
        bound = f"from 1 to {most}" if most >= 1 else "and needs a deeper model"
        raise ConfigError(f"sharing{where} {sharing!r:.80}: K must be a whole number {bound} at depth {depth}.")
    return tuple(pattern(depth, int(number)))


def _unknown(sharing: Any, where: str) -> ConfigError:
    hint = did_you_mean(sharing, _SPECS) if isinstance(sharing, str) else ""
    return ConfigError(
        f"sharing{where} must be one of {', '.join(_SPECS)} or a list with one index for each depth, "
        f"not {sharing!r:.80}.{hint}"
    )


def fewest_groups(schedule: Schedule, num_layers: int, inner: int = 1) -> int:
    """Return the smallest `num_hidden_groups` whose own schedule keeps apart all that `schedule` keeps apart.

    Arguments:
        schedule: the copies used at each depth.
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


def _distinct(copies: Copies, depths: Sequence[int]) -> list[int]:
    return list(dict.fromkeys(copies[depth] for depth in depths))


def _described(copies: Copies, one: str, many: str = "") -> str:
    """Return a few words that say what a part, or a whole block, shares."""
    depth, count, what = len(copies), max(copies) + 1, f"{len(copies)} block applications" if one == "block" else ""
    if count == 1:
        return f"{what} share 1 {one}".strip()
    if copies == tuple(range(depth)):
        return f"{what}, each with a {one} of its own".strip(", ")
    return f"{what} share {count} {many or one + 's'}: {' '.join(map(str, copies))}".strip()
