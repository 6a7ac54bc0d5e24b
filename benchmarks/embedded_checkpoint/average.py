"""The weighted mean of checkpoints of one architecture, such as models of several runs from one start.

    python benchmarks/embedded_checkpoint/average.py --out mean run/model:0.5 other/model:0.5

Folders with a `model.safetensors`, each with its share; the rest of the first folder is copied. Weights become float16.
Source: Wortsman and others, Robust fine-tuning of zero-shot models, arXiv:2109.01903.
"""

import argparse
import shutil
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file, save_file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", help="FOLDER:SHARE")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    shares = {Path(folder): float(share) for folder, share in (name.rsplit(":", 1) for name in args.folders)}
    if abs(sum(shares.values()) - 1) > 1e-6:
        raise SystemExit(f"The shares add up to {sum(shares.values()):g}, not to 1.")
    mean: dict[str, np.ndarray] = {}
    for folder, share in shares.items():
        for name, weight in load_file(folder / "model.safetensors").items():
            mean[name] = mean.get(name, np.float32(0)) + np.float32(share) * weight.astype(np.float32)
    first = next(iter(shares))
    shutil.copytree(first, args.out, dirs_exist_ok=True)
    with safe_open(first / "model.safetensors", "np") as file:
        metadata = file.metadata()
    halves = {name: weight.astype(np.float16) for name, weight in mean.items()}
    save_file(halves, args.out / "model.safetensors", metadata=metadata)


if __name__ == "__main__":
    main()
