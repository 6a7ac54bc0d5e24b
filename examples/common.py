"""What the examples share: which model to use, and reading labelled files."""

import argparse
import gzip
import os
from pathlib import Path

# Faster on many processors, and only a default; TensorFlow reads it when it is imported.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import bert4albert
from bert4albert import Tokenizer, Trunk, build_model

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
