"""What every command and every example does around its work: help that is complete, one line for an error, quiet."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bert4albert.errors import Bert4AlbertError, DataError, printable

# What TensorFlow's C++ says before it has read any setting, and that there is no GPU.
_NOTES = re.compile(rb"WARNING: All log messages before absl::|I\d{4} |E\d{4} .*failed call to cuInit")


class CommandParser(argparse.ArgumentParser):
    """An argument parser whose help says every default; so do its subcommands'."""

    def __init__(self, *args: Any, **options: Any) -> None:
        options.setdefault("formatter_class", _Help)
        super().__init__(*args, **options)


class _Help(argparse.RawDescriptionHelpFormatter):
    def _get_help_string(self, action: argparse.Action) -> str | None:
        default = action.default
        if default is None or isinstance(default, bool) or default in ([], argparse.SUPPRESS):
            return action.help
        words = " ".join(map(str, default)) if isinstance(default, list | tuple) else str(default)
        return f"{action.help or ''} (default: {words.replace('%', '%%')})".lstrip()


def run_command(name: str, work: Callable[[], Any]) -> int:
    """Run the work of a command or an example, and tell warnings and a user's errors in one line each.

    Arguments:
        name: who speaks, such as 'bert4albert'.
        work: what to do; may return an exit code.

    Returns:
        The exit code: that of the work, 0 for None; 1 after an error, 130 after Ctrl-C.
    """

    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *place, **more: print(
            printable(f"{name}: warning: {message}"), file=sys.stderr
        )
        try:
            return work() or 0
        except Bert4AlbertError as error:
            print(f"{name}: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print(f"\n{name}: stopped.", file=sys.stderr)
            return 130


def start_keras() -> None:
    """Import Keras in a process that is the command's own, without what TensorFlow says when it starts.

    Settings that the user has made stay. Errors are shown, and all but TensorFlow's own warnings that is said later.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # Faster on many processors, and off by default on some.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    with _notes_left_out():
        import keras

        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            tf.config.list_physical_devices()
            # A command that trains several models is warned that each is traced anew.
            tf.get_logger().setLevel("ERROR")


def require_folder(path: str | os.PathLike[str], option: str) -> Path:
    """Return a path if a folder is there or can be made, so that no training is lost on one where nothing can.

    Arguments:
        path: where something will be written.
        option: the option that gave it, such as '--save'.

    Returns:
        The path. Raises `DataError` where a file stands in the way, or nothing may be written.
    """
    path = Path(path)
    above = next((folder for folder in (path, *path.parents) if os.path.lexists(folder)), Path())
    if not os.path.isdir(above):
        raise DataError(f"{option} {path}: {above} is a file; give a folder, or the name of a new one.")
    if not os.access(above, os.W_OK | os.X_OK):
        raise DataError(f"{option} {path}: nothing may be written in {above}; give another folder.")
    return path


@contextlib.contextmanager
def _notes_left_out() -> Iterator[None]:
    """Hold back what is written to standard error, and pass it on in the end without notes of TensorFlow's C++."""
    sys.stderr.flush()
    standard_error = os.dup(2)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(standard_error, 2)
            os.close(standard_error)
            said.seek(0)
            for line in said:
                if not _NOTES.match(line):
                    os.write(2, line)
