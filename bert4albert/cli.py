"""The command `bert4albert`: look at a checkpoint, convert it, pretrain a model."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Sequence
from typing import Any

from bert4albert import __version__
from bert4albert.command_line import CommandParser, run_command
from bert4albert.errors import printable
from bert4albert.experiment.compare_command import add_parser as add_compare_command
from bert4albert.pretraining.command import add_parser as add_pretraining_commands
from bert4albert.server.serve_command import add_parser as add_serve_command
from bert4albert.sharing_command import add_parser as add_sharing_command
from bert4albert.sharing_command import parse_spec, show_points


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Arguments:
        arguments: what follows `bert4albert` on the command line; None for the process's own.

    Returns:
        The exit code: 0, or 1 after an error, which is printed as one line. A usage error exits with 2.
    """
    options = make_parser().parse_args(arguments)
    return run_command("bert4albert", lambda: options.run(options))


def make_parser() -> CommandParser:
    """Return the parser of the command line."""
    parser = CommandParser(prog="bert4albert", description="Pretrained ALBERT and BERT, shared or unshared.")
    parser.add_argument("--version", action="version", version=f"bert4albert {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    inspect = commands.add_parser("inspect", help="say what a checkpoint is and how to load it")
    inspect.add_argument("path", metavar="PATH", help="a folder, a checkpoint file, a prefix, or a model's name")
    inspect.add_argument("--config", metavar="FILE", help="the model's config, where it is not beside the checkpoint")
    inspect.add_argument("--json", action="store_true", help="print JSON instead of tables")
    inspect.set_defaults(run=_inspect)
    convert = commands.add_parser("convert", help="write a checkpoint in another format")
    convert.add_argument("source", metavar="SRC", help="a folder, a checkpoint file, a prefix, or a model's name")
    convert.add_argument("target", metavar="DST", help="a folder; for google also a prefix, for npz also a file")
    convert.add_argument("--to", choices=["hf", "google", "npz"], help="the format to write; npz where --rank is given")
    convert.add_argument("--unshare", action="store_true", help="give every depth a block of its own")
    convert.add_argument("--sharing", metavar="SPEC", help="how much to share, as for the command sharing")
    convert.add_argument("--rank", type=int, metavar="N", help="write depths as one block and updates of this rank")
    convert.add_argument("--config", metavar="FILE", help="the model's config, where it is not beside the checkpoint")
    convert.set_defaults(run=_convert)
    add_compare_command(commands)
    add_sharing_command(commands)
    add_serve_command(commands)
    add_pretraining_commands(commands)
    return parser


def _inspect(options: argparse.Namespace) -> None:
    from bert4albert.checkpoint.inspection import inspect
    from bert4albert.sharing_costs import describe_sharing

    inspection = inspect(options.path, options.config)
    found = inspection.as_json()
    points = describe_sharing(inspection.config) if inspection.has_config else []
    found["points"] = [point.as_json() for point in points]
    if options.json:
        # JSON itself spells out the older control characters only.
        print("\n".join(map(printable, json.dumps(found, indent=2, ensure_ascii=False).split("\n"))))
    else:
        _show(found)


def _show(found: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for label, value in _rows(found):
        table.add_row(label, printable(value))
    Console(markup=False, highlight=False).print(table)
    if found["points"]:
        print("\nWhat sharing more or less costs in training, without activations:")
        show_points(found["points"])
    # Outside the table, which would break lines that are there to be copied.
    call = printable(found["call"])
    print(f"\nLoad it with\n  {call}")
    if found["family"] == "albert" and found["blocks"] != found["block_applications"]:
        print(f'or, to fine-tune without weight sharing, with\n  {call[:-1]}, model="albert_unshared")')


def _rows(found: dict[str, Any]) -> list[tuple[str, str]]:
    unknown = "unknown: the depth is not in the file, pass --config"
    unshared = found["parameters_unshared"]
    rows = [
        ("checkpoint", found["checkpoint"]),
        ("config", found["config"] or "none found"),
        ("dialect", found["dialect"]),
        *((key.replace("_", " "), str(value)) for key, value in found["sizes"].items()),
        ("blocks", f"{found['blocks']}, applied {found['block_applications'] or 'an unknown number of'} times"),
        ("heads", ", ".join(head.removeprefix("with_") for head in found["heads"]) or "none"),
        ("parameters", f"{found['parameters']:,}"),
        ("parameters unshared", f"{unshared:,}" if unshared else unknown),
        *(("exempt", f"{count} tensors: {why}") for why, count in found["exempt"].items()),
    ]
    return [*rows, ("does not fit", found["problems"])] if found["problems"] else rows


def _convert(options: argparse.Namespace) -> None:
    from rich.console import Console
    from rich.progress import Progress

    from bert4albert.convert import convert

    form = options.to or ("npz" if options.rank else None)
    if form is None:
        print("bert4albert: convert needs the format to write: --to hf, --to google or --to npz.", file=sys.stderr)
        raise SystemExit(2)
    sharing = "unshared" if options.unshare else options.sharing and parse_spec(options.sharing)
    progress = Progress(console=Console(stderr=True), transient=True)
    task = progress.add_task("writing", total=None)
    with contextlib.ExitStack() as shown:

        def show(done: int, total: int) -> None:
            if not progress.live.is_started:  # not before the source was found to be whole
                shown.enter_context(progress)
            progress.update(task, completed=done, total=total)

        options_of_model = {"sharing": sharing, "rank": options.rank, "config": options.config}
        written = convert(options.source, options.target, form, **options_of_model, progress=show)
    print(printable(f"wrote {written} in the {form} format"))
