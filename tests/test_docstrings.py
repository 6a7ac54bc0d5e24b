"""Every public name has an example that runs, and says what each of its arguments is."""

import dataclasses
import doctest
import importlib
import inspect
import pkgutil
import re

import pytest
import tensorflow as tf

import bert4albert

pytestmark = pytest.mark.once

PACKAGE = "bert4albert"
# Public by use, though no `__all__` names them.
ALSO = (
    "bert4albert.checkpoint.inspection.inspect",
    "bert4albert.convert.convert",
    "bert4albert.sharing.Schedule",
    "bert4albert.sharing.parse_schedule",
)
# What an example needs beside the packages that the library itself needs.
NEEDS = {
    "bert4albert.export.exporting.export_task": "onnxruntime",
    "bert4albert.serving.exported.load": "onnxruntime",
}
# The section titles that the documentation generator knows (griffe's google style), as this package uses them.
# "Call arguments" it shows as a box of its own; which errors are raised is told at the end of "Returns".
TITLES = {"Arguments", "Call arguments", "Returns", "Attributes", "Examples"}
WITH_ENTRIES = {"Arguments", "Call arguments", "Attributes"}
# What Keras explains, the same for all its classes.
OF_KERAS = {"name", "dtype", "args", "kwargs"}
# A line of a section that explains one argument or attribute; the names have no stars.
ENTRY = re.compile(r"^    (\w+): \S", re.MULTILINE)


def _packages():
    """Yield the package and the packages inside it, but for the old spellings, which their originals explain."""
    yield bert4albert
    for found in pkgutil.walk_packages(bert4albert.__path__, f"{PACKAGE}."):
        if found.ispkg and not found.name.startswith(f"{PACKAGE}.bert4keras"):
            yield importlib.import_module(found.name)


def _public():
    """Return the public classes and functions by the path of their definition, each once."""
    exported = [getattr(package, name) for package in _packages() for name in getattr(package, "__all__", ())]
    others = [getattr(importlib.import_module(path.rpartition(".")[0]), path.rpartition(".")[2]) for path in ALSO]
    found = (value for value in (*exported, *others) if inspect.isclass(value) or inspect.isfunction(value))
    return {f"{value.__module__}.{value.__qualname__}": value for value in found}


PUBLIC = _public()


@pytest.fixture(autouse=True, scope="module")
def nothing_compiled():
    """Examples run for moments and would be compiled for seconds."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.mark.parametrize("path", PUBLIC)
def test_the_example_of_a_public_name_runs(path, tmp_path, monkeypatch):
    if path in NEEDS:
        pytest.importorskip(NEEDS[path])
    monkeypatch.chdir(tmp_path)
    found = doctest.DocTestFinder().find(PUBLIC[path], path, globs={})
    has_example = any(part.examples for part in found if part.name == path)
    assert has_example, f"{path} has no example: add 'Examples:' with a few '>>>' lines to its docstring"
    told = []
    runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    for part in found:
        runner.run(part, out=told.append)
    assert not told, "".join(told)


@pytest.mark.parametrize("path", PUBLIC)
def test_every_argument_of_a_public_name_is_explained(path):
    value = PUBLIC[path]
    if inspect.isclass(value):
        explained = {name for base in value.__mro__ for name in _entries(base)} | OF_KERAS
        # The fields of a dataclass have names and types that speak, and generators list them.
        own = "__init__" in vars(value) and not dataclasses.is_dataclass(value)
        wanted = _parameters(value.__init__) if own else set()
    else:
        explained, wanted = _entries(value), _parameters(value)
    assert wanted <= explained, f"the docstring of {path} says nothing of {', '.join(sorted(wanted - explained))}"


@pytest.mark.parametrize("path", PUBLIC)
def test_a_public_docstring_has_sections_that_a_documentation_generator_reads(path):
    for name, value in (("", PUBLIC[path]), *_methods(PUBLIC[path])):
        sections = _sections(value)
        unknown = sections.keys() - TITLES
        assert not unknown, f"{path} {name} has the section {unknown}; the titles are {', '.join(sorted(TITLES))}"
        for title in sections.keys() & WITH_ENTRIES:
            first = sections[title].splitlines()[0]
            assert ENTRY.match(first), f"{path} {name}: {title} must have lines 'name: what it is', one for each name"
            lines = [line for line in sections[title].splitlines() if re.match(r"    \S", line)]
            wrong = [line for line in lines if not ENTRY.match(line)]
            assert not wrong, f"{path} {name}: {title} must have lines 'name: what it is', not {wrong}"


@pytest.mark.parametrize("path", PUBLIC)
def test_what_a_public_method_explains_it_explains_whole(path):
    for name, method in _methods(PUBLIC[path]):
        if "Arguments" in _sections(method):
            missing = _parameters(method) - _entries(method)
            assert not missing, f"the docstring of {path}.{name} says nothing of {', '.join(sorted(missing))}"


def _methods(value):
    """Yield (name, function) for the public methods that a class defines itself."""
    for name, method in vars(value).items() if inspect.isclass(value) else ():
        method = getattr(method, "__func__", method)
        if inspect.isfunction(method) and not name.startswith("_") and method.__module__.startswith(PACKAGE):
            yield name, method


def _parameters(function):
    return set(inspect.signature(function).parameters) - {"self", "cls"}


def _entries(value):
    """Return the names that a docstring explains as arguments or attributes."""
    sections = _sections(value)
    return {name for title in WITH_ENTRIES & sections.keys() for name in ENTRY.findall(sections[title])}


def _sections(value):
    """Return the sections of a docstring, title -> indented lines."""
    text = inspect.cleandoc(value.__dict__.get("__doc__") or "") if inspect.isclass(value) else inspect.getdoc(value)
    return dict(re.findall(r"^([A-Z][\w ]*):\n( +\S.*\n(?:(?: +.*)?\n)*)", (text or "") + "\n", re.MULTILINE))
