"""The command `sharing`: what points between shared and unshared cost."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

from bert4albert.errors import ConfigError

_HELP = """a point: shared, unshared, groups:K, cycle:K, cycle_rev:K, sandwich, middle_cycle:K, or JSON such as
'[0, 0, 1, 1]', '{"attention": "unshared"}' or '{"depth_lora": 8, "freeze_base": true}'; none for a choice of them"""


def add_parser(subparsers: Any) -> None:
    """Register `sharing` with the subparsers of a command line."""
    parser = subparsers.add_parser("sharing", help="say what points between shared and unshared cost")
    parser.add_argument("config", metavar="CONFIG", help="a config file, a folder with one, or a model's name")
    parser.add_argument("specs", metavar="SPEC", nargs="*", help=_HELP)
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.set_defaults(run=_sharing)


def show_points(points: Sequence[dict[str, Any]]) -> None:
    """Print a table of points, as `SharingCost.as_json` gives them."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("sharing", overflow="fold")
    for title in ("parameters", "trained", "weights", "gradients", "AdamW", "together"):
        table.add_column(title, justify="right", no_wrap=True)
    for point in points:
        spec = point["spec"]
        sizes = [f"{point[key] / 1e6:,.1f} MB" for key in ("weights", "gradients", "optimizer", "total")]
        words = spec if isinstance(spec, str) else json.dumps(spec)
        table.add_row(words, f"{point['parameters']:,}", f"{point['trainable']:,}", *sizes)
    Console(markup=False, highlight=False).print(table)


def _sharing(options: argparse.Namespace) -> None:
    from bert4albert.sharing_costs import POINTS, describe_sharing

    specs = [parse_spec(text) for text in options.specs] or POINTS
    points = [cost.as_json() for cost in describe_sharing(options.config, specs)]
    if options.json:
        print(json.dumps(points, indent=2, ensure_ascii=False))
    else:
        show_points(points)


def parse_spec(text: str) -> Any:
    """Return the point that a word of the command line means."""
    if not text.startswith(("[", "{")):
        return text
    try:
        return json.loads(text)
    except ValueError as error:
        raise ConfigError(f"SPEC {text!r:.80} is not JSON ({error}).") from None
