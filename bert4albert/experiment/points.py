"""Points between shared and unshared: what their names mean, as arguments of `build_model` and of `Task.fit`."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from bert4albert.errors import ConfigError, did_you_mean

BASELINE = "shared"
_STRUCTURES = ("shared", "unshared", "sandwich")
_STRUCTURES_OF_K = ("groups", "cycle", "cycle_rev", "middle_cycle")
_PARTS = ("attention", "feed_forward", "norm", "attention_norm", "output_norm")
# What one run has to itself, and what would give the points of a seed different budgets.
_NOT_FOR_ALL = ("self", "train", "valid", "seed", "verbose", "columns", "callbacks", "optimizer", "early_stopping")


class Point(NamedTuple):
    """A point to measure: its name, and its arguments of `build_model` and of `Task.fit`."""

    name: str
    build: dict[str, Any]
    fit: dict[str, Any]

    @property
    def file_name(self) -> str:
        """The name as a part of file names."""
        return re.sub(r"[^\w.+-]+", "-", self.name)


def read_points(points: Sequence[str] | Mapping[str, Mapping[str, Any]], common: Mapping[str, Any]) -> list[Point]:
    """Return the points to measure.

    Arguments:
        points: names, or a dictionary from names of your own to arguments of `build_model` and `Task.fit`.
        common: the arguments of all points, which those of a point come before.

    Returns:
        One `Point` for each. Raises `ConfigError` for a name or an argument that is not known.
    """
    if isinstance(points, str):
        raise ConfigError(f"points is a list of names, such as [{points!r}], or a dictionary; it is a text.")
    named = dict(points) if isinstance(points, Mapping) else {name: meaning(name) for name in points}
    if not named or len(named) < len(points):
        raise ConfigError(f"points must name one point or more, each once; it is {list(points)!r:.80}.")
    found = []
    for name, arguments in named.items():
        build, fit = split({**common, **arguments}, f"The point {name!r}")
        found.append(Point(str(name), build, fit))
    files = [point.file_name.lower() for point in found]
    if len(set(files)) < len(files):
        raise ConfigError(f"Two of the points {', '.join(named)} would have files of one name: rename one of them.")
    return found


def meaning(name: str) -> dict[str, Any]:
    """Return the arguments that the name of a point stands for.

    Arguments:
        name: a structure ('shared', 'unshared', 'sandwich', 'groups:2', 'cycle:2', 'cycle_rev:2', 'middle_cycle:2'),
            a part to unshare ('attention', 'feed_forward', 'norm', 'attention_norm', 'output_norm'), 'lora:8' or
            'bias' for an update or an offset of each depth, 'decay:0.1' for copies that are pulled together, or
            'gradual:0.3' for copies that are let go after this part of the steps.

    Returns:
        Keyword arguments of `build_model` and `Task.fit`. Raises `ConfigError` for other names.
    """
    kind, _, value = str(name).partition(":")
    if name in _STRUCTURES or (kind in _STRUCTURES_OF_K and value.isdecimal()):
        return {"sharing": name}
    if name in _PARTS:
        return {"sharing": {name: "unshared"}}
    if name == "bias":
        return {"depth_bias": True}
    if kind == "lora" and value.isdecimal():
        return {"depth_lora": int(value)}
    if kind == "decay" and (strength := _number(value)) is not None:
        return {"sharing": "unshared", "sharing_decay": strength}
    if kind == "gradual" and (part := _number(value)) is not None and 0 < part < 1:
        return {"sharing": "unshared", "unshare_at": {0: "shared", part: "unshared"}}
    known = [*_STRUCTURES, *(f"{k}:2" for k in _STRUCTURES_OF_K), *_PARTS, "lora:8", "bias", "decay:0.1", "gradual:0.3"]
    hint = did_you_mean(str(name), known)
    raise ConfigError(f"There is no point {name!r}; points are {', '.join(known)}.{hint}")


def split(arguments: Mapping[str, Any], owner: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return which of some keyword arguments are `build_model`'s, and which are `Task.fit`'s.

    Raises `ConfigError` for those that neither has, that runs cannot share, or that cannot be written to a file.
    """
    from bert4albert.build import build_model
    from bert4albert.config import known_keys
    from bert4albert.tasks import Task

    of_build = {*_names(build_model), *known_keys()} - {"overrides"}
    of_fit = {*_names(Task.fit)} - set(_NOT_FOR_ALL)
    for name, value in arguments.items():
        if name in _NOT_FOR_ALL:
            raise ConfigError(f"{owner} has {name!r}, which is not for all runs: leave it out.")
        if name not in of_build | of_fit:
            hint = did_you_mean(name, [*of_build, *of_fit])
            raise ConfigError(f"{owner} has {name!r}, which neither build_model nor Task.fit takes.{hint}")
        try:
            json.dumps(value)
        except (TypeError, ValueError):
            raise ConfigError(
                f"{owner} has {name}={value!r:.60}, which cannot be written down to be compared when the comparison "
                "goes on: use numbers, texts, lists and dictionaries."
            ) from None
    build = {name: value for name, value in arguments.items() if name in of_build}
    return build, {name: value for name, value in arguments.items() if name not in build}


def _names(function: Callable[..., Any]) -> list[str]:
    return list(inspect.signature(function).parameters)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
