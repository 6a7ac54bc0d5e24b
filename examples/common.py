"""What the examples share: which model to use, how to train it, and reading labelled files."""

import argparse
import gzip
import os
import random
import time
from collections.abc import Callable
from pathlib import Path

# Faster on many processors, and only a default; TensorFlow reads it when it is imported.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import bert4albert
from bert4albert import Tokenizer, Trunk, build_model
from bert4albert.tasks import Task

EMBEDDED = "albert_tiny_zh"
PACKAGE = Path(bert4albert.__file__).parent
REVIEWS = PACKAGE / "data" / "reviews"


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --model, --config, --checkpoint and --vocab."""
    parser.add_argument(
        "--model",
        nargs="+",
        choices=["albert", "albert_unshared", "bert"],
        default=["albert_unshared"],
        help="one or more to train",
    )
    parser.add_argument("--config", help="config.json, or a folder that has all; default: the embedded checkpoint")
    parser.add_argument("--checkpoint", help="prefix of a TensorFlow checkpoint, or a file of weights")
    parser.add_argument("--vocab", help="vocab.txt or spiece.model; default: in the folder given by --config")


def load_backbone(arguments: argparse.Namespace, model: str, **options: object) -> tuple[Trunk, Tokenizer]:
    """Build the model and the tokenizer that the arguments name.

    Arguments:
        arguments: what `add_model_arguments` added.
        model: 'albert', 'albert_unshared' or 'bert'.
        options: further arguments of `build_model`.
    """
    config = arguments.config or EMBEDDED
    trunk = build_model(config, arguments.checkpoint, model, **options)
    if trunk.load_report is None:
        print("No checkpoint was given: training starts from random weights.", flush=True)
    folder = PACKAGE / "pretrained" / EMBEDDED if arguments.config is None else arguments.config
    return trunk, Tokenizer(arguments.vocab or folder)


def add_training_arguments(parser: argparse.ArgumentParser, learning_rate: float = 1e-4, maxlen: int = 128) -> None:
    """Add the data files, those of `add_model_arguments`, and the settings of `fit_task`."""
    parser.add_argument("train", type=Path, help="the examples to train on, gzipped or not")
    parser.add_argument("dev", type=Path, help="the same, to validate on")
    add_model_arguments(parser)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=learning_rate)
    parser.add_argument("--maxlen", type=int, default=maxlen, help="the most tokens of a text that are read at once")
    parser.add_argument("--limit", type=int, help="train on so many examples only, drawn by the seed")
    parser.add_argument("--dev-limit", type=int, help="validate on so many examples only, the first")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--save", type=Path, help="a folder for the trained tasks")
    parser.add_argument("--jit", action="store_true", help="compile with XLA: pays from about a thousand texts on")


def fit_task(arguments: argparse.Namespace, model: str, task: Task) -> tuple[dict[str, list[float]], list]:
    """Train a task on the files of the arguments, and save it if they say so.

    Arguments:
        arguments: what `add_training_arguments` added.
        model: what to call the model; the folder in `--save` it is saved to.
        task: the task, untrained.

    Returns:
        The metrics of each epoch and its seconds, by name, and the examples that it was validated on.
    """
    examples, dev = task.read(arguments.train), task.read(arguments.dev)[: arguments.dev_limit]
    # All labels, also those that a part of the examples lacks.
    task.learn(examples)
    if arguments.limit is not None and arguments.limit < len(examples):
        examples = random.Random(arguments.seed).sample(examples, arguments.limit)
    print(f"{model}: {task.backbone.count_params():,} parameters, {len(examples)} training examples", flush=True)
    started = time.perf_counter()
    history = task.fit(
        examples,
        dev,
        epochs=arguments.epochs,
        batch_size=arguments.batch_size,
        learning_rate=arguments.learning_rate,
        seed=arguments.seed,
        jit_compile=arguments.jit or "auto",
        verbose=2,
    )
    seconds = (time.perf_counter() - started) / arguments.epochs
    if arguments.save:
        task.save(arguments.save / model)
    return {**history, "seconds": [seconds]}, dev


def compare(arguments: argparse.Namespace, metric: str, train: Callable[..., dict[str, list[float]]]) -> None:
    """Train each of the models asked for and print a table of the metric after epoch 1 and at its best."""
    results = {model: train(arguments, model) for model in arguments.model}
    print(f"\n{'model':16} {'epoch 1':>8} {'best':>8} {'s/epoch':>8}   ({metric} on the dev examples)")
    for model, history in results.items():
        print(f"{model:16} {history[metric][0]:8.4f} {max(history[metric]):8.4f} {history['seconds'][0]:8.1f}")


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
