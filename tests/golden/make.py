"""Choose the small part of the golden files that lies in this folder; the rest is kept beside the project.

Run as `python tests/golden/make.py PATH_OF_ALL_GOLDEN_FILES`. The files hold outputs of the original programs
(Google's ALBERT under TensorFlow 1.15, bert4keras 0.11.5, transformers 5.23) on small models with random
weights: numbers, no code.
"""

import json
import shutil
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
WHOLE = {
    "google_albert": [
        "albert_config.json",
        "model.ckpt-best.data-00000-of-00001",
        "model.ckpt-best.index",
        "expected.npz",
        "gradients.npz",
    ],
    "hf_albert": ["config.json", "model.safetensors", "pytorch_model.bin", "expected.npz"],
    "tokenization": ["vocab_zh.txt"],
}
TEXTS = 60  # of 90


def main(source: Path) -> None:
    for folder, names in WHOLE.items():
        (HERE / folder).mkdir(exist_ok=True)
        for name in names:
            shutil.copyfile(source / folder / name, HERE / folder / name)
    with np.load(source / "google_albert" / "expected_bert4keras.npz") as file:
        np.savez_compressed(HERE / "google_albert" / "expected_bert4keras.npz", **file)
    cases = json.loads((source / "tokenization" / "cases.json").read_text(encoding="utf-8"))
    short = {key: value[:TEXTS] if isinstance(value, list) else value for key, value in cases.items()}
    (HERE / "tokenization" / "cases.json").write_text(json.dumps(short, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
