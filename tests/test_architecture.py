"""Imports point one way, checkpoints know neither Keras nor the model, and only public Keras is used."""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

pytestmark = pytest.mark.once

PACKAGE = Path(__file__).resolve().parents[1] / "bert4albert"

# Each room may import from those above it, and from itself.
FLOORS = (
    ("errors", "lazy"),
    ("files", "plain_files", "finding", "backend", "command_line"),
    ("sharing", "config_keys", "pictures"),
    ("config",),
    ("heads", "batches"),
    ("text",),
    ("checkpoint",),
    ("layers",),
    ("model",),
    ("weights",),
    ("build", "save", "convert"),
    ("depth_drift", "sharing_costs"),
    ("compression", "resharing", "sharing_command"),
    ("from_hugging_face",),
    ("generation",),
    ("training",),
    ("serving",),
    ("export",),
    ("tasks", "pretraining"),
    ("experiment", "server"),
    ("cli",),
    ("bert4keras",),
)
RANK = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))


def imports_of(path):
    """The dotted names that a file imports when it runs, at the top or inside a function."""
    tree = ast.parse((PACKAGE / path).read_text(encoding="utf-8"))
    only_types = {
        child
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in only_types:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(path):
    return path.parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_imports_point_one_way(path):
    room = room_of(path)
    if room in ("__init__", "__main__"):
        return
    assert room in RANK, f"{room} has no floor: say in FLOORS where it stands"
    for name in imports_of(path):
        if name.startswith("bert4albert."):
            other = name.split(".")[1]
            assert other == room or RANK.get(other, -1) < RANK[room], f"{path} imports {name}"


@pytest.mark.parametrize("path", [path for path in MODULES if room_of(path) == "checkpoint"], ids=str)
def test_checkpoints_know_neither_keras_nor_the_model(path):
    known = {name.split(".")[0] for name in imports_of(path)}
    assert not known & {"keras", "tensorflow", "jax"}


def test_no_two_files_have_one_name():
    # The names in bert4keras/ are those that scripts import.
    ours = [path.name for path in MODULES if room_of(path) != "bert4keras"]
    names = Counter(name for name in ours if name not in ("__init__.py", "__main__.py"))
    assert [name for name, count in names.items() if count > 1] == []


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_only_public_keras_is_used(path):
    text = (PACKAGE / path).read_text(encoding="utf-8")
    assert not re.search(r"keras\.src|\btf\.keras|\btf_keras", text)
    assert "os.environ[" not in text


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_files_and_functions_are_short(path):
    text = (PACKAGE / path).read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            inner = [child for child in ast.walk(node) if isinstance(child, ast.stmt) and child is not node]
            assert not body or len({child.lineno for child in inner}) <= 50, f"{path}: {node.name} is too long"
