"""Sentiment classification with ALBERT in plain Keras: a head on the trunk, compile, fit.

    python examples/sentiment.py --model albert albert_unshared

Trains on a `text<TAB>label` file, validates after each epoch, keeps the best weights, and prints accuracy and
seconds of every epoch. Without arguments: the embedded checkpoint, on the reviews that come with the package.
"""

import argparse
import sys
import time
from pathlib import Path

from common import REVIEWS, load_tokenizer, make_parser, read_labelled, require_folder, run  # isort: skip  (sets TensorFlow up)

import keras
import numpy as np

from bert4albert import build_model
from bert4albert.batches import pad
from bert4albert.text import make_dataset
from bert4albert.training import warmup_linear_decay


class Progress(keras.callbacks.Callback):
    """Print accuracy and seconds of every epoch, and keep the weights of the best."""

    def __init__(self) -> None:
        super().__init__()
        self.best, self.weights, self.seconds = -1.0, [], 0.0

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Start the clock."""
        self.started = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Print one line and remember the best weights."""
        seconds, accuracy = time.perf_counter() - self.started, logs["val_accuracy"]
        self.seconds += seconds
        print(
            f"  epoch {epoch + 1:2}  loss {logs['loss']:.4f}  valid accuracy {accuracy:.4f}  {seconds:.1f} s",
            flush=True,
        )
        if accuracy > self.best:
            self.best, self.weights = accuracy, self.model.get_weights()


def train(arguments: argparse.Namespace, model: str) -> dict[str, float]:
    """Fine-tune one model; return its accuracies and seconds."""
    keras.utils.set_random_seed(arguments.seed)
    splits = {split: read_labelled(getattr(arguments, split)) for split in ("train", "valid", "test")}
    trunk, tokenizer = build_model(arguments.config, arguments.checkpoint, model), load_tokenizer(arguments)
    if trunk.load_report is None:
        print("No checkpoint was given: training starts from random weights.", flush=True)

    # From here on it is plain Keras: a head, compile, fit.
    classes = 1 + max(max(labels) for _, labels in splits.values())
    logits = keras.layers.Dense(classes, kernel_initializer=trunk.initializer, name="label")(trunk.output[:, 0])
    classifier = keras.Model(trunk.inputs, logits)

    datasets = {}
    for split, (texts, labels) in splits.items():
        columns = tokenizer.encode_many(texts, maxlen=arguments.maxlen), np.array(labels, "int32")
        datasets[split] = make_dataset(
            *columns, batch_size=arguments.batch_size, maxlen=arguments.maxlen, shuffle=split == "train", bucket=True
        )
    steps = arguments.epochs * len(datasets["train"])
    classifier.compile(
        keras.optimizers.Adam(warmup_linear_decay(arguments.learning_rate, steps)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=arguments.jit,
    )
    print(f"{model}: {classifier.count_params():,} parameters, {len(splits['train'][1])} training texts", flush=True)
    progress = Progress()
    classifier.fit(
        datasets["train"],
        validation_data=datasets["valid"],
        epochs=arguments.epochs,
        shuffle=False,  # the dataset shuffles
        callbacks=[progress],
        verbose=int(sys.stdout.isatty()),
    )
    classifier.set_weights(progress.weights)
    _, accuracy = classifier.evaluate(datasets["test"], verbose=0)
    texts, labels = (column[:3] for column in splits["test"])
    columns = tokenizer.encode_many(texts, maxlen=arguments.maxlen)
    answers = classifier.predict([pad(rows) for rows in columns], verbose=0)
    for text, answer, label in zip(texts, answers.argmax(axis=1), labels, strict=True):
        print(f"  {text[:60]} -> {answer} (true: {label})")
    if arguments.save is not None:
        arguments.save.mkdir(parents=True, exist_ok=True)
        classifier.save(arguments.save / f"{model}.keras")
        print(f"saved {arguments.save / model}.keras, for keras.models.load_model", flush=True)
    return {"valid": progress.best, "test": accuracy, "seconds": progress.seconds / arguments.epochs}


def main() -> None:
    """Train each of the models asked for and print a table."""
    parser = make_parser(__doc__)
    parser.add_argument(
        "--model",
        nargs="+",
        choices=["albert", "albert_unshared", "bert"],
        default=["albert_unshared"],
        help="one or more to train",
    )
    for split in ("train", "valid", "test"):
        parser.add_argument(f"--{split}", type=Path, default=REVIEWS / f"{split}.tsv", help="text<TAB>label lines")
    parser.add_argument("--epochs", type=int, default=5, help="times through the texts")
    parser.add_argument("--batch-size", type=int, default=16, help="texts in a batch")
    parser.add_argument("--learning-rate", type=float, default=2e-4, help="the highest, after the first step")
    parser.add_argument("--maxlen", type=int, default=128, help="the most tokens of a text")
    parser.add_argument("--seed", type=int, default=1, help="of the head's weights and of the order")
    parser.add_argument("--jit", action="store_true", help="compile with XLA: pays from about a thousand sentences on")
    parser.add_argument("--save", type=Path, help="folder to save the trained models in, as MODEL.keras")
    arguments = parser.parse_args()
    if arguments.save is not None:
        require_folder(arguments.save, "--save")
    results = {model: train(arguments, model) for model in arguments.model}
    print(f"\n{'model':16} {'best valid':>10} {'test':>7} {'s/epoch':>8}")
    for model, result in results.items():
        print(f"{model:16} {result['valid']:10.4f} {result['test']:7.4f} {result['seconds']:8.1f}")


if __name__ == "__main__":
    run(main)
