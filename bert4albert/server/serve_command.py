"""The command `bert4albert serve FOLDER`."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path
from typing import Any

from bert4albert.command_line import start_keras
from bert4albert.errors import DataError, ExportError
from bert4albert.serving.exported import EXPORT_FILE, load

# Seconds in which a server that was told to end still takes what is on its way.
_LAST_CALL = 0.5


def add_parser(subparsers: Any) -> None:
    """Add `serve` to the commands."""
    parser = subparsers.add_parser(
        "serve",
        help="answer texts over HTTP, from a saved task or an export",
    )
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="what task.save or task.export wrote")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at; 0.0.0.0 for all")
    parser.add_argument("--port", type=int, default=8000, help="port to listen at")
    parser.add_argument(
        "--window", type=float, default=3.0, metavar="MS", help="a lone request waits so long for others"
    )
    parser.add_argument("--no-joining", action="store_true", help="answer every request on its own")
    parser.add_argument("--batch-size", type=int, default=8, help="texts of similar length computed at once")
    parser.add_argument("--queue", type=int, default=1024, help="texts that may wait; beyond, the answer is 503")
    parser.add_argument("--max-characters", type=int, default=10_000, help="of a text; beyond, the answer is 413")
    parser.add_argument("--max-texts", type=int, default=256, help="of a request; beyond, the answer is 413")
    parser.add_argument("--max-bytes", type=int, default=10_000_000, help="of a request; beyond, the answer is 413")
    parser.add_argument("--threads", type=int, help="threads of one batch, for an export; default: all cores")
    parser.set_defaults(run=_serve)


def _serve(options: argparse.Namespace) -> None:
    try:
        import uvicorn

        from bert4albert.server.app import Limits, make_app
    except ImportError as error:
        raise ExportError(f"{error.name} is not installed: pip install 'bert4albert[serve]'.") from None
    for name in ("window", "batch_size", "queue", "max_characters", "max_texts", "max_bytes", "threads"):
        value = getattr(options, name)
        if value is not None and not value >= (0 if name == "window" else 1):
            raise DataError(f"--{name.replace('_', '-')} is {value}: use a larger one.")
    task, name = open_folder(options.folder, options.threads)
    # The first answer takes longer than the others; nobody should wait for it.
    task.predict(["a"])
    window = 0.0 if options.no_joining else options.window / 1000
    limits = Limits(
        window, options.batch_size, options.queue, options.max_characters, options.max_texts, options.max_bytes
    )
    app = make_app(task, name, limits)
    print(f"serving {name} at http://{options.host}:{options.port}; about it: /docs", flush=True)
    config = uvicorn.Config(app, host=options.host, port=options.port, log_level="warning", access_log=False)
    _patient(uvicorn.Server)(config).run()


def _patient(server: type[Any]) -> type[Any]:
    """Return a server that, told to end, reads and answers what has reached its connections first."""

    class PatientServer(server):
        async def shutdown(self, sockets: Any = None) -> None:
            await asyncio.sleep(_LAST_CALL)
            await super().shutdown(sockets)

    return PatientServer


def open_folder(folder: Path, threads: int | None = None) -> tuple[Any, str]:
    """Return what can answer, from an export or a saved task, and the name of the task's class.

    Arguments:
        folder: what `task.export` or `task.save` wrote.
        threads: of one batch, for an export.

    Returns:
        The two. Raises `DataError` where the folder holds neither.
    """
    if (folder / EXPORT_FILE).is_file():
        exported = load(folder, threads)
        return exported, exported.task
    if not (folder / "task.json").is_file():
        raise DataError(f"{folder} holds neither an export ({EXPORT_FILE}) nor a saved task (task.json).")
    start_keras()
    from bert4albert.tasks import load_task

    task = load_task(folder)
    return task, type(task).__name__
