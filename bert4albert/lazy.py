"""Names of a package that are imported when they are first used, so that importing it loads no Keras backend."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_names(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return what a package needs to import its names late.

    Arguments:
        package: the package's `__name__`.
        homes: name -> the module that defines it, relative to the package: "module", or ".module" beside the package.

    Returns:
        The package's `__getattr__` and `__dir__` (PEP 562).
    """

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f".{homes[name]}", package), name)

    def names() -> list[str]:
        return sorted([*vars(sys.modules[package]), *homes])

    return get, names
