"""Every kind of checkpoint file is read exactly, one tensor at a time, and nothing in it is run."""

import io
import json
import pickle
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from support.checkpoints import random_arrays, write_bundle

from bert4albert import CheckpointError, ConfigError, build_model
from bert4albert.checkpoint import open_checkpoint
from bert4albert.checkpoint.dialects import GOOGLE_ALBERT, HF_BERT
from bert4albert.checkpoint.formats.arrays import write_arrays
from bert4albert.checkpoint.formats.safe_tensors import write_safe_tensors
from bert4albert.checkpoint.formats.tf_bundle import write_tf_bundle
from bert4albert.checkpoint.names import weight_shapes
from bert4albert.config import ModelConfig

pytestmark = pytest.mark.once

VALUES = {
    "model_type": "bert",
    "vocab_size": 37,
    "hidden_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 20,
    "max_position_embeddings": 9,
}


def shapes_of(dialect, values):
    config = ModelConfig.from_dict(values, family=dialect.family)
    shapes = weight_shapes(config)
    return {s.name: shapes[w][::-1] if s.transposed else shapes[w] for w, s in dialect.names(config).items()}


@pytest.fixture
def arrays():
    """A whole small model under Hugging Face's names."""
    return random_arrays(shapes_of(HF_BERT, VALUES))


def torch_module():
    return pytest.importorskip("torch", reason="PyTorch writes these files")


def problem(function, *arguments, **options):
    with pytest.raises((CheckpointError, ConfigError)) as error:
        function(*arguments, **options)
    return str(error.value)


def same(file, arrays):
    assert file.tensors.keys() == arrays.keys()
    for name, array in arrays.items():
        read = file.read(name)
        assert read.shape == array.shape
        assert (read == np.asarray(array, read.dtype)).all()


class TestSafetensors:
    def test_ours_reads_what_the_library_writes(self, arrays, tmp_path):
        path = tmp_path / "model.safetensors"
        more = {"whole": np.arange(7), "wide": np.ones((3, 1, 2)), "empty": np.zeros((0, 4), "float32")}
        save_file(arrays | more, path)
        same(open_checkpoint(path), arrays | more)

    def test_the_library_reads_what_ours_writes(self, arrays, tmp_path):
        path = tmp_path / "model.safetensors"
        write_safe_tensors(path, {k: v.shape for k, v in arrays.items()}, "float32", arrays.__getitem__)
        loaded = load_file(path)
        assert loaded.keys() == arrays.keys()
        assert all((loaded[name] == arrays[name]).all() for name in arrays)

    @pytest.mark.parametrize("dtype", ["float16", ml_dtypes.bfloat16, "float64"])
    def test_other_precisions_load_as_their_exact_values(self, arrays, tmp_path, dtype):
        narrow = {name: array.astype(dtype) for name, array in arrays.items()}
        path = tmp_path / "model.safetensors"
        if dtype is ml_dtypes.bfloat16:
            torch = torch_module()
            from safetensors.torch import save_file as save_torch

            save_torch({k: torch.tensor(v.astype("float32")).bfloat16() for k, v in narrow.items()}, path)
        else:
            save_file(narrow, path)
        same(open_checkpoint(path), {name: array.astype("float64") for name, array in narrow.items()})
        assert build_model(VALUES, path).load_report.complete

    @pytest.fixture
    def sharded(self, arrays, tmp_path):
        """A sharded model: (index path, the index as values, the function that writes it)."""
        halves = list(arrays)[::2], list(arrays)[1::2]
        names = [f"model-{part}-of-00002.safetensors" for part in ("00001", "00002")]
        for half, file_name in zip(halves, names, strict=True):
            save_file({name: arrays[name] for name in half}, tmp_path / file_name)
        index = {"metadata": {}, "weight_map": {n: names[n in halves[1]] for n in arrays}}
        path = tmp_path / "model.safetensors.index.json"

        def write():
            path.write_text(json.dumps(index))
            return path

        return write(), index["weight_map"], write

    def test_a_sharded_model_is_one(self, arrays, sharded):
        same(open_checkpoint(sharded[0]), arrays)
        (sharded[0].parent / "config.json").write_text(json.dumps(VALUES))
        assert build_model(sharded[0].parent).load_report.complete

    @pytest.mark.parametrize("place", ["../model-00001-of-00002.safetensors", "/etc/passwd", "..", "", "a\\b", "a\0b"])
    def test_an_index_may_not_point_outside_its_folder(self, arrays, sharded, place):
        path, places, write = sharded
        places[next(iter(arrays))] = place
        write()
        assert "not a file beside it" in problem(open_checkpoint, path)

    def test_an_index_and_its_files_must_agree(self, arrays, sharded):
        path, places, write = sharded
        places["new"] = places[next(iter(arrays))]
        write()
        assert "the tensor new" in problem(open_checkpoint, path)
        del places["new"]
        lost = next(iter(arrays))
        del places[lost]
        write()
        assert lost in problem(open_checkpoint, path)

    @pytest.mark.parametrize(
        ("header", "words"),
        [
            ({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}, "the bytes of a"),
            ({"a": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}}, "the bytes of a"),
            ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, "has"),
            ({"a": {"dtype": "F99", "shape": [2], "data_offsets": [0, 8]}}, "F99"),
            ({"a": {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}}, "shape"),
            ({"a": {"dtype": "F32", "shape": [True, 2], "data_offsets": [0, 8]}}, "shape"),
            ({"a": [1]}, "describes a"),
            ([], "not a JSON object"),
        ],
    )
    def test_a_header_that_does_not_describe_the_file_is_refused(self, tmp_path, header, words):
        text = json.dumps(header).encode()
        path = tmp_path / "bad.safetensors"
        path.write_bytes(len(text).to_bytes(8, "little") + text + b"\0" * 8)
        message = problem(open_checkpoint, path)
        assert words in message
        assert str(path) in message

    def test_a_name_that_is_there_twice_is_refused(self, tmp_path):
        entry = '{"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}'
        text = f'{{"a": {entry}, "a": {entry}}}'.encode()
        path = tmp_path / "bad.safetensors"
        path.write_bytes(len(text).to_bytes(8, "little") + text + b"\0" * 8)
        assert "'a' twice" in problem(open_checkpoint, path)

    @pytest.mark.parametrize("change", ["dropped", "added"])
    def test_one_key_dropped_or_added_is_named(self, arrays, tmp_path, change):
        name = "bert.encoder.layer.1.attention.self.key.bias"
        changed = (
            {k: v for k, v in arrays.items() if k != name} if change == "dropped" else arrays | {"more": arrays[name]}
        )
        save_file(changed, tmp_path / "model.safetensors")
        message = problem(build_model, VALUES, tmp_path / "model.safetensors")
        assert (f"missing {name}" if change == "dropped" else "unexpected more") in message


class TestPyTorch:
    def test_views_shared_storages_parameters_and_precisions_are_read_exactly(self, tmp_path):
        torch = torch_module()
        flat = torch.arange(24.0)
        tensors = {
            "turned": flat.reshape(4, 6).t(),
            "part": flat[5:11],
            "strided": flat[::3],
            "parameter": torch.nn.Parameter(flat.reshape(2, 3, 4)),
            "half": flat.half(),
            "brain": flat.bfloat16(),
            "double": flat.double(),
            "whole": torch.arange(5),
            "yes": torch.tensor([True, False]),
            "scalar": torch.tensor(3.5),
        }
        path = tmp_path / "pytorch_model.bin"
        torch.save(tensors, path)
        same(open_checkpoint(path), {name: t.detach().float().numpy() for name, t in tensors.items()})

    def test_torch_is_not_imported(self, golden):
        path = golden("hf_albert").folder / "pytorch_model.bin"
        code = (
            "import sys; from bert4albert.checkpoint import open_checkpoint; "
            f"file = open_checkpoint({str(path)!r}); [file.read(name) for name in file.tensors]; "
            "print('torch' in sys.modules)"
        )
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert result.stdout.strip() == "False"

    def test_the_older_form_is_left_to_pytorch(self, arrays, tmp_path):
        torch = torch_module()
        path = tmp_path / "pytorch_model.bin"
        tensors = {name: torch.tensor(array) for name, array in arrays.items()}
        torch.save(tensors | {"brain": torch.ones(3).bfloat16()}, path, _use_new_zipfile_serialization=False)
        same(open_checkpoint(path), arrays | {"brain": np.ones(3)})

    def test_the_older_form_without_pytorch_says_so(self, arrays, tmp_path, monkeypatch):
        torch = torch_module()
        path = tmp_path / "pytorch_model.bin"
        torch.save({"a": torch.ones(2)}, path, _use_new_zipfile_serialization=False)
        monkeypatch.setitem(sys.modules, "torch", None)
        assert "install torch" in problem(open_checkpoint, path)

    @pytest.mark.parametrize("kind", ["zip", "older"])
    def test_a_pickle_that_would_run_code_does_not(self, tmp_path, kind):
        mark = tmp_path / "it ran"

        class Attack:
            def __reduce__(self):
                return Path.touch, (mark,)

        path = tmp_path / "pytorch_model.bin"
        if kind == "zip":
            write_pickle(path, {"weight": Attack()})
        else:
            torch_module().save({"weight": Attack()}, path, _use_new_zipfile_serialization=False)
        message = problem(open_checkpoint, path)
        assert "table of tensors" in message
        assert not mark.exists()

    @pytest.mark.parametrize("value", [{"a": 1}, {"a": {"b": []}}, [1, 2], {1: 2}, "text", {"a": 1.5}])
    def test_anything_but_named_tensors_is_refused(self, tmp_path, value):
        write_pickle(tmp_path / "pytorch_model.bin", value)
        assert "table of tensors" in problem(open_checkpoint, tmp_path / "pytorch_model.bin")

    @pytest.mark.parametrize(
        "pickled",
        [
            b"\x80\x02" + b")" + b"\x86" * 3 + b".",  # tuples of what is not there
            b"\x80\x02)" + b"q\x00h\x00h\x00\x86" * 200 + b".",  # a tuple with 2 ** 200 leaves
            b"\x80\x02r\xff\xff\xff\x7f.",  # a memo of billions
            b"\x80\x05\x96" + b"\xff" * 7 + b"\x7f.",  # a bytearray of exabytes
            b"\x80\x02cos\nsystem\n(U\x02lst R.",
            b"",
        ],
        ids=["underflow", "nested", "memo", "bytearray", "system", "empty"],
    )
    def test_a_hostile_pickle_is_refused_at_once(self, tmp_path, pickled):
        write_pickle(tmp_path / "pytorch_model.bin", pickled)
        assert "nothing in it was run" in problem(open_checkpoint, tmp_path / "pytorch_model.bin")

    def test_a_tensor_outside_its_storage_is_refused(self, tmp_path):
        torch = torch_module()
        buffer = io.BytesIO()
        torch.save({"a": torch.ones(100)}, buffer)
        with zipfile.ZipFile(buffer) as archive:
            pickled = archive.read("archive/data.pkl")
        assert pickled.count(b"Kd") == 2  # the storage's length, and the tensor's
        at = pickled.rindex(b"Kd")
        write_pickle(tmp_path / "pytorch_model.bin", pickled[:at] + b"Kz" + pickled[at + 2 :])
        assert "outside its storage" in problem(open_checkpoint, tmp_path / "pytorch_model.bin")

    def test_a_member_that_claims_more_than_the_file_takes_no_memory(self, tmp_path):
        path = tmp_path / "pytorch_model.bin"
        write_pickle(path, {})
        content = bytearray(path.read_bytes())
        at = content.index(b"PK\x01\x02") + 20  # the compressed size in the archive's directory
        content[at : at + 4] = (2**31 - 1).to_bytes(4, "little")
        path.write_bytes(content)
        tracemalloc.start()
        assert "longer than the file" in problem(open_checkpoint, path)
        assert tracemalloc.get_traced_memory()[1] < 2**20
        tracemalloc.stop()

    def test_a_file_of_another_kind_is_named(self, tmp_path):
        (tmp_path / "pytorch_model.bin").write_bytes(b"version https://git-lfs.github.com/spec/v1")
        assert "not a file that torch.save wrote" in problem(open_checkpoint, tmp_path / "pytorch_model.bin")


def write_pickle(path, value):
    """Write a pickle where torch.save has its table of tensors."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", value if isinstance(value, bytes) else pickle.dumps(value, protocol=2))


class TestArrays:
    def test_a_dict_of_arrays_is_a_checkpoint(self, arrays):
        assert build_model(VALUES, arrays).load_report.source == "the given dict"

    @pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
    def test_an_npz_file_is_a_checkpoint(self, arrays, tmp_path, save):
        turned = {name: np.asfortranarray(array) for name, array in arrays.items()}
        save(tmp_path / "model.npz", **turned)
        same(open_checkpoint(tmp_path / "model.npz"), arrays)
        assert build_model(VALUES, tmp_path / "model.npz").load_report.complete

    def test_numpy_reads_what_ours_writes(self, arrays, tmp_path):
        write_arrays(tmp_path / "a.npz", {k: v.shape for k, v in arrays.items()}, "float32", arrays.__getitem__)
        with np.load(tmp_path / "a.npz") as loaded:
            assert set(loaded) == arrays.keys()
            assert all((loaded[name] == arrays[name]).all() for name in arrays)

    def test_objects_are_never_unpickled(self, arrays, tmp_path):
        name = "bert.pooler.dense.bias"
        np.savez(tmp_path / "model.npz", **arrays, **{name: np.array([{}] * 12, dtype=object)})
        assert "holds string" in problem(build_model, VALUES, tmp_path / "model.npz", with_pool=True)

    @pytest.mark.parametrize("given", [{"a": [[1], [2, 3]]}, 5])
    def test_what_is_no_array_is_named(self, given):
        assert "arrays" in problem(open_checkpoint, given)


class TestTensorFlow:
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_tensorflow_reads_what_ours_writes(self, arrays, tmp_path, dtype):
        import tensorflow as tf

        named = {name.replace(".", "/"): array for name, array in arrays.items()}
        index, data = tmp_path / "model.ckpt.index", tmp_path / "model.ckpt.data-00000-of-00001"
        write_tf_bundle(index, data, {k: v.shape for k, v in named.items()}, dtype, named.__getitem__)
        reader = tf.train.load_checkpoint(str(tmp_path / "model.ckpt"))
        assert reader.get_variable_to_shape_map() == {k: list(v.shape) for k, v in named.items()}
        for name, array in named.items():
            assert reader.get_tensor(name).dtype == dtype
            assert (reader.get_tensor(name) == array).all()
        same(open_checkpoint(tmp_path / "model.ckpt"), named)

    def test_a_saved_model_folder_is_found_with_its_assets(self, tmp_path):
        values = {k: v for k, v in VALUES.items() if k != "model_type"} | {"embedding_size": 5}
        (tmp_path / "variables").mkdir()
        (tmp_path / "assets").mkdir()
        (tmp_path / "assets" / "albert_config.json").write_text(json.dumps(values))
        write_bundle(tmp_path / "variables" / "variables", random_arrays(shapes_of(GOOGLE_ALBERT, values)))
        assert build_model(tmp_path).load_report.dialect == "Google ALBERT"


class TestFolders:
    @pytest.fixture
    def folder(self, arrays, tmp_path):
        (tmp_path / "config.json").write_text(json.dumps(VALUES))
        save_file(arrays, tmp_path / "model.safetensors")
        return tmp_path

    def test_a_folder_is_a_model(self, folder):
        assert build_model(folder).load_report.source == str(folder / "model.safetensors")
        assert build_model(str(folder) + "/").load_report.complete
        assert build_model(folder / "config.json", folder).load_report.complete

    def test_the_config_alone_gives_random_weights(self, folder):
        assert build_model(folder / "config.json").load_report is None

    def test_a_folder_without_weights_is_an_error(self, folder):
        (folder / "model.safetensors").unlink()
        assert "holds no checkpoint" in problem(build_model, folder)

    def test_a_folder_without_a_config_is_an_error(self, folder):
        (folder / "config.json").unlink()
        assert "holds no config" in problem(build_model, folder)

    def test_two_checkpoints_are_listed(self, folder):
        (folder / "model.safetensors").rename(folder / "a.safetensors")
        (folder / "b.safetensors").write_bytes(b"")
        message = problem(build_model, folder)
        assert "a.safetensors, b.safetensors" in message
        assert "checkpoint=" in message
        assert build_model(folder, folder / "a.safetensors").load_report.complete

    def test_a_model_in_the_package_goes_by_its_name(self, folder, monkeypatch):
        monkeypatch.setattr("bert4albert.finding.PRETRAINED", folder.parent)
        assert build_model(folder.name).load_report.complete
        assert folder.name in problem(build_model, folder.name + "x")

    def test_a_path_that_leads_nowhere_is_named(self, tmp_path):
        assert "no config file or model folder" in problem(build_model, tmp_path / "nothing")
        assert "cannot be read" in problem(build_model, VALUES, tmp_path / "nothing.safetensors")
        assert "cannot be read" in problem(build_model, VALUES, tmp_path / "nothing.bin")
        assert "cannot be read" in problem(build_model, VALUES, tmp_path / "nothing.npz")
