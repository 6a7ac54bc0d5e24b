"""What the examples share: which model to use, which points to compare on which files, and reading labelled files."""

import argparse
import gzip
import os
import random
from functools import partial
from pathlib import Path

# Faster on many processors, and only a default; TensorFlow reads it when it is imported.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import bert4albert
from bert4albert import Tokenizer, build_model
from bert4albert.experiment import Report, compare
from bert4albert.tasks import Task

EMBEDDED = "albert_tiny_zh"
PACKAGE = Path(bert4albert.__file__).parent
REVIEWS = PACKAGE / "data" / "reviews"


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --config, --checkpoint and --vocab."""
    parser.add_argument(
        "--config", default=EMBEDDED, help="config.json, or a folder that has all; default: the embedded model"
    )
    parser.add_argument("--checkpoint", help="prefix of a TensorFlow checkpoint, or a file of weights")
    parser.add_argument("--vocab", help="vocab.txt or spiece.model; default: in the folder given by --config")


def load_tokenizer(arguments: argparse.Namespace) -> Tokenizer:
    """Return the tokenizer of the model that the arguments name."""
    folder = PACKAGE / "pretrained" / EMBEDDED if arguments.config == EMBEDDED else arguments.config
    return Tokenizer(arguments.vocab or folder)


def add_training_arguments(parser: argparse.ArgumentParser, learning_rate: float = 1e-4, maxlen: int = 128) -> None:
    """Add the data files, those of `add_model_arguments`, and the settings of `compare_points`."""
    parser.add_argument("train", type=Path, help="the examples to train on, gzipped or not")
    parser.add_argument("dev", type=Path, help="the same, to choose the best epoch on, and to compare on")
    add_model_arguments(parser)
    parser.add_argument("--points", nargs="+", default=["shared", "unshared"], help="also groups:2, lora:8, ...")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each point")
    parser.add_argument("--out", type=Path, default=Path("compared"), help="folder of the results; goes on from there")
    parser.add_argument("--workers", type=int, help="processes that share the runs")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, nargs="+", default=[learning_rate], help="of several, the best")
    parser.add_argument("--maxlen", type=int, default=maxlen, help="the most tokens of a text that are read at once")
    parser.add_argument("--limit", type=int, help="train on so many examples only, drawn at random")
    parser.add_argument("--dev-limit", type=int, help="validate on so many examples only, the first")
    parser.add_argument("--jit", action="store_true", help="compile with XLA: pays from about a thousand texts on")


def compare_points(arguments: argparse.Namespace, task_class: type[Task], application: str, **settings: object) -> None:
    """Compare points on the files of the arguments, and print the report and some answers.

    Arguments:
        arguments: what `add_training_arguments` added.
        task_class: the task.
        application: the one that the task needs of `build_model`.
        settings: more arguments of the task.
    """
    tokenizer = load_tokenizer(arguments)
    task = task_class(
        build_model(arguments.config, arguments.checkpoint, application=application), tokenizer, **settings
    )
    examples, dev = task.examples(arguments.train), task.examples(arguments.dev)[: arguments.dev_limit]
    # All labels, also those that a part of the examples lacks.
    task.learn(examples)
    if arguments.limit is not None and arguments.limit < len(examples):
        examples = random.Random(1).sample(examples, arguments.limit)
    rates = arguments.learning_rate
    report = compare(
        partial(task_class, tokenizer=tokenizer, **task.settings()),
        examples,
        dev,
        arguments.points,
        folder=arguments.out,
        seeds=arguments.seeds,
        learning_rates=rates if len(rates) > 1 else None,
        config=arguments.config,
        checkpoint=arguments.checkpoint,
        workers=arguments.workers,
        application=application,
        epochs=arguments.epochs,
        batch_size=arguments.batch_size,
        jit_compile=arguments.jit or "auto",
        **({"learning_rate": rates[0]} if len(rates) == 1 else {}),
    )
    show_answers(report)
    print(report)


def show_answers(report: Report) -> None:
    """Print what the first run of the last point answered to the first examples."""
    result = report.results[-1]
    print(f"Answers of {result.point}:")
    for text, answer in result.runs[0]["answers"]:
        print(f"  {text[:60]} -> {answer}")
    print()


def read_labelled(path: Path) -> tuple[list[str], list[int]]:
    """Read `text<TAB>label` lines, gzipped or not, with whole numbers as labels."""
    texts, labels = [], []
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            text, tab, label = line.rstrip("\n").rpartition("\t")
            if not tab or not label.strip().isdigit():
                raise SystemExit(f"{path}:{number} is not a line of text, a tab and a number: {line.strip()!r:.60}")
            texts.append(text)
            labels.append(int(label))
    return texts, labels
