"""How much time early exits save on sentiment, and what they cost in accuracy, shared and unshared.

    python benchmarks/early_exit.py --data ../shared/data/sentiment

Fine-tunes the checkpoint of the package with a classifier on every depth, for each sharing and seed. The confidence is
chosen on one half of the validation texts, as the one of least mean depth among those that lose at most 0.3 points of
accuracy there; accuracy and time are those of the other half. Times are the best of several turns, whole depth and
early exit in turn, after one turn that compiles.
"""

import argparse
import gzip
import statistics
import time
from pathlib import Path

from bert4albert import Tokenizer, build_model
from bert4albert.tasks import TextClassifier

CONFIDENCES = (0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.97, 0.99)
ALLOWED_LOSS = 0.003


def read(folder: Path, split: str, count: int) -> list[tuple[str, str]]:
    with gzip.open(folder / f"sentiment.{split}.data.gz", "rt", encoding="utf-8") as file:
        rows = [tuple(line.rstrip("\n").rsplit("\t", 1)) for line in file]
    step = max(len(rows) // count, 1)  # Spread over the file, which may be sorted.
    return rows[::step][:count]


def seconds_of(task: TextClassifier, texts: list[str], turns: int, confidence: float) -> tuple[float, float]:
    """Return the least seconds of the whole depth and of early exit."""
    best = [float("inf"), float("inf")]
    for turn in range(turns + 1):
        for which, options in enumerate(({}, {"confidence": confidence})):
            started = time.perf_counter()
            task.predict(texts, **options)
            if turn:
                best[which] = min(best[which], time.perf_counter() - started)
    return best[0], best[1]


def measure(arguments: argparse.Namespace, sharing: str, seed: int) -> dict[str, float]:
    trunk, tokenizer = build_model(arguments.model, sharing=sharing), Tokenizer(arguments.model)
    task = TextClassifier(trunk, tokenizer, exits=True, maxlen=128)
    train, held_out = (
        read(arguments.data, "train", arguments.train),
        read(arguments.data, "valid", arguments.held_out),
    )
    choose, test = held_out[::2], held_out[1::2]
    task.fit(train, choose, epochs=arguments.epochs, seed=seed, verbose=0)
    whole = task.evaluate(choose)["accuracy"]
    results = task.evaluate(choose, confidence=CONFIDENCES)
    kept = [result for result in results if result["accuracy"] >= whole - ALLOWED_LOSS] or results[-1:]
    confidence = min(kept, key=lambda result: result["mean_depth"])["confidence"]
    early = task.evaluate(test, confidence=confidence)
    slow, fast = seconds_of(task, [text for text, _ in test], arguments.turns, confidence)
    return {
        "confidence": confidence,
        "whole": 100 * task.evaluate(test)["accuracy"],
        "early": 100 * early["accuracy"],
        "depth": early["mean_depth"],
        "faster": slow / fast,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="a folder with sentiment.{train,valid}.data.gz")
    parser.add_argument("--model", default="albert_tiny_zh", help="a folder, or a model of the package")
    parser.add_argument("--train", type=int, default=2000, help="texts to train on")
    parser.add_argument("--held-out", type=int, default=2000, help="texts to choose the confidence on and to test")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--turns", type=int, default=3)
    arguments = parser.parse_args()
    print("| sharing | seed | confidence | accuracy, whole depth | early exit | mean depth | times faster |")
    print("|---|---|---|---|---|---|---|")
    for sharing in ("shared", "unshared"):
        rows = []
        for seed in range(arguments.seeds):
            row = measure(arguments, sharing, seed)
            rows.append(row)
            print(
                f"| {sharing} | {seed} | {row['confidence']:g} | {row['whole']:.2f} | {row['early']:.2f} | "
                f"{row['depth']:.2f} | {row['faster']:.2f} |",
                flush=True,
            )
        mean = {name: statistics.mean(row[name] for row in rows) for name in rows[0]}
        print(
            f"| {sharing} | mean | | {mean['whole']:.2f} | {mean['early']:.2f} | {mean['depth']:.2f} | "
            f"{mean['faster']:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
