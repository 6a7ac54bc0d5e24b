"""One epoch of sentiment from random weights, shared and unshared, and what length buckets save.

    python benchmarks/sentiment.py --data ../shared/data/sentiment --vocab ../shared/golden/tokenization/vocab_zh.txt

Trains ALBERT tiny (4 layers, hidden 312) on the `text<TAB>label` files of the folder, one epoch for each sharing,
and prints accuracy and time. Then times the same 3,200 sentences in batches of similar length against batches
padded to 128, in alternating groups of steps, and prints the ratio.
"""

import argparse
import gzip
import statistics
import time
from pathlib import Path

import keras
import numpy as np

from bert4albert import Tokenizer, build_model
from bert4albert.text import Batches, make_dataset
from bert4albert.training import piecewise_linear

MAXLEN, BATCH_SIZE, GROUPS, STEPS = 128, 32, 10, 10


def read(folder: Path, split: str) -> tuple[list[str], np.ndarray]:
    path = folder / f"sentiment.{split}.data.gz"
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [line.rstrip("\n").rsplit("\t", 1) for line in file]
    return [text for text, _ in rows], np.array([int(label) for _, label in rows])


def classifier(vocab_size: int, model: str, dtype: str) -> keras.Model:
    config = {
        "vocab_size": vocab_size,
        "embedding_size": 128,
        "hidden_size": 312,
        "num_hidden_layers": 4,
        "num_attention_heads": 12,
        "intermediate_size": 1248,
    }
    trunk = build_model(config, model=model, dtype=dtype)
    logits = keras.layers.Dense(2, kernel_initializer=trunk.initializer, dtype="float32")(trunk.output[:, 0])
    classifier = keras.Model(trunk.inputs, logits)
    rate = piecewise_linear({1000: 1, 2000: 0.1}, 1e-4)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    classifier.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"], jit_compile=False)
    return classifier


def one_epoch(tokenizer: Tokenizer, train: tuple, valid: tuple, model: str, dtype: str) -> None:
    keras.utils.set_random_seed(1)
    trained = classifier(tokenizer.vocab_size, model, dtype)
    started = time.perf_counter()
    trained.fit(make_dataset(*train, batch_size=BATCH_SIZE, maxlen=MAXLEN), shuffle=False, verbose=0)
    seconds = time.perf_counter() - started
    _, accuracy = trained.evaluate(make_dataset(*valid, shuffle=False, bucket=True, maxlen=MAXLEN), verbose=0)
    print(f"{model:16} valid accuracy after 1 epoch {accuracy:.4f}, {seconds:.0f} s", flush=True)


def bucket_saving(tokenizer: Tokenizer, train: tuple, dtype: str) -> None:
    count = GROUPS * STEPS * BATCH_SIZE
    chosen = np.random.default_rng(0).permutation(len(train[1]))[:count]
    inputs = tuple([column[i] for i in chosen] for column in train[0])
    targets = train[1][chosen]
    kinds = {
        "buckets": list(Batches(inputs, targets, batch_size=BATCH_SIZE, maxlen=MAXLEN)),
        "padded to 128": list(Batches(inputs, targets, batch_size=BATCH_SIZE, multiple=MAXLEN)),
    }
    trained = classifier(tokenizer.vocab_size, "albert", dtype)
    for batches in kinds.values():
        trained.train_on_batch(*batches[0])
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    for group in range(GROUPS):
        for kind, batches in kinds.items():
            started = time.perf_counter()
            for batch in batches[group * STEPS : (group + 1) * STEPS]:
                trained.train_on_batch(*batch)
            seconds[kind].append((time.perf_counter() - started) / STEPS)
    for kind, times in seconds.items():
        print(f"{kind:16} {1000 * statistics.mean(times):.0f} ms a step over {GROUPS * STEPS} steps")
    totals = {kind: sum(times) for kind, times in seconds.items()}
    ratios = sorted(b / a for a, b in zip(*seconds.values(), strict=True))
    print(
        f"buckets are {totals['padded to 128'] / totals['buckets']:.2f} times as fast; groups of {STEPS} steps: "
        f"median {statistics.median(ratios):.2f}, from {ratios[0]:.2f} to {ratios[-1]:.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/sentiment"))
    parser.add_argument("--vocab", default="../shared/golden/tokenization/vocab_zh.txt")
    parser.add_argument("--dtype", default="float32", help="such as mixed_bfloat16")
    parser.add_argument("--only", choices=["epochs", "buckets"], help="run one half")
    arguments = parser.parse_args()
    tokenizer = Tokenizer(arguments.vocab)
    splits = []
    for split in ("train", "valid"):
        texts, labels = read(arguments.data, split)
        splits.append((tokenizer.encode_many(texts, maxlen=MAXLEN), labels))
    print(f"{keras.backend.backend()}, {len(splits[0][1])} training sentences, random weights, {arguments.dtype}")
    if arguments.only != "buckets":
        for model in ("albert", "albert_unshared"):
            one_epoch(tokenizer, *splits, model, arguments.dtype)
    if arguments.only != "epochs":
        bucket_saving(tokenizer, splits[0], arguments.dtype)


if __name__ == "__main__":
    main()
