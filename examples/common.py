"""What the examples share: which model to use, which points to compare on which files, and reading labelled files."""

import argparse
import random
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bert4albert.command_line import CommandParser, require_folder, run_command, start_keras

start_keras()

import bert4albert
from bert4albert import Tokenizer, build_model
from bert4albert.errors import DataError
from bert4albert.experiment import Report, compare
from bert4albert.experiment.points import meaning, split
from bert4albert.tasks import Task
from bert4albert.tasks.data_files import read_lines

EMBEDDED = "albert_tiny_zh"
PACKAGE = Path(bert4albert.__file__).parent
REVIEWS = PACKAGE / "data" / "reviews"


def run(main: Callable[[], None]) -> None:
    """Run an example and end the process; what a user can mend is told in one line."""
    sys.exit(run_command(Path(sys.argv[0]).name, main))


def make_parser(description: str | None) -> CommandParser:
    """Return a parser whose help is the docstring of an example and its options, with --config, --checkpoint, --vocab.

    Arguments:
        description: the docstring.
    """
    parser = CommandParser(description=description)
    parser.add_argument("--config", default=EMBEDDED, help="config.json, a folder that has all, or a model's name")
    parser.add_argument(
        "--checkpoint", help="prefix of a TensorFlow checkpoint, or a file of weights; default: in that folder"
    )
    parser.add_argument("--vocab", help="vocab.txt, spiece.model or tokenizer.json; default: in that folder")
    return parser


def load_tokenizer(arguments: argparse.Namespace) -> Tokenizer:
    """Return the tokenizer of the model that the arguments name."""
    return Tokenizer(arguments.vocab or arguments.config)


def add_training_arguments(parser: argparse.ArgumentParser, learning_rate: float = 1e-4, maxlen: int = 128) -> None:
    """Add the data files and the settings of `compare_points`."""
    parser.add_argument("train", type=Path, help="the examples to train on, gzipped (.gz) or not")
    parser.add_argument("dev", type=Path, help="the same, to choose the best epoch on, and to compare on")
    parser.add_argument("--points", nargs="+", default=["shared", "unshared"], help="also groups:2, lora:8, ...")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each point")
    parser.add_argument("--out", type=Path, default=Path("compared"), help="folder of the results; goes on from there")
    parser.add_argument("--save", type=Path, help="folder to save a task in, trained at the best of the points")
    parser.add_argument("--workers", type=int, help="processes that share the runs; default: this one alone")
    parser.add_argument("--epochs", type=int, default=5, help="times through the examples")
    parser.add_argument("--batch-size", type=int, default=32, help="examples in a batch")
    parser.add_argument("--learning-rate", type=float, nargs="+", default=[learning_rate], help="of several, the best")
    parser.add_argument("--maxlen", type=int, default=maxlen, help="the most tokens of a text that are read at once")
    parser.add_argument("--limit", type=int, help="train on so many examples only, drawn at random; default: all")
    parser.add_argument("--dev-limit", type=int, help="validate on so many examples only, the first; default: all")
    parser.add_argument("--jit", action="store_true", help="compile with XLA: pays from about a thousand texts on")


def compare_points(arguments: argparse.Namespace, task_class: type[Task], application: str, **settings: object) -> None:
    """Compare points on the files of the arguments, and print the report and some answers.

    Arguments:
        arguments: what `add_training_arguments` added.
        task_class: the task.
        application: the one that the task needs of `build_model`.
        settings: more arguments of the task.
    """
    for option in ("out", "save"):
        if getattr(arguments, option) is not None:
            require_folder(getattr(arguments, option), f"--{option}")
    tokenizer = load_tokenizer(arguments)
    build = {"config": arguments.config, "checkpoint": arguments.checkpoint, "application": application}
    task = task_class(build_model(**build), tokenizer, **settings)
    examples, dev = task.examples(arguments.train), task.examples(arguments.dev)[: arguments.dev_limit]
    # All labels, also those that a part of the examples lacks.
    task.learn(examples)
    if arguments.limit is not None and arguments.limit < len(examples):
        examples = random.Random(1).sample(examples, arguments.limit)
    rates = arguments.learning_rate
    fit = {
        "epochs": arguments.epochs,
        "batch_size": arguments.batch_size,
        "jit_compile": arguments.jit or "auto",
        **({"learning_rate": rates[0]} if len(rates) == 1 else {}),
    }
    make_task = partial(task_class, tokenizer=tokenizer, **task.settings())
    report = compare(
        make_task,
        examples,
        dev,
        arguments.points,
        folder=arguments.out,
        seeds=arguments.seeds,
        learning_rates=rates if len(rates) > 1 else None,
        workers=arguments.workers,
        **build,
        **fit,
    )
    show_answers(report)
    print(report)
    if arguments.save is not None:
        best = max(report.results, key=lambda result: result.judged.mean())
        of_build, of_fit = split(meaning(best.point), best.point)
        task = make_task(build_model(**build, **of_build))
        rate = best.runs[0]["learning_rate"]
        print(f"\nTraining {best.point} once more, to save it:", flush=True)
        task.fit(examples, dev, **{**fit, **({} if rate is None else {"learning_rate": rate}), **of_fit})
        task.save(arguments.save)
        print(f"saved     {arguments.save}, for {task_class.__name__}.load")


def show_answers(report: Report) -> None:
    """Print what the first run of the last point answered to the first examples."""
    result = report.results[-1]
    print(f"Answers of {result.point}:")
    for text, answer, *truth in result.runs[0]["answers"]:
        print(f"  {text[:60]} -> {answer}{''.join(f' (true: {true})' for true in truth)}")
    print()


def read_labelled(path: Path) -> tuple[list[str], list[int]]:
    """Read `text<TAB>label` lines, gzipped or not, with whole numbers as labels."""
    texts, labels = [], []
    for number, line in enumerate(read_lines(path), 1):
        text, tab, label = line.rpartition("\t")
        if not tab or not label.strip().isdigit():
            raise DataError(f"{path}, line {number} is not a text, a tab and a whole number: {line!r:.60}.")
        texts.append(text)
        labels.append(int(label))
    return texts, labels
