"""Damaged and hostile checkpoints: each is an error of ours, or loads exactly what an independent reader reads.

`python develop.py slow tests/test_fuzz.py tests/test_fuzz_doors.py` runs 30,000 cases; the suite runs 2,000.
"""

import io
import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors
from support.checkpoints import random_arrays
from support.fuzzing import Cases, absurd, changed_bytes, run_cases

from bert4albert import ModelConfig, build_model
from bert4albert.checkpoint.dialects import GOOGLE_ALBERT, HF_ALBERT
from bert4albert.checkpoint.formats.tf_bundle import write_tf_bundle
from bert4albert.checkpoint.inspection import inspect
from bert4albert.checkpoint.names import weight_shapes
from bert4albert.checkpoint.resolve import heads_in, open_source, resolve
from bert4albert.convert import convert

pytestmark = pytest.mark.once

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
    from support.torch_pickle import table_of_tensors

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


class Checkpoint(Cases):
    """A checkpoint with its config: what `build_model` does before it builds, and now and then the other doors."""

    def __init__(self, kind, folder, seed=0):
        super().__init__(kind, folder, seed)
        self.random = self.chance
        self.dialect, self.make = KINDS[kind]
        self.arrays = model_arrays(self.dialect)
        self.intact = {"config.json": json.dumps(CONFIG).encode(), **self.make(self.arrays, folder)}
        self.changes = [self.damage, self.damage, self.damage_start, self.rearrange, self.reconfigure]
        self.changes += {"sharded": [self.redirect], "pytorch": [self.repickle]}.get(kind, [])

    def load(self):
        door = self.random.random()
        if door < 0.04:
            inspect(self.folder).as_json()
        elif door < 0.08:
            convert(self.folder, self.folder / "converted" / "model.npz", "npz")
        return load_all(self.folder)

    def check(self, loaded, files, arrays):
        plan, values = loaded
        expected = read_by_others(self.kind, files) or arrays
        for name, value in values.items():
            assert value.shape == expected[name].shape
            assert (value == expected[name].astype(value.dtype)).all()
        assert plan.report.tensors.keys() | values.keys() == expected.keys()

    def damage(self, files, end=None):
        name = self.random.choice([name for name in files if name != "config.json"])
        return files | {name: changed_bytes(self.random, files[name], end)}, self.arrays

    def damage_start(self, files):
        return self.damage(files, 400)

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
        return {"config.json": files["config.json"], **self.make(arrays, self.folder)}, arrays

    def reconfigure(self, files):
        values = dict(CONFIG)
        for _ in range(self.random.choice([1, 1, 3])):
            key = self.random.choice(
                [*CONFIG, "sharing", "inner_group_num", "hidden_act", "keep_tokens", "family", "compound_tokens"]
            )
            values[key] = absurd(self.random)
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


def check_outcomes(cases, outcomes):
    assert {change for change, _ in outcomes} == {change.__name__ for change in cases.changes}
    assert {outcome for _, outcome in outcomes} == {"refused", "loaded exactly"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore:.*unknown key.*")
def test_every_case_is_refused_or_loads_exactly(tmp_path, kind):
    cases = Checkpoint(kind, tmp_path)
    check_outcomes(cases, run_cases(cases, 1500 // len(KINDS)))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore:.*unknown key.*")
def test_every_one_of_many_cases_is_refused_or_loads_exactly(tmp_path, kind):
    cases = Checkpoint(kind, tmp_path, seed=1)
    outcomes = run_cases(cases, 24_000 // len(KINDS))
    check_outcomes(cases, outcomes)
    print(kind, dict(sorted(outcomes.items())))


@pytest.mark.parametrize("kind", KINDS)
def test_the_files_that_are_changed_load_whole_before(tmp_path, kind):
    cases = Checkpoint(kind, tmp_path)
    cases.write(cases.intact)
    model = build_model(tmp_path, with_pool=True, with_nsp=True, with_mlm=True)
    assert model.load_report.tensors.keys() == cases.arrays.keys()
