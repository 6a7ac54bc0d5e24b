"""Sentiment classification with ALBERT in plain Keras: a head on the trunk, compile, fit.

    python examples/sentiment.py --model albert albert_unshared

Trains on a `text<TAB>label` file, validates after each epoch, keeps the best weights, and prints accuracy and
seconds of every epoch. Without arguments: the embedded checkpoint, on the reviews that come with the package.
"""

import argparse
import time
from pathlib import Path

from common import REVIEWS, add_model_arguments, load_tokenizer, read_labelled  # isort: skip  (sets TensorFlow up)

import keras
import numpy as np

from bert4albert import build_model
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
    logits = keras.layers.Dense(2, kernel_initializer=trunk.initializer, name="label")(trunk.output[:, 0])
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
        verbose=0,
    )
    classifier.set_weights(progress.weights)
    _, accuracy = classifier.evaluate(datasets["test"], verbose=0)
    return {"valid": progress.best, "test": accuracy, "seconds": progress.seconds / arguments.epochs}


def main() -> None:
    """Train each of the models asked for and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_model_arguments(parser)
    parser.add_argument(
        "--model", nargs="+", choices=["albert", "albert_unshared", "bert"], default=["albert_unshared"]
    )
    for split in ("train", "valid", "test"):
        parser.add_argument(f"--{split}", type=Path, default=REVIEWS / f"{split}.tsv", help="text<TAB>label lines")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=2e-4)
    parser.add_argument("--maxlen", type=int, default=128, help="the most tokens of a text")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jit", action="store_true", help="compile with XLA: pays from about a thousand sentences on")
    arguments = parser.parse_args()
    results = {model: train(arguments, model) for model in arguments.model}
    print(f"\n{'model':16} {'best valid':>10} {'test':>7} {'s/epoch':>8}")
    for model, result in results.items():
        print(f"{model:16} {result['valid']:10.4f} {result['test']:7.4f} {result['seconds']:8.1f}")


if __name__ == "__main__":
    main()
