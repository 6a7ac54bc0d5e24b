"""Where the tests find the outputs of the original programs, and small models to test on."""

import contextlib
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from support.golden import GOLDEN, GOOGLE_FOLDERS, SHARED
from support.models import TINY, eagerly

# Files that do not fit into the time of the suite that every change runs; `develop.py slow` runs them.
LONG_FILES = ("test_compare.py", "test_examples.py", "test_pretraining_teacher.py")


# Whose cases all run in the suite; of the others one of each test, and all under `slow`.
ALL_CASES = {"tensorflow": ("test_",), "jax": ("test_golden",), "torch": ("test_golden", "test_between")}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """Leave out the tests that take long, unless they are asked for."""
    everywhere = ALL_CASES[keras.backend.backend()]
    first = {}
    for item in items:
        sampled = not item.path.name.startswith(everywhere)
        if item.path.name in LONG_FILES or (sampled and first.setdefault(item.nodeid.split("[")[0], item) is not item):
            item.add_marker(pytest.mark.slow)
    if "slow" not in config.option.markexpr:
        slow = [item for item in items if item.get_closest_marker("slow")]
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]


@pytest.fixture(autouse=True)
def same_random_numbers():
    """Every test begins with the same initial weights, alone or after others."""
    keras.utils.set_random_seed(1)


@pytest.fixture(autouse=True)
def as_written(request):
    """Let TensorFlow run the functions of tests marked `eager` as they are written, without compiling them."""
    with eagerly() if request.node.get_closest_marker("eager") else contextlib.nullcontext():
        yield


@pytest.fixture(scope="session")
def shared():
    """The folder with golden files and data; tests that need it are skipped where it is absent."""
    if not (SHARED / "golden").is_dir():
        pytest.skip(f"no golden files at {SHARED}: they are not part of the repository")
    return SHARED


@pytest.fixture(scope="session")
def golden():
    """A function: folder name -> its path, config, checkpoint and expected arrays; some lie beside the tests."""

    def load(name):
        folder = GOLDEN / name if (GOLDEN / name).is_dir() else SHARED / "golden" / name
        if not folder.is_dir():
            pytest.skip(f"no golden files at {folder}: only some are part of the repository")
        config, checkpoint = GOOGLE_FOLDERS.get(name, ("config.json", "model.safetensors"))
        return SimpleNamespace(
            folder=folder,
            config=folder / config,
            checkpoint=folder / checkpoint,
            expected=_arrays(folder / "expected.npz"),
            bert4keras=_arrays(folder / "expected_bert4keras.npz"),
            gradients=_arrays(folder / "gradients.npz"),
        )

    return load


@pytest.fixture
def tiny_config():
    """A small ALBERT config with sizes that differ from one another."""
    return dict(TINY)


@pytest.fixture
def batch():
    """Token ids and segment ids of rows of unequal length, padded with 0."""
    generator = np.random.default_rng(5)
    lengths, longest = (13, 9, 4), 13
    token_ids = np.zeros((len(lengths), longest), "int32")
    segment_ids = np.zeros_like(token_ids)
    for row, length in enumerate(lengths):
        token_ids[row, :length] = generator.integers(1, 211, length)
        segment_ids[row, length // 2 : length] = 1
    return SimpleNamespace(token_ids=token_ids, segment_ids=segment_ids, lengths=lengths)


def _arrays(path):
    if not path.exists():
        return {}
    with np.load(path) as file:
        return {key: file[key] for key in file}
