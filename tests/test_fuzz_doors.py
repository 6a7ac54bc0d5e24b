"""Damaged and hostile tokenizers, tasks, runs, data files and layer configs: refused in our words, or equal loads."""

import gzip
import io
import json
import lzma
import random

import keras
import numpy as np
import pytest
from support.fuzzing import ABSURD, Cases, changed_bytes, changed_json, run_cases
from support.savers import SPECIAL, values_of

from bert4albert import ConfigError, Tokenizer, build_model
from bert4albert.files import reading
from bert4albert.heads import (
    CRF,
    ConditionalLayerNormalization,
    EfficientGlobalPointer,
    FirstToken,
    GlobalPointer,
    MeanPooling,
)
from bert4albert.pretraining.corpus import Corpus
from bert4albert.pretraining.examples import Examples
from bert4albert.pretraining.shards import Shards, tokenize_corpus
from bert4albert.pretraining.state import load_state, read_progress, save_state
from bert4albert.tasks import Tagger, Task, TextClassifier
from bert4albert.tasks.data_files import read_json, read_lines, read_table
from bert4albert.tasks.saved import read_saved

pytestmark = [pytest.mark.once, pytest.mark.filterwarnings("ignore:.*unknown key.*")]

WORDS = ["今", "天", "很", "好", "##好", "hello", "a", "b", "c", "1"]
TEXT = "今天很好\nhello a b c\n好好 1\n\n今天 hello\n天天 a\n很好 很好\n"


class Vocabulary(Cases):
    """vocab.txt with its settings."""

    def __init__(self, kind, folder, seed=0):
        super().__init__(kind, folder, seed)
        Tokenizer([*SPECIAL, *WORDS]).save(folder)
        self.intact = {name: (folder / name).read_bytes() for name in ("vocab.txt", "tokenizer_config.json")}
        self.changes = [self.damage, self.resettle]

    def damage(self, files):
        name = self.chance.choice(sorted(files))
        return files | {name: changed_bytes(self.chance, files[name])}, None

    def resettle(self, files):
        settings = changed_json(self.chance, json.loads(files["tokenizer_config.json"]))
        return files | {"tokenizer_config.json": json.dumps(settings).encode()}, None

    def load(self):
        return Tokenizer(self.folder)

    def check(self, loaded, files, _):
        with io.TextIOWrapper(io.BytesIO(files["vocab.txt"]), encoding="utf-8-sig") as file:
            lines = file.read().rstrip("\n").split("\n")
        assert list(loaded.vocab) == [line.strip() or line for line in lines]
        settings = json.loads(files["tokenizer_config.json"].decode("utf-8-sig"))
        wanted = settings.get("do_lower_case") if isinstance(settings, dict) else None
        assert loaded.do_lower_case is (wanted is None or wanted)
        loaded.encode("今天 hello 好")


class SentencePieces(Cases):
    """A spiece.model, made here by the library itself."""

    def __init__(self, kind, folder, seed=0):
        super().__init__(kind, folder, seed)
        import sentencepiece

        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(["the cat sat on the mat", "a dog, a log, 1,000 frogs", "what is that"] * 9),
            model_writer=model,
            vocab_size=46,
            hard_vocab_limit=False,
            pad_id=0,
            unk_id=1,
            bos_id=-1,
            eos_id=-1,
            user_defined_symbols=["[CLS]", "[SEP]", "[MASK]"],
            minloglevel=2,
        )
        self.intact = {"spiece.model": model.getvalue()}
        self.changes = [self.damage]

    def damage(self, files):
        end = self.chance.choice([None, 60, 600])
        return {"spiece.model": changed_bytes(self.chance, files["spiece.model"], end)}, None

    def load(self):
        return Tokenizer(self.folder)

    def check(self, loaded, files, _):
        import sentencepiece

        theirs = sentencepiece.SentencePieceProcessor(model_proto=files["spiece.model"])
        assert list(loaded.vocab) == [theirs.id_to_piece(i) for i in range(theirs.get_piece_size())]
        loaded.encode("the cat, 1,000 logs")


class SavedTask(Cases):
    """The folder of a saved task. All that precedes the building of a model; `whole` builds and loads it too."""

    files = ("task.json", "config.json", "vocab.txt", "tokenizer_config.json", "model.weights.h5")
    whole = False

    def __init__(self, kind, folder, seed=0):
        super().__init__(kind, folder, seed)
        tokenizer = Tokenizer([*SPECIAL, *WORDS[:6]])
        task = TextClassifier(build_model(values_of(0)), tokenizer, labels=["a", "b"], maxlen=7)
        if kind == "tagger":
            task = Tagger(build_model(values_of(0)), tokenizer, labels=["A"], method="crf", maxlen=7)
        task.save(folder)
        self.intact = {name: (folder / name).read_bytes() for name in self.files}
        self.changes = [self.damage, self.redescribe, self.redescribe, self.exchange]

    def damage(self, files):
        name = self.chance.choice(self.files)
        end = self.chance.choice([None, 2000])
        return files | {name: changed_bytes(self.chance, files[name], end)}, None

    def redescribe(self, files):
        name = self.chance.choice(["task.json", "config.json", "tokenizer_config.json"])
        return files | {name: json.dumps(changed_json(self.chance, json.loads(files[name]))).encode()}, None

    def exchange(self, files):
        """Put other numbers, links and claims into the weights."""
        import h5py

        buffer = io.BytesIO(files["model.weights.h5"])
        with h5py.File(buffer, "r+") as file:
            names = []
            file.visititems(lambda name, node: names.append(name) if isinstance(node, h5py.Dataset) else None)
            name = self.chance.choice(names)
            shape = file[name].shape
            how = self.chance.choice(["poison", "drop", "out", "circle", "claim", "grow", "text"])
            if how == "poison":
                file[name][...] = self.chance.choice([np.nan, np.inf])
            else:
                del file[name]
            if how == "out":
                file[name] = h5py.ExternalLink("/dev/zero", "/")
            elif how == "circle":
                file[name] = h5py.SoftLink("/")
            elif how == "claim":
                file.create_dataset(name, shape=(10**6, 10**6), dtype="f4", chunks=(1, 1000))
            elif how == "grow":
                file[name] = np.zeros((2, *shape), "float32")
            elif how == "text":
                file[name] = "text"
        return files | {"model.weights.h5": buffer.getvalue()}, None

    def load(self):
        if self.whole:
            return Task.load(self.folder)
        with reading(self.folder):
            saved = read_saved(self.folder)
            saved.tokenizer()
        return None

    def check(self, task, files, _):
        if task is None:
            return
        import h5py

        theirs = []
        with h5py.File(io.BytesIO(files["model.weights.h5"])) as file:
            file.visititems(lambda _, node: theirs.append(np.asarray(node)) if isinstance(node, h5py.Dataset) else None)
        ours = [np.asarray(keras.ops.convert_to_numpy(weight)) for weight in task.model.weights]
        ours = [array.tobytes() for array in ours if array.dtype.kind == "f"]
        assert set(ours) <= {array.tobytes() for array in theirs}
        assert task.predict(["今天"])


class WholeTask(SavedTask):
    """The same, through `Task.load` to the last weight."""

    whole = True
    slowness = 10.0  # building a model takes seconds


class State(Cases):
    """The state of a pretraining run."""

    def __init__(self, kind, folder, seed=0):
        super().__init__(kind, folder, seed)
        self.model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        self.model.compile("adam", "mse")
        self.model.optimizer.build(self.model.trainable_variables)
        save_state(folder / "state.npz", self.model, {"step": 3, "place": [0, 4], "recipe": {"steps": 9}})
        self.intact = {"state.npz": (folder / "state.npz").read_bytes()}
        self.changes = [self.damage, self.rearrange]

    def damage(self, files):
        end = self.chance.choice([None, 400])
        return {"state.npz": changed_bytes(self.chance, files["state.npz"], end)}, None

    def rearrange(self, files):
        with np.load(io.BytesIO(files["state.npz"])) as archive:
            arrays = dict(archive)
        name = self.chance.choice(sorted(arrays))
        array = arrays[name]
        arrays[name] = self.chance.choice(
            [array.T, array.astype("U9"), np.full(array.shape, np.nan), np.zeros(10**5), np.array([{}], object), 10**9]
        )
        if self.chance.random() < 0.3:
            values = changed_json(self.chance, {"step": 3, "place": [0, 4], "recipe": {"steps": 9}})
            arrays |= {"progress": np.array(json.dumps(values))}
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        return {"state.npz": buffer.getvalue()}, None

    def load(self):
        progress = read_progress(self.folder / "state.npz")
        load_state(self.folder / "state.npz", self.model)
        return progress

    def check(self, progress, files, _):
        with np.load(io.BytesIO(files["state.npz"])) as archive:
            assert json.loads(str(archive["progress"])) == progress
            kernel = keras.ops.convert_to_numpy(self.model.layers[0].kernel)
            assert (archive["model/0/kernel"] == kernel).all()


class TokenisedCorpus(Cases):
    """The shards of a corpus."""

    def __init__(self, kind, folder, seed=0):
        super().__init__(kind, folder, seed)
        (folder / "corpus.txt").write_text(TEXT * 9, encoding="utf-8")
        self.tokenizer = Tokenizer([*SPECIAL, *WORDS])
        shards = tokenize_corpus(folder / "corpus.txt", self.tokenizer, folder / "shards", workers=1, shard_size=60)
        self.arrays = self.all_of(shards)
        self.intact = {f"shards/{path.name}": path.read_bytes() for path in (folder / "shards").iterdir()}
        self.changes = [self.damage, self.redescribe]

    @staticmethod
    def all_of(shards):
        parts = (shards.tokens, shards.sentence_ends, shards.document_ends)
        return [np.array(part(shard)) for shard in range(len(shards)) for part in parts]

    def damage(self, files):
        name = self.chance.choice(sorted(files))
        return files | {name: changed_bytes(self.chance, files[name])}, None

    def redescribe(self, files):
        values = changed_json(self.chance, json.loads(files["shards/index.json"]))
        return files | {"shards/index.json": json.dumps(values).encode()}, None

    def load(self):
        shards = Shards(self.folder / "shards")
        next(Examples(shards, self.tokenizer, length=8, batch_size=2).batches())
        return self.all_of(shards)

    def check(self, arrays, *_):
        # An index may have lost a shard, whose files nothing then asks for.
        kept = [array.tobytes() for array in self.arrays]
        assert [array.tobytes() for array in arrays if array.tobytes() not in kept] == []


class DataFiles(Cases):
    """What tasks and pretraining read: lines, tables, JSON, packed and not."""

    def __init__(self, kind, folder, seed=0):
        super().__init__(kind, folder, seed)
        lines = "".join(json.dumps({"text": line, "label": 1}) + "\n" for line in TEXT.split("\n"))
        self.intact = {
            "a.txt": TEXT.encode(),
            "a.txt.gz": gzip.compress(TEXT.encode(), mtime=0),
            "a.txt.xz": lzma.compress(TEXT.encode()),
            "a.tsv.gz": gzip.compress(TEXT.replace(" ", "\t").encode(), mtime=0),
            "a.json": lines.encode(),
            "b.json": json.dumps([TEXT, {"a": [1]}]).encode(),
        }
        self.name, self.changes = "a.txt", [self.damage]

    def damage(self, files):
        self.name = self.chance.choice(sorted(files))
        return files | {self.name: changed_bytes(self.chance, files[self.name])}, None

    def load(self):
        path = self.folder / self.name
        if path.suffix == ".json":
            return read_json(path)
        if self.name == "a.tsv.gz":
            return read_table(path)
        return list(Corpus(path)) if self.chance.random() < 0.5 or path.suffix == ".xz" else read_lines(path)

    def check(self, loaded, files, _):
        unpack = {".gz": gzip.decompress, ".xz": lzma.decompress}.get(self.name[-3:], bytes)
        text = unpack(files[self.name]).decode("utf-8-sig" if self.name[-3:] != ".xz" else "utf-8")
        flat = "".join(json.dumps(loaded, ensure_ascii=False))
        assert len(flat) < 20 * len(text) + 100


KINDS = {
    "vocabulary": (Vocabulary, 60, 1500),
    "sentence_pieces": (SentencePieces, 60, 1000),
    "task": (SavedTask, 100, 1200),
    "tagger": (WholeTask, 6, 60),
    "state": (State, 60, 800),
    "shards": (TokenisedCorpus, 60, 700),
    "data": (DataFiles, 80, 500),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_case_is_refused_or_loads_equally(tmp_path, kind):
    make, count, _ = KINDS[kind]
    outcomes = run_cases(make(kind, tmp_path), count)
    assert any(outcome == "refused" for _, outcome in outcomes)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_one_of_many_cases_is_refused_or_loads_equally(tmp_path, kind):
    make, _, count = KINDS[kind]
    outcomes = run_cases(make(kind, tmp_path, seed=1), count)
    print(kind, dict(sorted(outcomes.items())))
    assert {outcome for _, outcome in outcomes} == {"refused", "loaded exactly"}


# Configs inside .keras files


def layers():
    trunk = build_model(values_of(1), with_pool=True, with_nsp=True, with_mlm=True)
    own = [layer for layer in trunk.layers if type(layer).__module__.startswith("bert4albert")]
    heads = [
        CRF(),
        GlobalPointer(3, 4),
        EfficientGlobalPointer(3, 4),
        ConditionalLayerNormalization(),
        FirstToken(),
        MeanPooling(),
    ]
    return [*own, *trunk.encoder.blocks, *heads]


def reread(layer, config):
    """Return what became of a config; only ours may be raised."""
    refused = None
    try:
        again = type(layer).from_config(config)
    except ConfigError as error:
        refused = str(error)
    if refused is not None:
        assert len(refused) <= 2000
        assert refused.isprintable()
        return "refused"
    assert again.get_config().keys() == layer.get_config().keys()
    return "read"


def check_layers(count, chance):
    outcomes = []
    for layer in layers():
        assert reread(layer, layer.get_config()) == "read", layer
        for _ in range(count):
            outcomes.append(reread(layer, changed_json(chance, layer.get_config())))
    assert {"refused", "read"} == set(outcomes)
    return len(outcomes)


def test_a_changed_config_of_a_layer_is_an_error_of_ours():
    assert check_layers(5, random.Random(0)) > 50


@pytest.mark.slow
def test_many_changed_configs_of_layers_are_errors_of_ours():
    print(check_layers(40, random.Random(1)), "changed configs of layers")


@pytest.mark.parametrize("key", ["sharing", "hidden_act", "dtype", "name", "num_hidden_layers"])
def test_an_absurd_config_of_a_trunk_is_an_error_of_ours(key):
    trunk = build_model(values_of(0))
    for value in ABSURD:
        assert reread(trunk, trunk.get_config() | {key: value}) in ("refused", "read")
