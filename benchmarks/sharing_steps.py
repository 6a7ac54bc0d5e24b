"""What points between shared and unshared cost: time of a training step, as a ratio to another point.

    python benchmarks/sharing_steps.py [--size tiny|base] [--rows 32] [--runs 7] [--steps 3]

Classifiers with AdamW (rate 1e-4, clipped to norm 1) on made-up rows of 128 tokens take turns, some steps each, so that
a noisy machine is noisy for all of them; the ratios are those within one turn, printed as median and range. Memory
holds all models at once: for `base` use `--only` to compare fewer. Machines that do other things measure nothing.
"""

import argparse
import os
import statistics
import time

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import keras
import numpy as np

from bert4albert import build_model
from bert4albert.training import GradualUnsharing, SharingDecay, adamw

LENGTH, NEVER = 128, 10**6
SIZES = {
    "tiny": {"vocab_size": 21128, "hidden_size": 312, "num_hidden_layers": 4, "intermediate_size": 1248},
    "base": {"vocab_size": 30000, "hidden_size": 768, "num_hidden_layers": 12, "intermediate_size": 3072},
    "toy": {"vocab_size": 211, "hidden_size": 48, "num_hidden_layers": 3, "intermediate_size": 80},
}
ROWS = {"tiny": 32, "base": 8, "toy": 2}
# Name -> (how the model is built, what wraps the optimizer, the point it is compared with, the bar).
POINTS = {
    "shared": ({}, None, None, None),
    "unshared": ({"sharing": "unshared"}, None, "shared", 1.05),
    "depth_lora=8": ({"depth_lora": 8}, None, "shared", 1.15),
    "tied": (
        {"sharing": "unshared"},
        lambda inner, trunk: GradualUnsharing(inner, trunk, {0: "shared", NEVER: "unshared"}),
        "unshared",
        1.05,
    ),
    "let go": (
        {"sharing": "unshared"},
        lambda inner, trunk: GradualUnsharing(inner, trunk, {0: "shared", 1: "unshared"}),
        "unshared",
        1.05,
    ),
    "sharing_decay": (
        {"sharing": "unshared"},
        lambda inner, trunk: SharingDecay(inner, trunk, 0.1),
        "unshared",
        1.05,
    ),
}


def checkpoint(size: str) -> tuple[dict, dict]:
    """Return a config and random weights of ALBERT, from which all points start."""
    heads = 4 if size == "toy" else 12
    config = {**SIZES[size], "embedding_size": 128, "num_attention_heads": heads, "num_hidden_groups": 1}
    trunk = build_model(config)
    return config, {name: keras.ops.convert_to_numpy(weight) for name, weight in trunk.named_weights()}


def classifier(start: tuple[dict, dict], name: str, jit: bool) -> keras.Model:
    """Return a compiled classifier."""
    options, wrap, _, _ = POINTS[name]
    trunk = build_model(*start, **options)
    logits = keras.layers.Dense(2, kernel_initializer=trunk.initializer)(trunk.output[:, 0])
    model = keras.Model(trunk.inputs, logits)
    optimizer = adamw(1e-4)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer if wrap is None else wrap(optimizer, trunk), loss, jit_compile=jit)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="tiny")
    parser.add_argument("--only", nargs="+", choices=POINTS, default=list(POINTS))
    parser.add_argument("--rows", type=int, help="rows of a batch; by default 32, for `base` 8")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--steps", type=int, default=3, help="steps of one point in a row")
    parser.add_argument("--jit", action="store_true", help="compile with XLA on TensorFlow; JAX always does")
    arguments = parser.parse_args()
    random, config, rows = np.random.default_rng(0), SIZES[arguments.size], arguments.rows or ROWS[arguments.size]
    tokens = random.integers(5, config["vocab_size"], (rows, LENGTH)).astype("int32")
    for row, length in enumerate(random.integers(LENGTH // 2, LENGTH + 1, rows)):
        tokens[row, length:] = 0
    batch = [tokens, np.zeros_like(tokens)], random.integers(0, 2, rows)
    jit = arguments.jit or keras.backend.backend() == "jax"
    start = checkpoint(arguments.size)
    models = {name: classifier(start, name, jit) for name in arguments.only}
    for model in models.values():  # compiles
        for _ in range(2):
            model.train_on_batch(*batch)
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(arguments.runs):
        for name, model in models.items():
            started = time.perf_counter()
            for _ in range(arguments.steps):
                model.train_on_batch(*batch)
            seconds[name].append((time.perf_counter() - started) / arguments.steps)
    print(f"{keras.backend.backend()}, {arguments.size}: {rows} rows of {LENGTH} tokens, {arguments.runs} turns")
    for name, times in seconds.items():
        other, bar = POINTS[name][2:]
        row = f"{name:14} {1000 * statistics.median(times):8.1f} ms"
        if other in seconds:
            ratios = sorted(a / b for a, b in zip(times, seconds[other], strict=True))
            row += f"  {statistics.median(ratios):.3f} of {other} ({ratios[0]:.3f} to {ratios[-1]:.3f}), bar {bar}"
        print(row, flush=True)


if __name__ == "__main__":
    main()
