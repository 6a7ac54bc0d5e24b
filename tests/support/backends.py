"""Processes of their own for another backend than that of the tests."""

import os
import runpy
from pathlib import Path

_QUICK_TO_COMPILE = runpy.run_path(str(Path(__file__).resolve().parents[2] / "develop.py"))["QUICK_TO_COMPILE"]


def environment_for(backend):
    """The environment of a process that runs a backend, which compiles as quickly as in the tests of that backend."""
    return os.environ | {"KERAS_BACKEND": backend, "XLA_FLAGS": _QUICK_TO_COMPILE[backend]}
