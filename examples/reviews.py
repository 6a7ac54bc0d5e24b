"""Should I unshare? The comparison of this library on the reviews that come with it, and naive Bayes beside it.

    python examples/reviews.py

Fine-tunes the embedded model shared and unshared, two seeds each, on 600 short Chinese reviews, and says what 140
others show: a table, three sentences, pictures. A comparison that was stopped goes on when it is called again.
"""

import os
from collections import Counter
from functools import partial
from pathlib import Path

from common import REVIEWS, load_tokenizer, make_parser, require_folder, run, show_answers  # isort: skip  (sets TensorFlow up)

import numpy as np

from bert4albert.experiment import compare
from bert4albert.tasks import TextClassifier


def naive_bayes(train: list, test: list) -> float:
    """Return the accuracy of naive Bayes on characters and pairs of them, with add-one smoothing."""

    def features(text: str) -> list[str]:
        return [*text, *(text[i : i + 2] for i in range(len(text) - 1))]

    counts: dict[str, Counter] = {label: Counter() for _, label in train}
    for text, label in train:
        counts[label].update(features(text))
    words = len(set().union(*counts.values()))

    def score(text: str, label: str) -> float:
        total = counts[label].total() + words
        return sum(np.log((counts[label][feature] + 1) / total) for feature in features(text))

    return float(np.mean([max(counts, key=partial(score, text)) == label for text, label in test]))


def main() -> None:
    """Compare, then print answers, the report and the line of reference."""
    parser = make_parser(__doc__)
    parser.add_argument("--points", nargs="+", default=["shared", "unshared"], help="also groups:2, lora:8, ...")
    parser.add_argument("--seeds", type=int, default=2, help="runs of each point")
    parser.add_argument("--epochs", type=int, default=3, help="times through the examples")
    cores = min(os.cpu_count() or 1, 2)  # More than half of a run is setting TensorFlow up, on one core.
    parser.add_argument("--workers", type=int, default=cores, help="processes that share the runs")
    parser.add_argument("--out", type=Path, default=Path("compared_reviews"), help="folder of the results")
    arguments = parser.parse_args()
    require_folder(arguments.out, "--out")
    make_task = partial(TextClassifier, tokenizer=load_tokenizer(arguments), pooling="mean", maxlen=64)
    train, valid, test = (REVIEWS / f"{split}.tsv" for split in ("train", "valid", "test"))
    report = compare(
        make_task,
        train,
        valid,
        arguments.points,
        folder=arguments.out,
        test=test,
        seeds=arguments.seeds,
        config=arguments.config,
        checkpoint=arguments.checkpoint,
        workers=arguments.workers,
        epochs=arguments.epochs,
        learning_rate=5e-4,
    )
    show_answers(report)
    print(report)
    rows = [[line.rsplit("\t", 1) for line in path.read_text(encoding="utf-8").splitlines()] for path in (train, test)]
    print(f"\nFor reference, naive Bayes on characters and pairs of them: accuracy {100 * naive_bayes(*rows):.2f}.")


if __name__ == "__main__":
    run(main)
