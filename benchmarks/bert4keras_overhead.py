"""What the old spellings cost: time of a training step of `build_transformer_model`, as a ratio to `build_model`.

    python benchmarks/bert4keras_overhead.py [--size tiny|base] [--runs 15] [--steps 3] [--jit]

Two classifiers on equal weights, each with the Adam of its side, train on the same made-up rows of 128 tokens. They
take turns, some steps each, the first of a turn being now the one and now the other; the ratio of each turn is
printed as median, quartiles and range. The bar is a median of 1.05. Machines that do other things measure nothing.
"""

import argparse
import os
import statistics
import time

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import keras
import numpy as np

from bert4albert import build_model
from bert4albert.bert4keras.models import build_transformer_model
from bert4albert.bert4keras.optimizers import Adam

LENGTH, BAR = 128, 1.05
SIZES = {
    "tiny": {"vocab_size": 21128, "hidden_size": 312, "num_hidden_layers": 4, "intermediate_size": 1248},
    "base": {"vocab_size": 30000, "hidden_size": 768, "num_hidden_layers": 12, "intermediate_size": 3072},
    "toy": {"vocab_size": 211, "hidden_size": 48, "num_hidden_layers": 3, "intermediate_size": 80},
}
ROWS = {"tiny": 32, "base": 8, "toy": 2}


def classifiers(config: dict, jit: bool) -> dict[str, keras.Model]:
    """Return the two compiled models, native first, with equal weights."""
    dropouts = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}  # so that losses can be compared
    config = {**config, **dropouts, "hidden_act": "gelu_tanh"}
    weights = {name: keras.ops.convert_to_numpy(weight) for name, weight in build_model(config).named_weights()}
    native = build_model(config, weights, sharing="unshared")
    old = build_transformer_model(config, weights, model="albert_unshared", return_keras_model=False)
    trunks = {"native": (native.inputs, native.output), "bert4keras": (old.model.inputs, old.model.output)}
    optimizers = {"native": keras.optimizers.Adam, "bert4keras": Adam}
    models = {}
    for name, (inputs, output) in trunks.items():
        head = keras.layers.Dense(2, activation="softmax", kernel_initializer=keras.initializers.GlorotUniform(1))
        models[name] = keras.Model(inputs, head(output[:, 0]))
        models[name].compile(optimizers[name](1e-4), "sparse_categorical_crossentropy", jit_compile=jit)
    return models


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="tiny")
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--steps", type=int, default=3, help="steps of one model in a row")
    parser.add_argument("--jit", action="store_true", help="compile with XLA on TensorFlow; JAX always does")
    arguments = parser.parse_args()
    random, size, rows = np.random.default_rng(0), SIZES[arguments.size], ROWS[arguments.size]
    heads = 4 if arguments.size == "toy" else 12
    config = {**size, "embedding_size": 128, "num_attention_heads": heads, "num_hidden_groups": 1}
    tokens = random.integers(5, config["vocab_size"], (rows, LENGTH)).astype("int32")
    for row, length in enumerate(random.integers(LENGTH // 2, LENGTH + 1, rows)):
        tokens[row, length:] = 0
    batch = [tokens, np.zeros_like(tokens)], random.integers(0, 2, rows)
    models = classifiers(config, arguments.jit or keras.backend.backend() == "jax")
    first = {name: float(model.train_on_batch(*batch)) for name, model in models.items()}  # compiles
    if abs(first["native"] - first["bert4keras"]) > 1e-5:
        raise SystemExit(f"The two are not the same model: their first losses are {first}.")
    for model in models.values():
        model.train_on_batch(*batch)
    ratios, seconds = [], {name: [] for name in models}
    for run in range(arguments.runs):
        for name in list(models)[:: 1 if run % 2 else -1]:
            started = time.perf_counter()
            for _ in range(arguments.steps):
                models[name].train_on_batch(*batch)
            seconds[name].append((time.perf_counter() - started) / arguments.steps)
        ratios.append(seconds["bert4keras"][-1] / seconds["native"][-1])
    print(f"{keras.backend.backend()}, {arguments.size}: {rows} rows of {LENGTH} tokens, {arguments.runs} turns")
    for name, times in seconds.items():
        print(f"{name:10} {1000 * statistics.median(times):8.1f} ms")
    quartiles = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
    print(
        f"ratio {statistics.median(ratios):.3f}, quartiles {quartiles[0]:.3f} to {quartiles[2]:.3f}, "
        f"range {min(ratios):.3f} to {max(ratios):.3f}; bar {BAR}"
    )


if __name__ == "__main__":
    main()
