"""Damaged and hostile files: each is an error of ours, or loads exactly what an independent reader reads.

`python tests/test_fuzz.py 20000` runs more cases than the test does, and prints what became of them.
"""

import io
import json
import pickle
import random
import sys
import time
import tracemalloc
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from checkpoints import random_arrays
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

from bert4albert import CheckpointError, ConfigError, ModelConfig, build_model
from bert4albert.checkpoint.dialects import GOOGLE_ALBERT, HF_ALBERT
from bert4albert.checkpoint.formats.tf_bundle import write_tf_bundle
from bert4albert.checkpoint.names import weight_shapes
from bert4albert.checkpoint.resolve import heads_in, open_source, resolve

pytestmark = pytest.mark.once

CASES = 2000
CONFIG = {
    "model_type": "albert",
    "vocab_size": 11,
    "embedding_size": 4,
    "hidden_size": 6,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 10,
    "max_position_embeddings": 7,
    "num_hidden_groups": 2,
}
ABSURD = [
    None, True, -1, 0, 1, 3, 2.5, 10**4, 2**31, 2**63, 10**400, 1e308, "12", "", [], [[]], {}, {"a": 1},
    "gelu", "x" * 500, [0] * 500, float("inf"), float("nan"), json.loads("[" * 700 + "]" * 700),
]  # fmt: skip
MOST_BYTES = 64 * 2**20
MOST_SECONDS = 5.0


def model_arrays(dialect):
    config = ModelConfig.from_dict(CONFIG, with_pool=True, with_nsp=True, with_mlm=True)
    shapes = weight_shapes(config)
    named = dialect.names(config).items()
    return random_arrays({s.name: shapes[w][::-1] if s.transposed else shapes[w] for w, s in named})


def tensorflow_files(arrays, folder):
    index, data = folder / "model.ckpt.index", folder / "model.ckpt.data-00000-of-00001"
    write_tf_bundle(index, data, {k: v.shape for k, v in arrays.items()}, "float32", arrays.__getitem__)
    return {path.name: path.read_bytes() for path in (index, data)}


def npz_files(arrays, _):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return {"model.npz": buffer.getvalue()}


def safetensors_files(arrays, _):
    return {"model.safetensors": save_safetensors(arrays)}


def sharded_files(arrays, _):
    names = list(arrays)
    places = {name: f"part-{i % 2}.safetensors" for i, name in enumerate(names)}
    shards = {
        file: save_safetensors({n: arrays[n] for n in names if places[n] == file}) for file in set(places.values())
    }
    return {"model.safetensors.index.json": json.dumps({"weight_map": places}).encode(), **shards}


def pytorch_files(arrays, _):
    """What torch.save writes, written without it."""
    from torch_pickle import table_of_tensors

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", table_of_tensors(arrays))
        for number, array in enumerate(arrays.values()):
            archive.writestr(f"archive/data/{number}", array.tobytes())
    return {"pytorch_model.bin": buffer.getvalue()}


def read_by_others(kind, files):
    """The tensors of a safetensors or npz file, which have no checksum or their own, by the libraries of each."""
    if kind in ("safetensors", "sharded"):
        shards = [content for name, content in files.items() if name.endswith(".safetensors")]
        return {k: v for content in shards for k, v in load_safetensors(content).items()}
    if kind == "npz":
        with np.load(io.BytesIO(files["model.npz"])) as loaded:
            return {name: loaded[name] for name in loaded}
    return None


KINDS = {
    "tensorflow": (GOOGLE_ALBERT, tensorflow_files),
    "safetensors": (HF_ALBERT, safetensors_files),
    "sharded": (HF_ALBERT, sharded_files),
    "pytorch": (HF_ALBERT, pytorch_files),
    "npz": (HF_ALBERT, npz_files),
}


class Fuzzer:
    """Cases for one kind of file, in a folder of its own."""

    def __init__(self, kind, folder, seed=0):
        self.kind, self.folder, self.random = kind, folder, random.Random(f"{kind} {seed}")
        self.dialect, self.write = KINDS[kind]
        self.arrays = model_arrays(self.dialect)
        self.intact = {"config.json": json.dumps(CONFIG).encode(), **self.write(self.arrays, folder)}
        self.trap = folder / "it ran"
        self.changes = [self.cut, self.flip, self.flip_start, self.splice, self.rearrange, self.reconfigure]
        self.changes += {"sharded": [self.redirect], "pytorch": [self.repickle]}.get(kind, [])

    def case(self):
        """Return the name of a change, the files after it, and the arrays written into them."""
        change = self.random.choice(self.changes)
        files, arrays = change(dict(self.intact))
        return change.__name__, files, arrays

    def some_file(self, files):
        name = self.random.choice([name for name in files if name != "config.json"])
        return name, bytearray(files[name])

    def cut(self, files):
        name, content = self.some_file(files)
        files[name] = bytes(content[: self.random.randrange(len(content))])
        return files, self.arrays

    def flip(self, files, end=None):
        name, content = self.some_file(files)
        for _ in range(self.random.choice([1, 1, 2, 8])):
            content[self.random.randrange(min(len(content), end or len(content)))] ^= 1 << self.random.randrange(8)
        files[name] = bytes(content)
        return files, self.arrays

    def flip_start(self, files):
        return self.flip(files, 400)

    def splice(self, files):
        name, content = self.some_file(files)
        start, length = self.random.randrange(len(content)), self.random.choice([1, 4, 40])
        new = self.random.choice([b"", b"\xff" * length, bytes(self.random.randbytes(length)), content[:length]])
        content[start : start + length] = new
        files[name] = bytes(content)
        return files, self.arrays

    def rearrange(self, files):
        arrays = dict(self.arrays)
        for _ in range(self.random.choice([1, 1, 2])):
            name, other = self.random.sample(sorted(arrays), 2)
            array = arrays[name]
            what = self.random.choice(
                ["turn", "swap", "narrow", "poison", "drop", "repeat", "rename", "grow", "reshape"]
            )
            if what == "turn":
                arrays[name] = np.ascontiguousarray(array.T)
            elif what == "swap":
                arrays[name], arrays[other] = arrays[other], array
            elif what == "narrow" and self.kind in ("safetensors", "sharded", "npz"):
                arrays[name] = array.astype(self.random.choice(["float16", "float64", "int32", "int8", "bool"]))
            elif what == "poison":
                arrays[name] = np.full_like(array, self.random.choice([np.nan, np.inf, -np.inf]))
            elif what == "drop":
                del arrays[name]
            elif what == "repeat":
                arrays[f"{name}{self.random.choice(['.weight', '_1', '/adam_m'])}"] = array
            elif what == "rename":
                arrays[f"bert.{name}"] = arrays.pop(name)
            elif what == "grow":
                arrays[name] = np.concatenate([array, array])
            else:
                arrays[name] = array.reshape(-1, 1)
        return {"config.json": files["config.json"], **self.write(arrays, self.folder)}, arrays

    def reconfigure(self, files):
        values = dict(CONFIG)
        for _ in range(self.random.choice([1, 1, 3])):
            key = self.random.choice(
                [*CONFIG, "sharing", "inner_group_num", "hidden_act", "keep_tokens", "family", "compound_tokens"]
            )
            values[key] = self.random.choice(ABSURD)
        content = bytearray(json.dumps(values).encode())
        if self.random.random() < 0.2:
            content[self.random.randrange(len(content))] = self.random.randrange(256)
        files["config.json"] = bytes(content)
        return files, self.arrays

    def redirect(self, files):
        places = json.loads(files["model.safetensors.index.json"])["weight_map"]
        name = self.random.choice(list(places))
        outside = [
            "../secret.safetensors",
            "/etc/passwd",
            "..",
            "",
            "part-0.safetensors",
            "part-9.safetensors",
            7,
            None,
        ]
        places[name] = self.random.choice(outside)
        if self.random.random() < 0.3:
            del places[name]
        files["model.safetensors.index.json"] = json.dumps({"weight_map": places}).encode()
        return files, self.arrays

    def repickle(self, files):
        with zipfile.ZipFile(io.BytesIO(files["pytorch_model.bin"])) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        pickled = bytearray(members["archive/data.pkl"])
        if self.random.random() < 0.3:
            pickled = pickle.dumps({"albert.pooler.weight": Trap(self.trap)}, protocol=2)
        else:
            for _ in range(self.random.choice([1, 2, 5])):
                pickled[self.random.randrange(len(pickled))] = self.random.randrange(256)
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, bytes(pickled) if name == "archive/data.pkl" else content)
        return {**files, "pytorch_model.bin": buffer.getvalue()}, self.arrays


class Trap:
    """Something whose unpickling would leave a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def load_all(folder):
    """Do all that build_model does but build: return the plan and every value by tensor name, as the file has it."""
    source = open_source(folder)
    _, plan = resolve(source, **heads_in(source))
    plan.check()
    plan.check_equal()
    return plan, {
        stored.name: plan.read(weight).T if stored.transposed else plan.read(weight)
        for weight, stored in plan.sources.items()
    }


def run_case(fuzzer):
    """Run one case and say what became of it; anything but our errors and exact values fails."""
    change, files, arrays = fuzzer.case()
    for name in fuzzer.intact:
        (fuzzer.folder / name).unlink(missing_ok=True)
    for name, content in files.items():
        (fuzzer.folder / name).write_bytes(content)
    start = time.process_time()
    try:
        plan, loaded = load_all(fuzzer.folder)
    except (CheckpointError, ConfigError):
        return change, "refused"
    finally:
        assert time.process_time() - start < MOST_SECONDS
        assert not fuzzer.trap.exists()
    expected = read_by_others(fuzzer.kind, files) or arrays
    for name, value in loaded.items():
        assert value.shape == expected[name].shape
        assert (value == expected[name].astype(value.dtype)).all()
    assert plan.report.tensors.keys() | loaded.keys() == expected.keys()
    return change, "loaded exactly"


def run_cases(fuzzer, count):
    """Run cases, and check that they need little memory; return what became of them."""
    outcomes = Counter()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    largest = max(map(len, fuzzer.intact.values()))
    for number in range(count):
        try:
            outcomes[run_case(fuzzer)] += 1
            assert tracemalloc.get_traced_memory()[1] - before < MOST_BYTES + 2 * largest
        except Exception as error:
            error.add_note(f"{fuzzer.kind}, case {number}; the files are those in {fuzzer.folder}")
            raise
    tracemalloc.stop()
    return outcomes


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore:.*unknown key.*")
def test_every_case_is_refused_or_loads_exactly(tmp_path, kind):
    fuzzer = Fuzzer(kind, tmp_path)
    outcomes = run_cases(fuzzer, CASES // len(KINDS))
    assert {change for change, _ in outcomes} == {change.__name__ for change in fuzzer.changes}
    assert {outcome for _, outcome in outcomes} == {"refused", "loaded exactly"}


@pytest.mark.parametrize("kind", KINDS)
def test_the_files_that_are_changed_load_whole_before(tmp_path, kind):
    fuzzer = Fuzzer(kind, tmp_path)
    for name, content in fuzzer.intact.items():
        (tmp_path / name).write_bytes(content)
    model = build_model(tmp_path, with_pool=True, with_nsp=True, with_mlm=True)
    assert model.load_report.tensors.keys() == fuzzer.arrays.keys()


if __name__ == "__main__":
    import tempfile
    import warnings

    warnings.simplefilter("ignore")
    total = int(sys.argv[1]) if len(sys.argv) > 1 else CASES
    for name in KINDS:
        with tempfile.TemporaryDirectory() as place:
            result = run_cases(Fuzzer(name, Path(place), seed=total), total // len(KINDS))
        for (change, outcome), count in sorted(result.items()):
            print(f"{name:12} {change:12} {outcome:15} {count}")
