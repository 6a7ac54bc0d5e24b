"""Commands and examples: help says all, errors are one line, folders are tried before training, TensorFlow is quiet."""

import argparse
import re
import runpy
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from bert4albert import __version__
from bert4albert.cli import main, make_parser
from bert4albert.command_line import require_folder, run_command
from bert4albert.errors import ConfigError, DataError

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = sorted(path.stem for path in (ROOT / "examples").glob("*.py") if path.stem != "common")
pytestmark = pytest.mark.once


def parsers():
    (commands,) = (action for action in make_parser()._actions if isinstance(action, argparse._SubParsersAction))
    return commands.choices


def run_example(monkeypatch, name, *arguments):
    """Run an example in this process; return its exit code."""
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(ROOT / "examples" / f"{name}.py"), run_name="__main__")
    return end.value.code


def assert_every_option_is_explained(text):
    entries = text[text.index("options:") :].split("\n  -")[1:]
    assert len(entries) > 1
    for entry in entries:
        assert re.search(r"( {2}|\n)\s*\w.{9,}", entry), entry


@pytest.mark.parametrize("name", parsers())
def test_the_help_of_every_command_explains_every_option_and_says_every_default(name):
    text = parsers()[name].format_help()
    assert_every_option_is_explained(text)
    words = "".join(text.split())
    for action in parsers()[name]._actions:
        assert action.help, action
        if not isinstance(action.default, bool | None) and action.default not in ([], argparse.SUPPRESS):
            shown = "".join(map(str, action.default)) if isinstance(action.default, list) else str(action.default)
            assert f"(default:{shown})" in words, action


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_help_of_every_example_says_what_files_hold_and_every_default(monkeypatch, capsys, name):
    assert run_example(monkeypatch, name, "--help") == 0
    text = capsys.readouterr().out
    assert f"python examples/{name}.py" in text
    assert "(default: " in text
    assert_every_option_is_explained(text)


@pytest.mark.parametrize("name", ["iflytek", "ner", "reading_comprehension", "relation_extraction", "seq2seq"])
def test_an_error_of_an_example_is_one_line(monkeypatch, capsys, tmp_path, name):
    assert run_example(monkeypatch, name, "nowhere.json", "nowhere.json", "--out", tmp_path / "out") == 1
    captured = capsys.readouterr()
    assert captured.err.splitlines() == [f"{name}.py: There is no data file at nowhere.json."]
    assert captured.out == ""


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("ner", ["a.txt", "b.txt", "--save"]), ("seq2seq", ["a.tsv", "b.tsv", "--out"]), ("sentiment", ["--save"])],
)
def test_a_folder_to_write_is_tried_before_anything_is_read(monkeypatch, capsys, tmp_path, name, arguments):
    (tmp_path / "file").write_text("")
    assert run_example(monkeypatch, name, *arguments, tmp_path / "file" / "task") == 1
    assert "is a file; give a folder" in capsys.readouterr().err


def test_commands_try_their_folder_first_as_well(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    pretrain = ["pretrain", "--corpus", "none.txt", "--vocab", "none.txt", "--config", "none.json"]
    for command in (["compare", "none.tsv", "none.tsv", "--task", "classification"], pretrain):
        assert main([*command, "--out", str(tmp_path / "file")]) == 1
        error = capsys.readouterr().err
        assert "--out" in error
        assert "is a file; give a folder" in error


def test_a_folder_where_nothing_may_be_written_is_refused(monkeypatch, tmp_path):
    assert require_folder(tmp_path / "new" / "newer", "--save") == tmp_path / "new" / "newer"
    assert not (tmp_path / "new").exists()
    # The system lets root write anywhere.
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) != tmp_path)
    with pytest.raises(DataError, match=r"--save.*nothing may be written in"):
        require_folder(tmp_path / "new", "--save")


def test_errors_warnings_and_ctrl_c_are_one_line_each(capsys):
    def warn():
        warnings.warn("first\x1b[31m", UserWarning, stacklevel=1)
        raise ConfigError("wrong\nthing")

    def stop():
        raise KeyboardInterrupt

    assert run_command("name", warn) == 1
    assert capsys.readouterr().err.splitlines() == ["name: warning: first\\u001b[31m", "name: wrong thing"]
    assert run_command("name", stop) == 130
    assert capsys.readouterr().err.split("\n") == ["", "name: stopped.", ""]
    assert run_command("name", lambda: None) == 0


def test_the_version_is_told(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"bert4albert {__version__}\n"


@pytest.mark.slow
def test_a_process_that_starts_keras_says_nothing():
    start = "from bert4albert.command_line import start_keras; start_keras(); import keras; keras.ops.ones(2) + 1"
    result = subprocess.run([sys.executable, "-c", start], capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_importing_the_package_sets_no_environment():
    code = "import os; before = dict(os.environ); import bert4albert.cli; assert dict(os.environ) == before"
    subprocess.run([sys.executable, "-c", code], check=True)
