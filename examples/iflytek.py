"""Long texts in 119 classes (CLUE's IFLYTEK) with ALBERT, with and without weight sharing, on a task of the library.

    python examples/iflytek.py train.json dev.json --model albert albert_unshared

Files hold JSON lines with "sentence" and "label", gzipped or not. Keras prints seconds, loss and accuracy of every
epoch; at the end the classifier has the weights of the best one. Without --config: the embedded checkpoint.
"""

import argparse
import random
import time
from pathlib import Path

from common import add_model_arguments, load_backbone  # isort: skip  (sets TensorFlow up before it is imported)

from bert4albert.tasks import TextClassifier


def train(arguments: argparse.Namespace, model: str) -> dict[str, float]:
    """Fine-tune one model; return its accuracies and seconds."""
    trunk, tokenizer = load_backbone(arguments, model)
    classifier = TextClassifier(trunk, tokenizer, maxlen=arguments.maxlen)
    examples = classifier.read(arguments.train)
    # All labels, also those that a part of the examples lacks.
    classifier.learn(examples)
    if arguments.limit:
        examples = random.Random(arguments.seed).sample(examples, arguments.limit)
    print(f"{model}: {trunk.count_params():,} parameters, {len(examples)} training texts", flush=True)
    started = time.perf_counter()
    history = classifier.fit(
        examples,
        arguments.dev,
        epochs=arguments.epochs,
        batch_size=arguments.batch_size,
        learning_rate=arguments.learning_rate,
        seed=arguments.seed,
        jit_compile=arguments.jit or "auto",
        verbose=2,
    )
    seconds = (time.perf_counter() - started) / arguments.epochs
    if arguments.save:
        classifier.save(arguments.save / model)
    first, *_ = accuracies = history["accuracy"]
    return {"first": first, "best": max(accuracies), "seconds": seconds}


def main() -> None:
    """Train each of the models asked for and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("train", type=Path, help='JSON lines with "sentence" and "label"')
    parser.add_argument("dev", type=Path, help="the same, to validate on")
    add_model_arguments(parser)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--maxlen", type=int, default=128, help="the most tokens of a text")
    parser.add_argument("--limit", type=int, help="train on so many texts only, drawn by the seed")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--save", type=Path, help="a folder for the trained classifiers")
    parser.add_argument("--jit", action="store_true", help="compile with XLA: pays from about a thousand texts on")
    arguments = parser.parse_args()
    results = {model: train(arguments, model) for model in arguments.model}
    print(f"\n{'model':16} {'epoch 1':>8} {'best dev':>9} {'s/epoch':>8}")
    for model, result in results.items():
        print(f"{model:16} {result['first']:8.4f} {result['best']:9.4f} {result['seconds']:8.1f}")


if __name__ == "__main__":
    main()
