"""Points between shared and unshared on four tasks, beside the published tables: the source of docs/results.md.

    python benchmarks/four_tasks.py --data ../shared/data --out four_tasks --workers 2

The four tasks of Su Jianlin's comparison (kexue.fm/archives/7187) on parts of public data. Of the training examples
some are held out (`valid`), on which the best epoch and the better of two learning rates are chosen, for each point of
its own; what is compared is measured on the dev examples, which have no say in anything. Stopped, it goes on when it
is called again. `--scale 0.02 --seeds 1` tries everything in a few minutes.
"""

import argparse
import os
import random
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from bert4albert import Tokenizer, build_model
from bert4albert.experiment import Report, compare
from bert4albert.experiment.report import table_of
from bert4albert.finding import model_folder
from bert4albert.tasks import ReadingComprehension, RelationExtractor, Task, TextClassifier

POINTS = ["shared", "unshared", "groups:2", "lora:8", "decay:0.1"]


@dataclass(frozen=True)
class Setting:
    """One of the four tasks: its class and settings, its files and how many examples of them, how it is trained."""

    title: str
    task: type[Task]
    settings: dict
    files: tuple[str, str]
    examples: tuple[int, int, int]  # train, valid (both from the first file), test (the second file)
    epochs: int
    learning_rates: tuple[float, float]
    published: tuple[str, str]  # albert_tiny shared and unshared
    application: str = field(default="encoder")


TASKS = {
    "sentiment": Setting(
        "Sentiment of reviews, 2 classes, accuracy",
        TextClassifier,
        {"pooling": "mean", "maxlen": 96},
        ("sentiment/sentiment.train.data.gz", "sentiment/sentiment.valid.data.gz"),
        (2000, 300, 1000),
        3,
        (3e-4, 1e-3),
        ("94.14, after epoch 1 90.18", "94.02, after epoch 1 88.09"),
    ),
    "iflytek": Setting(
        "Long texts in 119 classes (IFLYTEK), accuracy",
        TextClassifier,
        {"pooling": "mean", "maxlen": 96},
        ("iflytek/train.json.gz", "iflytek/dev.json.gz"),
        (1200, 300, 600),
        4,
        (3e-4, 1e-3),
        ("56.42, after epoch 1 43.84", "55.91, after epoch 1 47.89"),
    ),
    "duie": Setting(
        "Relations with CasRel (DuIE), F1",
        RelationExtractor,
        {"method": "casrel", "maxlen": 96},
        ("duie/train.json.gz", "duie/dev.json.gz"),
        (2000, 300, 600),
        5,
        (3e-4, 1e-3),
        ("75.94, after epoch 1 31.66", "76.44, after epoch 1 49.74"),
    ),
    "webqa": Setting(
        "Reading comprehension by writing (WebQA), (accuracy + F1) / 2",
        ReadingComprehension,
        {"maxlen": 128, "question_maxlen": 32, "target_maxlen": 12},
        ("webqa/train.json.gz", "webqa/dev.json.gz"),
        (600, 60, 120),
        4,
        (5e-4, 1e-3),
        ("63.41, after epoch 1 37.47", "66.15, after epoch 1 48.64"),
        "unilm",
    ),
}


def run(name: str, arguments: argparse.Namespace) -> Report:
    """Compare the points on one task."""
    setting = TASKS[name]
    model = {"config": arguments.config, "application": setting.application}
    tokenizer = Tokenizer(arguments.vocab or model_folder(arguments.config))
    task = setting.task(build_model(**model), tokenizer, **setting.settings)
    first, second = (task.examples(arguments.data / file) for file in setting.files)
    # All labels, also those that a part of the examples lacks.
    task.learn([*first, *second])
    train, valid, test = (max(8, round(count * arguments.scale)) for count in setting.examples)
    drawn = random.Random(0).sample(first, train + valid)
    return compare(
        partial(setting.task, tokenizer=tokenizer, **task.settings()),
        drawn[:train],
        drawn[train:],
        arguments.points,
        test=random.Random(0).sample(second, test),
        folder=arguments.out / name,
        seeds=arguments.seeds,
        learning_rates=setting.learning_rates,
        workers=arguments.workers,
        epochs=setting.epochs,
        **model,
    )


def as_markdown(name: str, report: Report, arguments: argparse.Namespace) -> str:
    """Return the section of docs/results.md about one task."""
    setting = TASKS[name]
    counts = [max(8, round(count * arguments.scale)) for count in setting.examples]
    used = "{} training examples and {} to choose on, of {}; {} of {} to measure on".format(
        *counts[:2], setting.files[0], counts[2], setting.files[1]
    )
    rates = " or ".join(f"{rate:g}" for rate in setting.learning_rates)
    lines = [
        f"## {setting.title}",
        f"{used}; {setting.epochs} epochs, learning rate {rates}.",
        table_of(report.results),
    ]
    shared, unshared = setting.published
    lines.append(f"Published (albert_tiny, all data, best dev): shared {shared}; unshared {unshared}.")
    return "\n\n".join([*lines, " ".join(report.sentences)])


def main() -> None:
    """Run the tasks asked for and write their section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder with sentiment, iflytek, duie and webqa")
    parser.add_argument("--out", type=Path, required=True, help="where the runs go, and results.md")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--points", nargs="+", default=POINTS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="use this part of the examples")
    parser.add_argument("--config", default="albert_tiny_zh")
    parser.add_argument("--vocab")
    parser.add_argument("--workers", type=int)
    arguments = parser.parse_args()
    sections = []
    for name in arguments.tasks:
        report = run(name, arguments)
        print(f"{TASKS[name].title}\n{report}\n", flush=True)
        sections.append(as_markdown(name, report, arguments))
        (arguments.out / "results.md").write_text("\n\n".join(sections) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
