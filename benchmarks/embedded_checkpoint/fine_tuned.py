"""The embedded checkpoint fine-tuned, beside TF-IDF of characters with logistic regression and naive Bayes.

    python benchmarks/embedded_checkpoint/fine_tuned.py --data ../shared/data --tasks reviews apps package
    python benchmarks/embedded_checkpoint/fine_tuned.py --data ../shared/data --cross-validation 3e-4 5e-4 1e-3

The first prints, for each task, the accuracy of the last epoch on texts that had no say in anything, mean and spread
over seeds, shared and unshared: 2,000 reviews (3 epochs; 2,111 to measure on), 1,500 descriptions of apps in 119
classes (IFLYTEK, drawn from all over its file, 10 epochs; 1,373 to measure on), the 600 reviews of the package (5
epochs; its 240 others). The second chooses the learning rate of the card: folds of the 2,000 training reviews, nothing
else. Needs scikit-learn for TF-IDF.
"""

import argparse
import gzip
import json
import os
import random
import statistics
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from bert4albert import Tokenizer, build_model
from bert4albert.tasks import TextClassifier

PACKAGE = Path(__file__).resolve().parents[2] / "bert4albert" / "data" / "reviews"
EPOCHS = {"reviews": 3, "apps": 10, "package": 5}

Examples = list[tuple[str, str]]


def tab_separated(path: Path, count: int | None = None) -> Examples:
    content = path.read_bytes()
    lines = (gzip.decompress(content) if path.suffix == ".gz" else content).decode().splitlines()
    return [(text, label) for text, label in (line.rsplit("\t", 1) for line in lines[:count])]


def apps(path: Path) -> Examples:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [(row["sentence"], str(row["label"])) for row in map(json.loads, file)]


def examples(data: Path, task: str) -> tuple[Examples, Examples]:
    """Return what is learnt from and what is measured on."""
    if task == "reviews":
        folder = data / "sentiment"
        return tab_separated(folder / "sentiment.train.data.gz", 2000), tab_separated(
            folder / "sentiment.valid.data.gz"
        )
    if task == "apps":
        train = apps(data / "iflytek" / "train.json.gz")
        # The file is sorted: its first texts have few labels, and those far more often than the texts to measure on.
        return random.Random(0).sample(train, 1500), apps(data / "iflytek" / "dev.json.gz")
    rest = [*tab_separated(PACKAGE / "valid.tsv"), *tab_separated(PACKAGE / "test.tsv")]
    return tab_separated(PACKAGE / "train.tsv"), rest


def accuracy(
    args: argparse.Namespace, model: str, train: Examples, test: Examples, epochs: int, seed: int, **fit
) -> float:
    labels = sorted({label for _, label in [*train, *test]})
    trunk = build_model(args.checkpoint, model=model, dtype=args.dtype)
    task = TextClassifier(trunk, Tokenizer(args.checkpoint), labels=labels, maxlen=128)
    task.fit(train, epochs=epochs, seed=seed, verbose=0, **fit)
    found = task.evaluate(test)["accuracy"]
    print(f"  {model}, seed {seed}: {found:.4f}", flush=True)
    return found


def reference(train: Examples, test: Examples) -> str:
    from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.naive_bayes import MultinomialNB

    texts, labels = zip(*train, strict=True)
    found = []
    for name, vectorizer, classifier in (
        ("TF-IDF", TfidfVectorizer(analyzer="char", ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(C=10)),
        ("naive Bayes", CountVectorizer(analyzer="char", ngram_range=(1, 2)), MultinomialNB()),
    ):
        classifier.fit(vectorizer.fit_transform(texts), labels)
        right = classifier.score(vectorizer.transform([text for text, _ in test]), [label for _, label in test])
        found.append(f"{name} {right:.4f}")
    return ", ".join(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--checkpoint", default="albert_tiny_zh")
    parser.add_argument("--tasks", nargs="+", choices=EPOCHS, default=list(EPOCHS))
    parser.add_argument("--models", nargs="+", default=["albert", "albert_unshared"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--dtype", help="such as mixed_bfloat16; float32 by default")
    parser.add_argument("--no-reference", action="store_true", help="leave out what needs scikit-learn")
    parser.add_argument(
        "--cross-validation", nargs="+", type=float, metavar="RATE", help="learning rates to choose from"
    )
    parser.add_argument("--folds", type=int, default=3)
    args = parser.parse_args()
    if args.cross_validation:
        train, _ = examples(args.data, "reviews")
        for rate in args.cross_validation:
            parts = [train[fold :: args.folds] for fold in range(args.folds)]
            found = [
                accuracy(
                    args,
                    "albert",
                    [row for other, part in enumerate(parts) if other != fold for row in part],
                    parts[fold],
                    EPOCHS["reviews"],
                    fold,
                    learning_rate=rate,
                )
                for fold in range(args.folds)
            ]
            print(f"learning rate {rate:g}: {statistics.mean(found):.4f} of {args.folds} folds", flush=True)
        return
    for task in args.tasks:
        train, test = examples(args.data, task)
        for model in args.models:
            found = [accuracy(args, model, train, test, EPOCHS[task], seed) for seed in range(args.seeds)]
            spread = statistics.stdev(found) if len(found) > 1 else 0.0
            print(f"{task}, {model}: {statistics.mean(found):.4f} ± {spread:.4f}", flush=True)
        if not args.no_reference:
            print(f"{task}: {reference(train, test)}", flush=True)


if __name__ == "__main__":
    main()
