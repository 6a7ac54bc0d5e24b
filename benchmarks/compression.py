"""Fine-tune unshared, ship small: what is left of a task when its depths are cut to low ranks.

    python benchmarks/compression.py --data ../shared/data [--texts 2000] [--picture docs/drift]

Fine-tunes the embedded checkpoint unshared on the first texts of `sentiment` and of `ner`, then writes the task with
`Task.compress` at ranks 2, 4, 8 and 16, and prints for each the metric on the validation texts, the share of answers
that stay the same, the encoder's parameters in blocks and the size of the saved task. Two more rows: the depths as they
were trained, and their mean alone. The picture shows how far each part of each depth has moved from the checkpoint.
"""

import argparse
import os
import tempfile
from pathlib import Path

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import keras

from bert4albert import Tokenizer, build_model, drift, reshare
from bert4albert.tasks import Tagger, Task, TextClassifier

MODEL = "albert_tiny_zh"
VOCABULARY = Path(__file__).resolve().parents[1] / "bert4albert" / "pretrained" / MODEL
RANKS = (2, 4, 8, 16)
TASKS = {
    "sentiment": (TextClassifier, {"pooling": "mean"}, "sentiment/sentiment.{}.data.gz", ("train", "valid")),
    "ner": (Tagger, {}, "ner/{}.txt.gz", ("train", "dev")),
}


def trained(arguments: argparse.Namespace, name: str) -> tuple[Task, list]:
    """Return a fine-tuned task and the examples to judge it by."""
    kind, settings, file, splits = TASKS[name]
    train, valid = (arguments.data / file.format(split) for split in splits)
    trunk = build_model(MODEL, model="albert_unshared", dropout_rate=0.1, dtype=arguments.dtype)
    task = kind(trunk, Tokenizer(VOCABULARY), maxlen=arguments.maxlen, **settings)
    examples, judged = task.read(train)[: arguments.texts], task.read(valid)[: arguments.judged]
    task.fit(examples, epochs=arguments.epochs, learning_rate=arguments.learning_rate, seed=1, verbose=2)
    return task, judged


def megabytes(task: Task) -> float:
    """Return the size of a saved task."""
    with tempfile.TemporaryDirectory() as folder:
        task.save(folder)
        return sum(path.stat().st_size for path in Path(folder).iterdir()) / 1e6


def mean_alone(task: Task) -> Task:
    """Return the task on one block, the mean of its depths."""
    trunk, _ = reshare(task.backbone, "shared")
    new = type(task)(trunk, task.tokenizer, **task.settings())
    own, others = ({id(weight) for weight in t.backbone.weights} for t in (task, new))
    head = [weight for weight in task.model.weights if id(weight) not in own]
    for weight, value in zip((w for w in new.model.weights if id(w) not in others), head, strict=True):
        weight.assign(value)
    return new


def measure(task: Task, judged: list) -> None:
    """Print the rows of one task."""
    texts = [task.text_of(example) for example in judged]
    answers, metric, depth = task.predict(texts), task.evaluate(judged)[task.metric], task.backbone.config.sharing.depth
    print(f"| as trained | {metric:.4f} | | {depth:.2f} | {megabytes(task):.1f} MB |", flush=True)
    for rank in RANKS:
        small, report = task.compress(rank, judged)
        quality = f"{report.metrics_after[task.metric]:.4f} | {report.answers_kept:.2%}"
        print(f"| rank {rank} | {quality} | {report.blocks:.2f} | {megabytes(small):.1f} MB |", flush=True)
    mean = mean_alone(task)
    kept = sum(a == b for a, b in zip(answers, mean.predict(texts), strict=True)) / len(answers)
    quality = f"{mean.evaluate(judged)[task.metric]:.4f} | {kept:.2%}"
    print(f"| their mean alone | {quality} | 1.00 | {megabytes(mean):.1f} MB |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--texts", type=int, default=2000, help="to train on")
    parser.add_argument("--judged", type=int, help="to validate on; all by default")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--maxlen", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--picture", type=Path, help="where to draw the drift of the first task, without .png")
    arguments = parser.parse_args()
    start = build_model(MODEL, model="albert_unshared")
    for name in arguments.tasks:
        task, judged = trained(arguments, name)
        print(
            f"{keras.backend.backend()}, {name}: {arguments.texts} texts, {arguments.epochs} epochs, {arguments.dtype}"
        )
        print(f"| {name} | {task.metric} | answers kept | blocks | saved |\n|---|---|---|---|---|")
        measure(task, judged)
        found = drift(task.backbone, start)
        for moved in found:
            print(f"depth {moved.depth} {moved.part:15} moved {moved.distance:.3f}, rank {moved.rank}")
        if arguments.picture is not None and name == arguments.tasks[0]:
            from bert4albert.pictures import draw_drift

            draw_drift(found, arguments.picture)


if __name__ == "__main__":
    main()
