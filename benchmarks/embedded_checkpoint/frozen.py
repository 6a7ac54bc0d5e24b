"""The embedded checkpoint as it is, without fine-tuning: a linear classifier on its states, and hidden words guessed.

    python benchmarks/embedded_checkpoint/frozen.py --data ../shared/data [--checkpoint FOLDER] [--reference]

The mean of the last states over all tokens, [CLS] and [SEP] among them, of reviews of up to 128 tokens; features
standardised on the training texts; ridge regression (penalty 100, labels -1 and 1) on the first 2,000 training
reviews. Prints the accuracy on the validation reviews, or with `--cross-validation` that of five folds of the
training reviews, by which to choose. Then the share of hidden tokens guessed in held-out text of the corpus.
`--reference` measures TF-IDF of characters (1 to 3) with logistic regression instead (needs scikit-learn).
"""

import argparse
import gzip
import itertools
from pathlib import Path

import keras
import numpy as np

from bert4albert import Tokenizer, build_model
from bert4albert.batches import predict_in_buckets
from bert4albert.pretraining.corpus import Corpus
from bert4albert.pretraining.masking import Masking
from bert4albert.tasks import pooled_output


def reviews(folder: Path, split: str, count: int | None) -> tuple[list[str], np.ndarray]:
    with gzip.open(folder / "sentiment" / f"sentiment.{split}.data.gz", "rt", encoding="utf-8") as file:
        rows = [line.rstrip("\n").rsplit("\t", 1) for line in itertools.islice(file, count)]
    return [text for text, _ in rows], np.array([2 * int(label) - 1 for _, label in rows])


def states(checkpoint: str, tokenizer: Tokenizer, texts: list[str]) -> np.ndarray:
    trunk = build_model(checkpoint)
    mean = keras.Model(trunk.inputs, pooled_output(trunk, "mean"))
    return predict_in_buckets(mean, tokenizer.encode_many(texts, maxlen=128), batch_size=64)


def ridge_accuracy(train: np.ndarray, labels: np.ndarray, valid: np.ndarray, answers: np.ndarray) -> float:
    middle, spread = train.mean(axis=0), train.std(axis=0) + 1e-6
    train, valid = (train - middle) / spread, (valid - middle) / spread
    products = train.T @ train + 100 * np.eye(train.shape[1])
    weights = np.linalg.solve(products, train.T @ (labels - labels.mean()))
    return float(((valid @ weights + labels.mean() > 0) == (answers > 0)).mean())


def cross_validated(vectors: np.ndarray, labels: np.ndarray) -> float:
    fold = np.arange(len(labels)) % 5
    found = [
        ridge_accuracy(vectors[fold != k], labels[fold != k], vectors[fold == k], labels[fold == k]) for k in range(5)
    ]
    return float(np.mean(found))


def reference(train: list[str], labels: np.ndarray, valid: list[str], answers: np.ndarray) -> float:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    vectorizer = TfidfVectorizer(analyzer="char", ngram_range=(1, 3), sublinear_tf=True)
    classifier = LogisticRegression(C=10, max_iter=1000).fit(vectorizer.fit_transform(train), labels)
    return float(classifier.score(vectorizer.transform(valid), answers))


def guessed_words(checkpoint: str, tokenizer: Tokenizer, corpus: Path, rows: int = 400) -> float:
    """Return the share of hidden tokens that are guessed in held-out text, in rows of up to 128 tokens."""
    trunk = build_model(checkpoint, with_mlm="linear", masked_positions=True)
    random, masking = np.random.default_rng(0), Masking.of(tokenizer)
    texts = ["".join(document)[:200] for document in itertools.islice(Corpus(corpus), rows)]
    right = hidden = 0.0
    for start in range(0, len(texts), 32):
        token_ids, segment_ids = tokenizer.encode_batch(texts[start : start + 32], maxlen=128, length=128)
        seen, positions, masked_ids, weights = masking(token_ids, random)
        logits = keras.ops.convert_to_numpy(trunk.predict_on_batch([seen, segment_ids, positions]))
        right += float(((logits.argmax(-1) == masked_ids) * weights).sum())
        hidden += float(weights.sum())
    return right / hidden


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--checkpoint", default="albert_tiny_zh")
    parser.add_argument("--train", type=int, default=2000, help="training reviews")
    parser.add_argument("--cross-validation", action="store_true")
    parser.add_argument("--reference", action="store_true")
    args = parser.parse_args()
    train, labels = reviews(args.data, "train", args.train)
    valid, answers = reviews(args.data, "valid", None)
    if args.reference:
        print(f"TF-IDF of characters, logistic regression: {reference(train, labels, valid, answers):.4f}")
        return
    tokenizer = Tokenizer(args.checkpoint)
    if args.cross_validation:
        print(f"cross-validated: {cross_validated(states(args.checkpoint, tokenizer, train), labels):.4f}", flush=True)
    else:
        vectors = states(args.checkpoint, tokenizer, train + valid)
        accuracy = ridge_accuracy(vectors[: len(train)], labels, vectors[len(train) :], answers)
        print(f"frozen: {accuracy:.4f} of {len(valid):,} reviews", flush=True)
    corpus = args.data / "corpus_zh" / "valid.txt.xz"
    print(f"hidden tokens guessed in held-out text: {guessed_words(args.checkpoint, tokenizer, corpus):.1%}")


if __name__ == "__main__":
    main()
