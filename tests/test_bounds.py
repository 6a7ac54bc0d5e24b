"""Whatever a file claims is checked before memory or time is spent; what is wrong is told in one printable line."""

import gzip
import json
import os
import struct
import time
import tracemalloc
import warnings
import zipfile

import h5py
import numpy as np
import pytest
from safetensors.numpy import save_file
from support.savers import SPECIAL, values_of
from support.torch_pickle import table_of_tensors

from bert4albert import (
    Bert4AlbertError,
    CheckpointError,
    ConfigError,
    DataError,
    ModelConfig,
    Tokenizer,
    TokenizerError,
    build_model,
    save_google_checkpoint,
    save_hf,
)
from bert4albert.checkpoint import open_checkpoint
from bert4albert.cli import main
from bert4albert.convert import convert
from bert4albert.plain_files import open_regular
from bert4albert.pretraining.corpus import Corpus
from bert4albert.tasks import Task, TextClassifier
from bert4albert.tasks.data_files import read_lines

pytestmark = pytest.mark.once

CONFIG = values_of(0)
NUMBERS = [key for key, value in CONFIG.items() if isinstance(value, int)]
NUMBERS += ["layer_norm_eps", "initializer_range", "hidden_dropout_prob", "num_hidden_groups", "inner_group_num"]

needs_pipes = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")


def told(error, call, size=0):
    """Check that a call ends with this error, in one line, soon, and with little memory for a file of this size."""
    tracemalloc.start()
    start = time.process_time()
    try:
        with pytest.raises(error) as caught:
            call()
        assert time.process_time() - start < 2
        assert tracemalloc.get_traced_memory()[1] < 2 * size + 64 * 2**20
    finally:
        tracemalloc.stop()
    message = str(caught.value)
    assert 0 < len(message) <= 2000
    assert message.isprintable()
    return message


# Configs


@pytest.mark.parametrize("sharing", [[0, 10**9], {"attention": [0, 10**9]}, [10**400, 0], "cycle:9999999999", ["0", 0]])
def test_a_schedule_of_a_thousand_million_blocks_is_told(sharing):
    told(ConfigError, lambda: build_model(CONFIG | {"sharing": sharing}))


@pytest.mark.parametrize("size", ["ab", "", [1, 2], {"a": 1}, 10**400])
def test_a_number_of_heads_times_a_string_is_not_computed(size):
    told(ConfigError, lambda: build_model(CONFIG | {"num_attention_heads": 8 * 10**9, "attention_head_size": size}))


@pytest.mark.parametrize("key", NUMBERS)
@pytest.mark.parametrize(
    "value", [10**400, -(10**400), {}, {"a": 1}, [], "x" * 10**6, float("nan")], ids=lambda value: f"{value!r:.9}"
)
def test_what_is_no_number_of_a_model_is_told(key, value):
    told(ConfigError, lambda: ModelConfig.from_dict(CONFIG | {key: value}))


@pytest.mark.parametrize("like", ["", "hidden_sizes"])
def test_two_megabytes_of_unknown_keys_take_no_time(tmp_path, like):
    values = CONFIG | {f"{like}{number:x}": 0 for number in range(2**17)} | {"hidden_size": -1}
    path = tmp_path / "config.json"
    path.write_text(json.dumps(values, separators=(",", ":"))[: 2**21])
    if len(path.read_text()) == 2**21:
        path.write_text(path.read_text().rsplit(",", 1)[0] + "}")
    with warnings.catch_warnings(record=True) as warned:
        message = told(ConfigError, lambda: build_model(path), path.stat().st_size)
    assert "hidden_size" in message
    assert len(warned) < 10


@pytest.mark.parametrize("content", ["[" * 10**6, "[[]," * 5 * 10**5, '{"a":' * 9**5, "9" * 10**6, '"\ud800'])
def test_json_that_is_no_config_is_told(tmp_path, content):
    path = tmp_path / "config.json"
    path.write_bytes(content.encode(errors="surrogatepass"))
    told(ConfigError, lambda: build_model(path), path.stat().st_size)
    (tmp_path / "vocab.txt").write_text("\n".join(SPECIAL))
    path.rename(tmp_path / "tokenizer_config.json")
    told(TokenizerError, lambda: Tokenizer(tmp_path), len(content))


# Devices and pipes


def test_a_device_as_a_config_a_checkpoint_or_a_vocabulary_is_refused():
    told(ConfigError, lambda: build_model("/dev/zero"))
    told(CheckpointError, lambda: build_model(CONFIG, "/dev/zero"))
    told(TokenizerError, lambda: Tokenizer("/dev/zero"))
    told(DataError, lambda: read_lines("/dev/zero"))
    told(DataError, lambda: list(Corpus("/dev/zero")))


@needs_pipes
@pytest.mark.parametrize(
    "name", ["config.json", "model.safetensors", "model.npz", "model.bin", "m.index", "m.index.json", "vocab.txt"]
)
def test_a_pipe_in_a_folder_is_refused_without_waiting(tmp_path, name):
    os.mkfifo(tmp_path / name)
    told((ConfigError, CheckpointError), lambda: build_model(tmp_path))
    told(CheckpointError, lambda: build_model(CONFIG, tmp_path / name))
    told(TokenizerError, lambda: Tokenizer(tmp_path))
    told(Bert4AlbertError, lambda: convert(tmp_path, tmp_path / "out", "hf"))


@needs_pipes
def test_an_index_that_names_a_pipe_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "part.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "part.safetensors"}}))
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    told(CheckpointError, lambda: build_model(tmp_path, tmp_path / "model.safetensors.index.json"))
    os.mkfifo(tmp_path / "m.ckpt.data-00000-of-00001")
    with pytest.raises(OSError, match="a device or a pipe"):
        open_regular(tmp_path / "m.ckpt.data-00000-of-00001")


# Archives


def header_of(shape, length):
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(length - 1) + "\n"
    return b"\x93NUMPY\x02\x00" + struct.pack("<I", len(header)) + header.encode()


@pytest.mark.parametrize("packing", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_an_npz_header_of_megabytes_is_not_read(tmp_path, packing):
    with zipfile.ZipFile(tmp_path / "model.npz", "w", packing) as archive:
        archive.writestr("a.npy", header_of("(1,)", 40 * 2**20) + bytes(4))
    told(CheckpointError, lambda: open_checkpoint(tmp_path / "model.npz"), (tmp_path / "model.npz").stat().st_size)


@pytest.mark.parametrize("header", ["(2, ", "{'descr': ", "'''", "(" * 3000, "{'shape': (1,)}", "\ud800"])
def test_a_header_that_python_cannot_parse_is_told(tmp_path, header):
    header = header.encode(errors="surrogatepass")
    with zipfile.ZipFile(tmp_path / "model.npz", "w") as archive:
        archive.writestr("a.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
    told(CheckpointError, lambda: open_checkpoint(tmp_path / "model.npz"))


def test_an_array_that_unpacks_to_gigabytes_is_not_unpacked(tmp_path):
    path, size = tmp_path / "model.npz", 2**28
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.npy", "w") as file:
        file.write(header_of(f"({size // 4},)", 100))
        for _ in range(size >> 24):
            file.write(bytes(2**24))
    message = told(CheckpointError, lambda: open_checkpoint(path), path.stat().st_size)
    assert "exhaust memory" in message


def test_an_array_that_claims_more_than_it_has_is_told(tmp_path):
    with zipfile.ZipFile(tmp_path / "model.npz", "w") as archive:
        archive.writestr("a.npy", header_of("(1000000, 1000000)", 100) + bytes(400))
    told(CheckpointError, lambda: open_checkpoint(tmp_path / "model.npz"))


def archive_of_many(path, count):
    """A zip whose directory lists many members, all of them the same bytes."""
    local = b"PK\x03\x04" + struct.pack("<HHHHHIIIHH", 20, 0, 0, 0, 0, 0, 0, 0, 1, 0) + b"a"
    fields = struct.pack("<HHHHHHIIIHHHHHII", 20, 20, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0)
    directory = b"".join(b"PK\x01\x02" + fields + b"%09d" % number for number in range(count))
    end = struct.pack("<HHHHIIH", 0, 0, count & 0xFFFF, count & 0xFFFF, len(directory), len(local), 0)
    path.write_bytes(local + directory + b"PK\x05\x06" + end)


@pytest.mark.parametrize(("count", "words"), [(400_000, "its directory claims"), (20_000, "no data.pkl")])
def test_members_by_the_hundred_thousand_take_no_time(tmp_path, count, words):
    path = tmp_path / "pytorch_model.bin"
    archive_of_many(path, count)
    assert words in told(CheckpointError, lambda: open_checkpoint(path), path.stat().st_size)


def test_a_pytorch_file_whose_storages_overlap_to_gigabytes_is_refused(tmp_path):
    base = np.zeros((512, 1024), np.float32)
    path = tmp_path / "pytorch_model.bin"
    with zipfile.ZipFile(path, "w") as archive:
        table = table_of_tensors({f"encoder.layer.{number}.weight": base for number in range(1024)})
        # Every tensor asks for storage 0.
        for number in range(1, 1024):
            key = str(number).encode()
            table = table.replace(b"X" + struct.pack("<I", len(key)) + key, b"X" + struct.pack("<I", 1) + b"0")
        archive.writestr("archive/data.pkl", table)
        archive.writestr("archive/data/0", base.tobytes())
    message = told(CheckpointError, lambda: open_checkpoint(path), path.stat().st_size)
    assert "save copies" in message


@pytest.mark.parametrize("operations", [b"}" * 2**21, b"(" * 2**21, b"}q\x00" * 2**19, b"K\x01q\x00" * 2**19])
def test_a_pickle_of_nothing_but_operations_takes_no_time(tmp_path, operations):
    path = tmp_path / "pytorch_model.bin"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + operations + b".")
    told(CheckpointError, lambda: open_checkpoint(path), path.stat().st_size)


def test_a_tensorflow_index_that_claims_more_than_its_data_is_told_before_a_model_is_built(tmp_path):
    save_google_checkpoint(build_model(CONFIG), tmp_path / "m.ckpt")
    data = tmp_path / "m.ckpt.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:-400])
    assert "cut short" in told(CheckpointError, lambda: build_model(tmp_path))
    data.unlink()
    assert "missing" in told(CheckpointError, lambda: build_model(tmp_path))


# Compressed texts


@pytest.mark.parametrize("damage", ["cut", "flip", "tail", "none"])
def test_a_damaged_gz_is_told(tmp_path, damage):
    content = bytearray(gzip.compress(b"\n".join(b"%d,%d" % (n * n, n) for n in range(999)), mtime=0))
    if damage == "flip":
        content[300] ^= 255
    kept = {"cut": content[:300], "tail": content[:-4], "none": b"no gzip"}.get(damage, content)
    (tmp_path / "a.tsv.gz").write_bytes(kept)
    told(DataError, lambda: read_lines(tmp_path / "a.tsv.gz"))
    told(DataError, lambda: list(Corpus(tmp_path / "a.tsv.gz")))


def test_a_gz_that_unpacks_to_gigabytes_is_told(tmp_path):
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(bytes(2**28), mtime=0))
    assert "50 times" in told(DataError, lambda: read_lines(path), path.stat().st_size)
    told(DataError, lambda: list(Corpus(path)), path.stat().st_size)


# Saved tasks


@pytest.fixture
def saved(tmp_path):
    task = TextClassifier(build_model(CONFIG), Tokenizer([*SPECIAL, "a", "b"]), labels=["x", "y"], maxlen=7)
    task.save(tmp_path)
    return tmp_path


def rewrite(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_task_whose_config_claims_more_than_its_weights_hold_is_told_before_it_is_built(saved):
    rewrite(saved / "config.json", vocab_size=2**23, hidden_size=2**12, intermediate_size=2**14, embedding_size=2**12)
    assert "the files do not belong together" in told(DataError, lambda: Task.load(saved))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("labels", [str(number) for number in range(10**5)]),
        ("labels", 7),
        ("maxlen", 10**400),
        ("maxlen", "seven"),
        ("nonsense", 1),
        ("pooling", {}),
    ],
    ids=lambda value: f"{value!r:.12}",
)
def test_settings_that_are_not_those_of_the_saved_task_are_told(saved, key, value):
    values = json.loads((saved / "task.json").read_text())
    (saved / "task.json").write_text(json.dumps(values | {"settings": values["settings"] | {key: value}}))
    with pytest.raises(Bert4AlbertError) as caught:
        Task.load(saved)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "dtype",
    [
        "float8",
        None,
        7,
        {"module": "os", "class_name": "system", "config": {"name": "true"}, "registered_name": None},
        {"module": "keras", "class_name": "DTypePolicy", "config": {"name": "int8"}},
        {"class_name": "DTypePolicy", "config": 1},
        ["float32"],
    ],
)
def test_a_dtype_that_is_no_known_policy_is_refused(saved, dtype):
    rewrite(saved / "task.json", dtype=dtype)
    assert "dtype must be one of" in told(DataError, lambda: Task.load(saved))


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"\xff", b'{"task": 1}', b'{"task": "TextClassifier"}', b"[" * 9999]
)
def test_a_damaged_description_of_a_task_is_told(saved, content):
    (saved / "task.json").write_bytes(content)
    told(DataError, lambda: Task.load(saved))


def test_a_vocabulary_that_was_cut_short_is_told(saved):
    lines = (saved / "vocab.txt").read_text().split("\n")
    (saved / "vocab.txt").write_text("\n".join(lines[:-2]))
    assert "cut short or changed" in told(DataError, lambda: Task.load(saved))


def poison(dataset):
    if dataset.ndim:
        dataset[..., 0] = np.nan


def test_weights_that_are_not_finite_are_told_by_name(saved):
    with h5py.File(saved / "model.weights.h5", "r+") as file:
        file.visititems(lambda _, node: poison(node) if isinstance(node, h5py.Dataset) else None)
    assert "NaN" in told(DataError, lambda: Task.load(saved))


# Saving


def test_saving_refuses_lost_numbers_and_names_the_weight_unless_told_to(tmp_path):
    model = build_model(CONFIG)
    task = TextClassifier(model, Tokenizer([*SPECIAL, "a"]), labels=[0, 1], maxlen=7)
    task.model  # noqa: B018  (built)
    kernel = dict(model.named_weights())["embeddings/word/embeddings"]
    values = np.zeros(tuple(kernel.shape), "float32")
    values[3, 1] = np.inf
    kernel.assign(values)
    for save, error in (
        (lambda **options: save_hf(model, tmp_path / "hf", **options), CheckpointError),
        (lambda **options: save_google_checkpoint(model, tmp_path / "google" / "m.ckpt", **options), CheckpointError),
        (lambda **options: task.save(tmp_path / "task", **options), DataError),
    ):
        message = told(error, save)
        assert "embeddings/word/embeddings" in message
        assert "allow_nonfinite=True" in message
        save(allow_nonfinite=True)
    for folder in ("hf", "google"):
        assert "NaN or infinite" in told(CheckpointError, lambda folder=folder: build_model(tmp_path / folder))
    assert "NaN or infinite" in told(DataError, lambda: Task.load(tmp_path / "task"))


def test_a_conversion_may_replace_what_it_reads(tmp_path):
    save_hf(build_model(CONFIG), tmp_path / "m", Tokenizer([*SPECIAL, "a"]))
    before = {name: np.array(value) for name, value in build_model(tmp_path / "m").named_weights()}
    assert convert(tmp_path / "m", tmp_path / "m", "hf") == tmp_path / "m"
    assert convert(tmp_path / "m", f"{tmp_path / 'google'}/", "google") == tmp_path / "google" / "albert_model.ckpt"
    assert convert(tmp_path / "google", tmp_path / "n" / "a.npz", "npz", sharing="unshared").name == "a.npz"
    for folder in ("m", "google"):
        for name, value in build_model(tmp_path / folder).named_weights():
            assert (np.array(value) == before[name]).all()
    assert build_model(tmp_path / "n" / "config.json", tmp_path / "n" / "a.npz").config.sharing == (0, 1)
    assert Tokenizer(tmp_path / "n").vocab_size == 6
    assert "to must be one of" in told(ConfigError, lambda: convert(tmp_path / "m", tmp_path / "o", "onnx"))


# Terminals


def test_control_characters_of_a_file_never_reach_the_terminal(tmp_path, capsys):
    evil = "\x1b[31m\x9b2J\x07\r\u202e"
    (tmp_path / "config.json").write_text(json.dumps(CONFIG | {"hidden_act": evil, evil: 1}))
    save_file({f"albert.{evil}": np.zeros(3, np.float32)}, tmp_path / "model.safetensors")
    commands = [
        ["inspect", tmp_path],
        ["inspect", tmp_path, "--json"],
        ["convert", tmp_path, tmp_path / "o", "--to", "hf"],
    ]
    for change in ({}, {"hidden_act": "gelu"}):
        values = json.loads((tmp_path / "config.json").read_text()) | change
        (tmp_path / "config.json").write_text(json.dumps(values))
        for command in commands:
            main([str(argument) for argument in command])
            output = capsys.readouterr()
            assert set(map(ord, filter(lambda c: not c.isprintable(), output.out + output.err))) <= {ord("\n")}, command
            assert output.out + output.err


def test_errors_are_one_printable_line_whatever_they_quote():
    error = DataError("a\nb\x1b[2J\x9b" + "c" * 10**6 + " at the end what to do.")
    assert str(error).isprintable()
    assert len(str(error)) <= 2000
    assert str(error).endswith("what to do.")


# Half precision


def test_bfloat16_is_read_from_safetensors_npz_dictionaries_and_pytorch(tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file as save_torch

    save_hf(build_model(CONFIG), tmp_path / "hf")
    loaded = open_checkpoint(tmp_path / "hf" / "model.safetensors")
    tensors = {name: torch.from_numpy(loaded.read(name).copy()).bfloat16() for name in loaded.tensors}
    expected = {name: tensor.float().numpy() for name, tensor in tensors.items()}
    save_torch(tensors, tmp_path / "hf" / "model.safetensors")
    torch.save(tensors, tmp_path / "pytorch_model.bin")
    for source in (tmp_path / "hf" / "model.safetensors", tmp_path / "pytorch_model.bin", tensors):
        opened = open_checkpoint(source)
        for name, values in expected.items():
            assert (opened.read(name) == values).all()
            assert opened.read(name).dtype == np.float32
        assert build_model(tmp_path / "hf" / "config.json", source).load_report.complete
