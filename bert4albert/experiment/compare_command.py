"""The command `compare`."""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

from bert4albert.command_line import require_folder, start_keras
from bert4albert.errors import ConfigError
from bert4albert.experiment.points import BASELINE

# The task's class, the arguments of `build_model` that it needs, and which of the options below it takes.
_TASKS: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
    "classification": ("TextClassifier", {}, ("pooling",)),
    "tagging": ("Tagger", {}, ("method",)),
    "relations": ("RelationExtractor", {}, ("method",)),
    "seq2seq": ("Seq2Seq", {"application": "unilm"}, ("target_maxlen",)),
    "reading": ("ReadingComprehension", {"application": "unilm"}, ("target_maxlen",)),
}

# Of `Tagger` and of `RelationExtractor`, which are not imported to say what they take.
_METHODS = ("softmax", "crf", "global_pointer", "efficient_global_pointer", "casrel", "gplinker")

_POINTS_HELP = """shared, unshared, groups:K, cycle:K, cycle_rev:K, sandwich, middle_cycle:K; attention, feed_forward or
norm for a part unshared; lora:RANK, bias, decay:STRENGTH, gradual:PART"""


def add_parser(subparsers: Any) -> None:
    """Register `compare` with the subparsers of a command line."""
    parser = subparsers.add_parser("compare", help="fine-tune shared, unshared and points between on your data")
    parser.add_argument(
        "train", metavar="TRAIN", help="examples: .tsv, .csv, .jsonl, .json or .parquet, gzipped (.gz) or not"
    )
    parser.add_argument("valid", metavar="VALID", help="the same, to choose the best epoch on")
    parser.add_argument("--task", choices=_TASKS, required=True, help="what to train")
    parser.add_argument("--test", metavar="FILE", help="examples to measure the differences on; else VALID")
    parser.add_argument("--config", default="albert_tiny_zh", help="config.json, a folder, or a model's name")
    parser.add_argument("--checkpoint", metavar="FILE", help="the weights, where they are not in that folder")
    parser.add_argument("--vocab", metavar="FILE", help="vocab.txt or spiece.model, where it is not in that folder")
    parser.add_argument("--points", nargs="+", default=[BASELINE, "unshared"], metavar="POINT", help=_POINTS_HELP)
    parser.add_argument("--seeds", type=int, default=3, help="runs of each point")
    parser.add_argument("--out", required=True, metavar="FOLDER", help="for the results; goes on with what is there")
    parser.add_argument("--workers", type=int, help="processes that share the runs; default: this one alone")
    parser.add_argument("--epochs", type=int, default=5, help="times through the examples")
    parser.add_argument("--batch-size", type=int, default=32, help="examples in a batch")
    parser.add_argument(
        "--learning-rate",
        type=float,
        nargs="+",
        help="of several, each point is shown at the best on VALID; default: what suits the model's size",
    )
    parser.add_argument("--maxlen", type=int, default=128, help="most tokens of a text")
    parser.add_argument("--pooling", choices=["cls", "mean"], default="mean", help="of a classifier: what it sees")
    parser.add_argument("--method", choices=_METHODS, help="for tagging (default: crf) and relations (default: casrel)")
    parser.add_argument("--target-maxlen", type=int, default=32, help="most tokens of an answer")
    parser.set_defaults(run=_compare)


def _compare(options: argparse.Namespace) -> None:
    require_folder(options.out, "--out")
    start_keras()
    from bert4albert import tasks
    from bert4albert.experiment import compare
    from bert4albert.text import Tokenizer

    name, build, takes = _TASKS[options.task]
    settings = {key: getattr(options, key) for key in ("maxlen", *takes) if getattr(options, key) is not None}
    rates = options.learning_rate or [None]
    report = compare(
        partial(getattr(tasks, name), tokenizer=Tokenizer(options.vocab or _vocabulary(options.config)), **settings),
        options.train,
        options.valid,
        options.points,
        folder=options.out,
        test=options.test,
        seeds=options.seeds,
        learning_rates=rates if len(rates) > 1 else None,
        config=options.config,
        checkpoint=options.checkpoint,
        workers=options.workers,
        epochs=options.epochs,
        batch_size=options.batch_size,
        **({"learning_rate": rates[0]} if rates[0] is not None and len(rates) == 1 else {}),
        **build,
    )
    print(report)


def _vocabulary(config: str) -> str:
    from bert4albert.finding import model_folder

    folder = model_folder(config)
    if folder is None:
        raise ConfigError(f"{config} is no folder with a vocabulary: give --vocab.")
    return str(folder)
