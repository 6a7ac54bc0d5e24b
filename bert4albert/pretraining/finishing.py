"""What is done to a pretrained model at the end: embeddings of a usual size, weights in half precision."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from keras import ops

from bert4albert.checkpoint.formats.safe_tensors import SafeTensors, write_safe_tensors
from bert4albert.files import writing
from bert4albert.model import Trunk


def shrink_embeddings(trunk: Trunk) -> None:
    """Give the embeddings of a trunk with a masked-LM head the size of fresh ones, which changes no output.

    A norm follows the embeddings, and one whose scale can grow instead precedes the logits tied to them. In
    pretraining they grow severalfold; the steps of a fine-tuning, whose size does not depend on theirs, would
    then hardly move them.
    """
    weights = dict(trunk.named_weights())
    words = ops.convert_to_numpy(weights["embeddings/word/embeddings"])
    factor = float(trunk.config.initializer_range / np.sqrt(np.mean(words**2)))
    for name, weight in weights.items():
        if name.startswith("embeddings/") and name.endswith("/embeddings"):
            weight.assign(weight * factor)
        elif name.startswith("masked_lm_transform/norm/"):
            weight.assign(weight / factor)


def store_in_half_precision(folder: Path) -> None:
    """Rewrite the `model.safetensors` of a folder in float16; its config tells transformers to compute in float32."""
    stored = SafeTensors(folder / "model.safetensors")
    tensors = {name: stored.read(name) for name in stored.tensors}
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    values = json.loads((folder / "config.json").read_text(encoding="utf-8")) | {"dtype": "float32"}
    with writing(folder) as new:
        (new / "config.json").write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
        write_safe_tensors(new / "model.safetensors", shapes, "float16", tensors.__getitem__)
