"""Every saver of the package with two sets of files that it writes, and a reader that says which of them is there."""

import json
from pathlib import Path

import numpy as np

from bert4albert import ModelConfig, Tokenizer
from bert4albert.checkpoint.dialects import GOOGLE_ALBERT, HF_ALBERT
from bert4albert.checkpoint.export import Weights, write_google, write_hf, write_npz
from bert4albert.checkpoint.names import weight_shapes
from bert4albert.checkpoint.resolve import heads_in, open_source, resolve
from bert4albert.files import reading
from support.checkpoints import random_arrays

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
VERSIONS = (0, 1)


def values_of(version):
    """Two configs that share all sizes but one, so that files of both fit together by chance but not in truth."""
    return {
        "model_type": "albert",
        "vocab_size": 11,
        "embedding_size": 4,
        "hidden_size": 6,
        "num_hidden_layers": 2 + version,
        "num_attention_heads": 2,
        "intermediate_size": 10,
        "max_position_embeddings": 7,
    }


class CheckpointSaver:
    """A checkpoint format, written from arrays, without a backend."""

    def __init__(self, write):
        self._write = write
        self.weights = [self._weights(version) for version in VERSIONS]
        self.tokenizers = [Tokenizer([*SPECIAL, f"v{version}"]) for version in VERSIONS]

    def _weights(self, version):
        config = ModelConfig.from_dict(values_of(version), with_pool=True, with_nsp=True, with_mlm=True)
        arrays = random_arrays(weight_shapes(config), seed=version)
        return Weights(config, arrays.__getitem__)

    def save(self, folder, version):
        self._write(folder, self.weights[version], self.tokenizers[version])

    def read(self, folder):
        """Return the version whose files all are there. Raises the package's own error where there are none."""
        with reading(folder):
            source = open_source(folder)
            config, plan = resolve(source, **heads_in(source))
            plan.check()
            version = config.num_hidden_layers - 2
            for name in weight_shapes(config):
                assert (plan.read(name) == self.weights[version].read(name)).all(), name
            assert config.sharing == self.weights[version].config.sharing
            if (folder / "vocab.txt").exists():
                assert Tokenizer(folder).vocab == self.tokenizers[version].vocab
        return version


class TokenizerSaver:
    """A vocabulary and its settings."""

    def __init__(self):
        self.tokenizers = [Tokenizer([*SPECIAL, f"v{version}"], bool(version)) for version in VERSIONS]

    def save(self, folder, version):
        self.tokenizers[version].save(folder)

    def read(self, folder):
        again = Tokenizer(folder)
        return next(
            version
            for version, tokenizer in enumerate(self.tokenizers)
            if (again.vocab, again.do_lower_case) == (tokenizer.vocab, tokenizer.do_lower_case)
        )


class TaskSaver:
    """A task with its trunk, tokenizer, settings and weights; the two differ in their labels and in every weight."""

    def __init__(self):
        from bert4albert import build_model
        from bert4albert.tasks import TextClassifier

        self.tasks = []
        for version in VERSIONS:
            tokenizer = Tokenizer([*SPECIAL, f"v{version}"])
            task = TextClassifier(build_model(values_of(0)), tokenizer, labels=[version, version + 1], maxlen=6)
            for weight in task.model.weights:
                if "float" in str(weight.dtype):
                    weight.assign(np.full(tuple(weight.shape), version + 1.0))
            self.tasks.append(task)

    def save(self, folder, version):
        self.tasks[version].save(folder)

    def read(self, folder):
        """What `Task.load` reads, without the building of a model, which takes a second."""
        import h5py

        from bert4albert.tasks.saved import read_saved

        with reading(folder):
            saved = read_saved(Path(folder))
            version = saved.settings["labels"][0]
            assert saved.tokenizer().vocab == self.tasks[version].tokenizer.vocab
            with h5py.File(folder / "model.weights.h5") as file:
                file.visititems(lambda name, node: self._check(node, version))
        return version

    @staticmethod
    def _check(node, version):
        if hasattr(node, "shape") and node.dtype.kind == "f":
            assert (np.asarray(node) == version + 1.0).all()


class StateSaver:
    """The state of a pretraining run."""

    def __init__(self):
        import keras

        self.models = []
        for version in VERSIONS:
            model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, bias_initializer="ones")])
            model.compile("adam", "mse")
            model.optimizer.build(model.trainable_variables)
            for weight in model.weights:
                weight.assign(np.full(tuple(weight.shape), version + 1.0))
            self.models.append(model)

    def save(self, folder, version):
        from bert4albert.pretraining.state import save_state

        folder.mkdir(parents=True, exist_ok=True)
        save_state(folder / "state.npz", self.models[version], {"version": version})

    def read(self, folder):
        from bert4albert.pretraining.state import read_progress

        assert read_progress(folder / "state.npz")
        # Opened once: another writer may replace the file at any moment.
        with np.load(folder / "state.npz") as arrays:
            version = json.loads(str(arrays["progress"]))["version"]
            assert (arrays["model/0/kernel"] == version + 1.0).all()
        return version


def make_hf(folder, weights, tokenizer):
    write_hf(weights, folder, HF_ALBERT, tokenizer)


def make_google(folder, weights, _):
    write_google(weights, folder / "model.ckpt", GOOGLE_ALBERT)


def make_npz(folder, weights, _):
    write_npz(weights, folder / "model.npz")


SAVERS = {
    "hf": lambda: CheckpointSaver(make_hf),
    "google": lambda: CheckpointSaver(make_google),
    "npz": lambda: CheckpointSaver(make_npz),
    "tokenizer": TokenizerSaver,
    "task": TaskSaver,
    "state": StateSaver,
}


def content_of(folder):
    """Everything in a folder, hidden or not, by name."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def as_json(path):
    return json.loads(path.read_text(encoding="utf-8"))
