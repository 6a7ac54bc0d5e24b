"""A checkpoint seen through two wishes: a prefix taken off its names, and tensors that are passed over."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from bert4albert.checkpoint.formats.tensor_file import TensorFile
from bert4albert.errors import CheckpointError, ConfigError, did_you_mean


class Selected(TensorFile):
    """A checkpoint with other names, without some of its tensors.

    Arguments:
        file: the checkpoint.
        prefix: what is taken off the names that have it.
        ignore: shell patterns over the file's whole names.

    Attributes:
        ignored: the name that a tensor which is passed over would have, with the pattern that says so.

    Raises:
        CheckpointError: If the prefix or a pattern matches nothing, or two tensors would have one name.
    """

    def __init__(self, file: TensorFile, prefix: str = "", ignore: Sequence[str] = ()) -> None:
        if not isinstance(prefix, str) or isinstance(ignore, str) or not all(isinstance(p, str) for p in ignore):
            raise ConfigError(
                f"prefix must be a string and ignore a list of patterns, not {prefix!r:.80} and {ignore!r:.80}: "
                "use ignore=('classifier.*',)."
            )
        self.path = file.path
        self._file = file
        self._names: dict[str, str] = {}
        self.ignored: dict[str, str] = {}
        if prefix and not any(name.startswith(prefix) for name in file.tensors):
            raise CheckpointError(f"{file.path} has no tensor that begins with prefix={prefix!r}{_first(file.tensors)}")
        for pattern in ignore:
            if not any(fnmatchcase(name, pattern) for name in file.tensors):
                hint = did_you_mean(pattern, file.tensors)
                raise CheckpointError(f"{file.path} has no tensor that ignore={pattern!r} matches; leave it out.{hint}")
        for name in file.tensors:
            short = name.removeprefix(prefix)
            matching = [pattern for pattern in ignore if fnmatchcase(name, pattern)]
            if matching:
                self.ignored[short] = matching[0]
            elif short in self._names:
                raise CheckpointError(
                    f"{file.path}: without prefix={prefix!r}, {name} and {self._names[short]} have one name; "
                    f"pass ignore=({self._names[short]!r},) or ignore=({name!r},) as well."
                )
            else:
                self._names[short] = name
        self.tensors = {short: file.tensors[name] for short, name in self._names.items()}

    def read_bytes(self, name: str) -> bytes | bytearray | memoryview:
        """Return the bytes of one tensor by its new name."""
        return self._file.read_bytes(self._names[name])

    def check(self, needed: Iterable[str]) -> None:
        """Raise `CheckpointError` where a tensor that is passed over is one that the model needs."""
        for name in needed:
            if name in self.ignored:
                raise CheckpointError(
                    f"{self.path}: ignore={self.ignored[name]!r} takes {name}, which the model needs; "
                    "make the pattern narrower."
                )


def patterns_for(names: Sequence[str], others: Iterable[str]) -> tuple[str, ...]:
    """Return shell patterns that match these names and none of the others, few and short."""
    others = list(others)
    patterns: list[str] = []
    for name in names:
        first = re.match(r"[^./]+[./]", name)
        pattern = f"{first[0]}*" if first else name
        if any(fnmatchcase(other, pattern) for other in others):
            pattern = name
        # What a pattern means by a bracket is not what a name does.
        pattern = re.sub(r"\[", "[[]", pattern) if pattern == name else pattern
        if pattern not in patterns:
            patterns.append(pattern)
    return tuple(patterns)


def _first(names: Iterable[str]) -> str:
    name = next(iter(names), None)
    return "; it is empty." if name is None else f"; its first is {name}."
