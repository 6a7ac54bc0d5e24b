"""Loading an ALBERT-xlarge-sized checkpoint without weight sharing: peak memory and time.

    python benchmarks/loading.py [--folder DIR] [--layers 24] [--only base|read|build|load]

The checkpoint (58.7 million parameters, random numbers) is made once in `--folder` (a temporary one by
default) and loaded as 1.2 billion parameters. Each measurement runs in a process of its own, since memory
that was once taken is seldom given back: `base` imports the backend and builds a tiny model, `build` makes
the model with random weights, `load` builds and loads it, `read` reads the file once.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

CONFIG = {
    "vocab_size": 30000,
    "embedding_size": 128,
    "hidden_size": 2048,
    "num_attention_heads": 16,
    "intermediate_size": 8192,
    "num_hidden_groups": 1,
    "max_position_embeddings": 512,
}
TINY = {"vocab_size": 9, "hidden_size": 4, "num_attention_heads": 2, "num_hidden_layers": 1}
RUNS = ("base", "read", "build", "load")


def make(folder, layers):
    """Write the checkpoint with random numbers, one tensor at a time."""
    from bert4albert import ModelConfig
    from bert4albert.checkpoint.export import GOOGLE_ALBERT, Weights, write_google
    from bert4albert.checkpoint.names import weight_shapes

    config = ModelConfig.from_dict(CONFIG | {"num_hidden_layers": layers})
    shapes, random = weight_shapes(config), np.random.default_rng(0)
    weights = Weights(config, lambda name: random.standard_normal(shapes[name], "float32") * np.float32(0.02))
    write_google(weights, folder / "model.ckpt", GOOGLE_ALBERT)


def run(what, folder):
    """Do one thing and print what it took."""
    start, parameters = time.perf_counter(), 0
    if what == "read":
        for path in folder.glob("model.ckpt.*"):
            path.read_bytes()
    else:
        from bert4albert import build_model

        build_model(TINY)
        start = time.perf_counter()
        if what == "build":
            parameters = build_model(folder / "albert_config.json", model="albert_unshared").count_params()
        elif what == "load":
            parameters = build_model(folder, model="albert_unshared").count_params()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": time.perf_counter() - start, "peak": peak, "parameters": parameters}))


def measure(what, folder):
    command = [sys.executable, __file__, "--folder", str(folder), "--only", what]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        sys.exit(f"{what} failed: {result.stderr[-2000:]}")
    return json.loads(result.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where the checkpoint is made, or lies from an earlier run")
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--only", choices=RUNS, help="measure one thing in this very process")
    options = parser.parse_args()
    if options.only:
        run(options.only, options.folder)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        if not (folder / "model.ckpt.index").exists():
            make(folder, options.layers)
        results = {what: measure(what, folder) for what in RUNS}
    base = results["base"]["peak"]
    print("what     seconds   peak GiB   above base GiB")
    for what, result in results.items():
        print(
            f"{what:6} {result['seconds']:9.2f} {result['peak'] / 2**30:10.2f} {(result['peak'] - base) / 2**30:16.2f}"
        )
    model_bytes = 4 * results["load"]["parameters"]
    print(f"model: {results['load']['parameters']:,} parameters, {model_bytes / 2**30:.2f} GiB")
    print(f"peak of loading: {(results['load']['peak'] - base) / model_bytes:.3f} times the model's bytes above base,")
    print(f"                 {results['load']['peak'] / model_bytes:.3f} times with everything the process holds")
    print(f"time of loading: {results['load']['seconds'] / results['read']['seconds']:.1f} times reading the file once")


if __name__ == "__main__":
    main()
