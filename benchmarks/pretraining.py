"""How fast pretraining is, against the speed of matrix products measured in the same run, and against its input.

    python benchmarks/pretraining.py --corpus ../shared/data/corpus_zh/valid.txt.xz

Trains the embedded model (4 layers, hidden 312) for some steps, one group of steps after a group of matrix
products of the model's own shape and of 2048 x 2048, in the precision of the training; prints the medians of
tokens/s, of the model's floating-point operations a second, and of both as a share of the products. With
`--cpu-time` the shares are of processor time, which other work on the machine does not distort.
"""

import argparse
import itertools
import os
import statistics
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import keras
import numpy as np

from bert4albert import ModelConfig, Tokenizer
from bert4albert.pretraining.examples import Examples
from bert4albert.pretraining.recipe import Recipe
from bert4albert.pretraining.shards import tokenize_corpus
from bert4albert.pretraining.training import build_training

PRETRAINED = Path(__file__).resolve().parents[1] / "bert4albert" / "pretrained" / "albert_tiny_zh"


def flops_per_batch(config: ModelConfig, batch_size: int, length: int, masked: int) -> float:
    """Floating-point operations of the matrix products of one training step: forward once, backward twice."""
    hidden, embedding = config.hidden_size, config.embedding_size
    block = 4 * hidden * hidden + 2 * hidden * config.intermediate_size + 2 * length * hidden
    tokens = batch_size * length * (embedding * hidden + len(config.sharing) * block)
    heads = batch_size * masked * embedding * (hidden + config.vocab_size) + batch_size * hidden * hidden
    return 3.0 * 2.0 * (tokens + heads)


def matrix_product(rows: int, inner: int, columns: int, dtype: str):
    """A function that runs one product, and the operations it takes."""
    left, right = (keras.ops.ones(shape, dtype) for shape in ((rows, inner), (inner, columns)))
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        product = tf.function(tf.matmul)
    elif keras.backend.backend() == "jax":
        import jax

        product = jax.jit(jax.numpy.matmul)
    else:
        product = keras.ops.matmul

    def run() -> None:
        result = product(left, right)
        getattr(result, "block_until_ready", lambda: None)()

    return run, 2.0 * rows * inner * columns


def rate(run, operations: float, seconds: float, clock) -> float:
    """Operations a second."""
    run()
    started, begun, count = clock(), time.perf_counter(), 0
    while time.perf_counter() - begun < seconds:
        run()
        count += 1
    return operations * count / (clock() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", nargs="+", required=True)
    parser.add_argument("--dtype", default="float32", choices=["float32", "mixed_bfloat16"])
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--groups", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.0, help="length of a group")
    parser.add_argument("--cpu-time", action="store_true", help="count processor time, divided by the cores")
    args = parser.parse_args()
    cores = os.cpu_count() or 1
    clock = (lambda: time.process_time() / cores) if args.cpu_time else time.perf_counter

    tokenizer = Tokenizer(PRETRAINED)
    recipe = Recipe(length=args.length, batch_size=args.batch_size, dtype=args.dtype)
    training = build_training(PRETRAINED / "config.json", recipe)
    config = training.trunk.config
    with tempfile.TemporaryDirectory() as folder:
        shards = tokenize_corpus(args.corpus, tokenizer, folder, workers=1)
        examples = Examples(shards, tokenizer, args.length, args.batch_size)
        batches = [batch for batch, _ in itertools.islice(examples.batches(), 20)]
        stream = examples.batches()
        next(stream)
        input_seconds = statistics.median(timed(lambda: next(stream)) for _ in range(50))

    def step(turn=itertools.cycle(batches)) -> None:  # noqa: B008
        batch = next(turn)
        training.train_on_batch([*batch[:3]], [*batch[3:]])

    masked = batches[0].masked_ids.shape[1]
    operations = flops_per_batch(config, args.batch_size, args.length, masked)
    dtype = "bfloat16" if args.dtype == "mixed_bfloat16" else "float32"
    rows = args.batch_size * args.length
    own = matrix_product(rows, config.hidden_size, config.intermediate_size, dtype)
    large = matrix_product(2048, 2048, 2048, dtype)
    step()
    measured = [
        [rate(*case, args.seconds, clock) for case in ((step, operations), own, large)] for _ in range(args.groups)
    ]
    trained, own_rate, large_rate = np.median(measured, axis=0)
    seconds = operations / trained
    print(f"{keras.backend.backend()}, {args.dtype}, {args.batch_size} x {args.length}, {cores} cores")
    print(f"training step       {1000 * seconds:8.0f} ms, {rows / seconds:,.0f} tokens/s, {trained / 1e9:.0f} GFLOP/s")
    for name, products in (
        (f"{rows} x {config.hidden_size} x {config.intermediate_size}", own_rate),
        ("2048^3", large_rate),
    ):
        print(f"product {name:18} {products / 1e9:5.0f} GFLOP/s: the step has {trained / products:.0%} of it")
    print(f"input               {1000 * input_seconds:8.1f} ms a batch, {input_seconds / seconds:.1%} of a step")


def timed(function) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
