"""The command `bert4albert` says what a file is, converts it, and fails in one line."""

import json
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.gradients import to_numpy
from support.models import ALL_HEADS, untidy

from bert4albert import Tokenizer, build_model, save_google_checkpoint, save_hf
from bert4albert.cli import main

pytestmark = pytest.mark.once

TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "好", "hello"]


@pytest.fixture
def model(tiny_config):
    return untidy(build_model(tiny_config, **ALL_HEADS))


@pytest.fixture
def folder(model, tmp_path):
    save_hf(model, tmp_path / "model", Tokenizer(TOKENS, do_lower_case=False))
    return tmp_path / "model"


def run(capsys, *arguments):
    code = main([str(argument) for argument in arguments])
    output = capsys.readouterr()
    return code, output.out, output.err


def test_inspect_says_what_the_folder_is_and_how_to_load_it(capsys, folder, model):
    code, text, _ = run(capsys, "inspect", folder)
    assert code == 0
    assert "Hugging Face Albert" in text
    assert "pool, nsp, mlm" in text
    assert f"{model.count_params():,}" in text
    calls = [line.strip() for line in text.splitlines() if line.strip().startswith("build_model(")]
    assert len(calls) == 2
    shared, unshared = (eval(call) for call in calls)
    assert shared.config.sharing == (0, 0, 0)
    assert unshared.config.sharing == (0, 1, 2)


def test_inspect_prints_json(capsys, folder, model):
    _, text, _ = run(capsys, "inspect", folder / "model.safetensors", "--json")
    found = json.loads(text)
    assert found["dialect"] == "Hugging Face Albert"
    assert found["sizes"]["embedding_size"] == 16
    assert found["sizes"]["num_hidden_layers"] == 3
    assert found["parameters"] == model.count_params()
    assert found["parameters_unshared"] == build_model(folder, model="albert_unshared", **ALL_HEADS).count_params()
    assert found["problems"] == ""
    assert eval(found["call"]).load_report.complete


def test_inspect_without_a_config_says_what_the_shapes_say(capsys, folder):
    (folder / "config.json").unlink()
    _, text, _ = run(capsys, "inspect", folder, "--json")
    found = json.loads(text)
    assert found["config"] is None
    assert found["block_applications"] is None
    assert found["sizes"] == {
        "vocab_size": 211,
        "embedding_size": 16,
        "hidden_size": 48,
        "intermediate_size": 80,
        "max_position_embeddings": 64,
        "type_vocab_size": 2,
    }


def test_inspect_names_what_does_not_fit(capsys, folder):
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | {"num_hidden_groups": 3}))
    _, text, _ = run(capsys, "inspect", folder, "--json")
    assert "albert_layer_groups.1" in json.loads(text)["problems"]


def test_inspect_of_safetensors_is_quick_and_imports_no_backend(folder):
    code = (
        "import sys; from bert4albert.cli import main; main(sys.argv[1:]); "
        "print([m for m in ('tensorflow', 'jax', 'torch', 'keras') if m in sys.modules], file=sys.stderr)"
    )
    # The processor's time, which other work on the machine does not change; alone it is the time one waits.
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = subprocess.run([sys.executable, "-c", code, "inspect", str(folder)], capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert result.returncode == 0
    assert result.stderr.strip() == "[]"
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.5


@pytest.mark.parametrize("to", ["hf", "google", "npz"])
@pytest.mark.parametrize("unshare", [False, True])
def test_convert_keeps_every_number_and_the_vocabulary(capsys, folder, model, tmp_path, to, unshare):
    target = tmp_path / "converted"
    code, text, _ = run(capsys, "convert", folder, f"{target}/", "--to", to, *["--unshare"] * unshare)
    assert code == 0
    assert str(target) in text
    converted = build_model(target, **ALL_HEADS)
    assert converted.config.sharing == ((0, 1, 2) if unshare else (0, 0, 0))
    expected = dict(model.named_weights())
    for name, variable in converted.named_weights():
        source = name.replace("block_1", "block_0").replace("block_2", "block_0")
        assert (to_numpy(variable) == to_numpy(expected[source])).all()
    assert not Tokenizer(target).do_lower_case


def test_convert_reads_a_checkpoint_by_its_prefix_and_a_config_elsewhere(capsys, model, tmp_path):
    save_google_checkpoint(model, tmp_path / "google" / "model.ckpt-best")
    config = (tmp_path / "google" / "albert_config.json").rename(tmp_path / "moved.json")
    code, *_ = run(
        capsys, "convert", tmp_path / "google" / "model.ckpt-best", tmp_path / "hf", "--to", "hf", "--config", config
    )
    assert code == 0
    assert build_model(tmp_path / "hf").load_report.complete


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["inspect", "nowhere"], "cannot be read"),
        (["convert", "nowhere", "out", "--to", "hf"], "no config"),
    ],
)
def test_an_error_is_one_line(capsys, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    code, text, error = run(capsys, *arguments)
    assert code == 1
    assert text == ""
    assert error.startswith("bert4albert: ")
    assert words in error
    assert len(error.splitlines()) == 1


def test_a_damaged_tensor_stops_a_conversion_and_leaves_nothing(capsys, folder, tmp_path):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-4] + np.float32("nan").tobytes())
    code, _, error = run(capsys, "convert", folder, tmp_path / "out" / "m.ckpt", "--to", "google")
    assert code == 1
    assert "NaN" in error
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    "arguments", [[], ["frobnicate"], ["convert", "a", "b"], ["convert", "a", "b", "--to", "onnx"]]
)
def test_wrong_usage_exits_with_2(capsys, arguments):
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2


def test_pretraining_has_its_commands_here(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert "build-vocab" in text
    assert "pretrain" in text


def test_the_command_is_installed_under_its_name():
    text = (Path(__file__).resolve().parents[1] / "pyproject.toml").read_text()
    assert 'bert4albert = "bert4albert.cli:main"' in text
