"""What the embedded checkpoint is worth: fine-tuning from it against fine-tuning from random weights.

    python benchmarks/pretrained_value.py --data ../shared/data/sentiment

Trains a sentiment classifier on the first 2,000 training texts (3 epochs, 3 seeds), and with `--full` on all of
them (1 epoch, 1 seed), each as `albert` and as `albert_unshared`, each from the checkpoint and from random
weights; prints accuracy on the validation texts, mean and spread. Before that, the share of hidden tokens of the
validation texts that the checkpoint guesses, against always guessing the commonest token.
"""

import argparse
import gzip
import itertools
import os
import statistics
import time
from pathlib import Path

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import keras
import numpy as np

from bert4albert import Tokenizer, build_model
from bert4albert.pretraining.masking import Masking
from bert4albert.tasks import pooled_output
from bert4albert.text import make_dataset
from bert4albert.training import adamw, warmup_linear_decay

BATCH_SIZE = 32
PRETRAINED = Path(__file__).resolve().parents[1] / "bert4albert" / "pretrained" / "albert_tiny_zh"


def read(folder: Path, split: str) -> tuple[list[str], np.ndarray]:
    with gzip.open(folder / f"sentiment.{split}.data.gz", "rt", encoding="utf-8") as file:
        rows = [line.rstrip("\n").rsplit("\t", 1) for line in file]
    return [text for text, _ in rows], np.array([int(label) for _, label in rows])


def guessed_words(checkpoint: str, tokenizer: Tokenizer, texts: list[str]) -> tuple[float, float]:
    """Return the share of hidden tokens that are guessed, and that of the commonest one among them."""
    trunk = build_model(checkpoint, with_mlm="linear", masked_positions=True)
    random = np.random.default_rng(0)
    right, hidden = 0.0, []
    for start in range(0, len(texts), 64):
        token_ids, segment_ids = tokenizer.encode_batch(texts[start : start + 64], maxlen=128, length=128)
        seen, positions, masked_ids, weights = Masking.of(tokenizer)(token_ids, random)
        logits = keras.ops.convert_to_numpy(trunk.predict_on_batch([seen, segment_ids, positions]))
        right += float(((logits.argmax(-1) == masked_ids) * weights).sum())
        hidden.append(masked_ids[weights > 0])
    hidden = np.concatenate(hidden)
    return right / len(hidden), np.bincount(hidden).max() / len(hidden)


def accuracy(args, splits: dict, model: str, pretrained: bool, epochs: int, seed: int) -> float:
    """Return the accuracy on the validation texts after fine-tuning."""
    keras.utils.set_random_seed(seed)
    source = args.checkpoint if pretrained else Path(args.checkpoint) / "config.json"
    trunk = build_model(source, model=model, dropout_rate=0.1, dtype=args.dtype)
    head = keras.layers.Dense(2, kernel_initializer=trunk.initializer, dtype="float32")
    classifier = keras.Model(trunk.inputs, head(pooled_output(trunk, args.pooling)))
    train, valid = splits["train"], splits["valid"]
    options = {"batch_size": BATCH_SIZE, "maxlen": args.maxlen}
    data = make_dataset(*train, seed=seed, **options)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    schedule = warmup_linear_decay(args.learning_rate, epochs * len(data))
    classifier.compile(adamw(schedule), loss, metrics=["accuracy"], jit_compile=False)
    classifier.fit(data, epochs=epochs, shuffle=False, verbose=0)
    return classifier.evaluate(make_dataset(*valid, shuffle=False, bucket=True, **options), verbose=0)[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--checkpoint", default=str(PRETRAINED))
    parser.add_argument("--only", choices=["words", "pretrained", "random"])
    parser.add_argument("--models", nargs="+", default=["albert", "albert_unshared"])
    parser.add_argument("--full", action="store_true", help="one epoch of all training texts instead")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--maxlen", type=int, default=128)
    parser.add_argument("--pooling", choices=["cls", "mean"], default="mean", help="what the classifier sees")
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--dtype", default="float32")
    args = parser.parse_args()
    tokenizer = Tokenizer(args.checkpoint)
    texts = {split: read(args.data, split) for split in ("train", "valid")}
    if args.only in (None, "words"):
        guessed, commonest = guessed_words(args.checkpoint, tokenizer, texts["valid"][0])
        print(f"hidden tokens guessed {guessed:.1%}, always the commonest {commonest:.1%}: {guessed / commonest:.2f}x")
    count, epochs, seeds = (None, 1, 1) if args.full else (2000, 3, args.seeds)
    splits = {
        split: (tokenizer.encode_many(rows[:limit], maxlen=args.maxlen), labels[:limit])
        for (split, (rows, labels)), limit in zip(texts.items(), (count, None), strict=True)
    }
    print(f"{len(splits['train'][1])} training texts, epochs {epochs}, seeds {seeds}, at most {args.maxlen} tokens")
    kinds = {"random": [False], "pretrained": [True], "words": []}.get(args.only, [False, True])
    for model, pretrained in itertools.product(args.models, kinds):
        started = time.perf_counter()
        found = [accuracy(args, splits, model, pretrained, epochs, seed) for seed in range(seeds)]
        spread = statistics.stdev(found) if len(found) > 1 else 0.0
        print(
            f"{model:16} {'embedded checkpoint' if pretrained else 'random weights':20} "
            f"{statistics.mean(found):.4f} +- {spread:.4f}  ({(time.perf_counter() - started) / seeds:.0f} s a run)",
            flush=True,
        )


if __name__ == "__main__":
    main()
