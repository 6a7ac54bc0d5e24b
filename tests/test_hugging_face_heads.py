"""Classifiers and taggers go to transformers and come from it with their heads, labels and tokenizers."""

import json

import numpy as np
import pytest
from support.gradients import to_numpy
from support.models import untidy

from bert4albert import Tokenizer, build_model, save_hf
from bert4albert.errors import CheckpointError
from bert4albert.tasks import Tagger, TextClassifier

pytestmark = [pytest.mark.once, pytest.mark.eager]

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers", reason="pip install bert4albert[interop]")

TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"今天气真好不坏，。", *"abcdefgh"]
TEXTS = ["今天天气真好", "不坏，真好。", "a b c", "坏 [MASK] x"]
KINDS = ("Albert", "Bert")
SIZES = {
    **{"vocab_size": 30, "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4},
    **{"intermediate_size": 80, "max_position_embeddings": 64},
}
TAGS = ["B-PER", "O", "I-LOC", "I-PER", "B-LOC"]  # in no order of a scheme


def our_trunk(kind, **options):
    bert = {"hidden_act": "gelu_erf", "embedding_size": 48}
    return build_model(SIZES | ({"embedding_size": 16} if kind == "Albert" else bert), **options)


def their_folder(folder, kind, what, labels, **options):
    """A folder as `save_pretrained` writes it, of a model with untidy weights and a fast tokenizer."""
    (folder / "vocab").mkdir()
    (folder / "vocab" / "vocab.txt").write_text("".join(f"{token}\n" for token in TOKENS), encoding="utf-8")
    sizes = SIZES | ({"embedding_size": 16} if kind == "Albert" else {})
    named = {} if labels is None else {"id2label": dict(enumerate(labels)), "label2id": {}}
    config = getattr(transformers, f"{kind}Config")(**sizes, **named, **options)
    torch.manual_seed(0)
    model = getattr(transformers, f"{kind}For{what}")(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.1 * torch.randn_like(weight)
    model.save_pretrained(folder / "model")
    transformers.BertTokenizer.from_pretrained(folder / "vocab").save_pretrained(folder / "model")
    return folder / "model", model


def logits_of(model, token_ids, segment_ids):
    with torch.no_grad():
        mask = torch.tensor(np.asarray(token_ids) != 0)
        ids, types = torch.tensor(token_ids).long(), torch.tensor(segment_ids).long()
        return model(input_ids=ids, token_type_ids=types, attention_mask=mask.long()).logits.numpy(), mask.numpy()


def assert_equal_logits(task, model):
    token_ids, segment_ids = task.tokenizer.encode_batch(TEXTS)
    expected, mask = logits_of(model, token_ids, segment_ids)
    found = to_numpy(task.model([token_ids, segment_ids]))
    if found.ndim == 3:
        expected, found = expected[mask], found[mask]
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_classifier_of_transformers_comes_in(tmp_path, kind):
    folder, theirs = their_folder(tmp_path, kind, "SequenceClassification", ["schlecht", "gut", "?"])
    task = TextClassifier.from_hf(folder, maxlen=32)
    assert (task.labels, task.pooling, task.maxlen, task.multi_label) == (["schlecht", "gut", "?"], "pooler", 32, False)
    assert_equal_logits(task, theirs)
    assert set(task.predict(TEXTS)) <= set(task.labels)
    task.save(tmp_path / "saved")
    assert TextClassifier.load(tmp_path / "saved").predict(TEXTS) == task.predict(TEXTS)


def test_a_classifier_without_names_has_those_of_transformers(tmp_path):
    options = {"num_labels": 4, "problem_type": "multi_label_classification"}
    task = TextClassifier.from_hf(their_folder(tmp_path, "Bert", "SequenceClassification", None, **options)[0])
    assert task.labels == ["LABEL_0", "LABEL_1", "LABEL_2", "LABEL_3"]
    assert task.multi_label


@pytest.mark.parametrize("options", [{}, {"problem_type": "regression"}], ids=["one label", "named"])
def test_a_regression_of_transformers_comes_in(tmp_path, options):
    folder, theirs = their_folder(tmp_path, "Albert", "SequenceClassification", None, num_labels=1, **options)
    task = TextClassifier.from_hf(folder, maxlen=32)
    assert (task.regression, task.labels) == (True, [])
    assert_equal_logits(task, theirs)
    assert all(isinstance(number, float) for number in task.predict(TEXTS))


def test_our_regression_goes_out_and_comes_back(tmp_path):
    trunk = our_trunk("Albert", with_pool=True)
    task = TextClassifier(trunk, Tokenizer(TOKENS), regression=True, pooling="pooler", maxlen=24)
    untidy(task.model)
    save_hf(task, tmp_path)
    theirs = transformers.AlbertForSequenceClassification.from_pretrained(tmp_path)
    assert (theirs.config.problem_type, theirs.config.num_labels) == ("regression", 1)
    assert_equal_logits(task, theirs.eval())
    again = TextClassifier.from_hf(tmp_path, maxlen=24)
    assert again.regression
    np.testing.assert_allclose(again.predict(TEXTS), task.predict(TEXTS), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_tagger_of_transformers_comes_in(tmp_path, kind):
    folder, theirs = their_folder(tmp_path, kind, "TokenClassification", TAGS)
    tagger = Tagger.from_hf(folder, maxlen=32)
    assert tagger.labels == ["PER", "LOC"]
    assert_equal_logits(tagger, theirs)
    tagger.save(tmp_path / "saved")
    assert Tagger.load(tmp_path / "saved").predict(TEXTS) == tagger.predict(TEXTS)
    assert any(tagger.predict(TEXTS))


def test_tags_without_prefixes_are_labels(tmp_path):
    tagger = Tagger.from_hf(their_folder(tmp_path, "Albert", "TokenClassification", None, num_labels=3)[0])
    assert tagger.labels == ["LABEL_0", "LABEL_1", "LABEL_2"]
    for text, entities in zip(TEXTS, tagger.predict(TEXTS), strict=True):
        assert "".join(entity.text for entity in entities).replace(" ", "") == text.replace(" ", "")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("multi_label", [False, True])
def test_our_classifier_goes_out_and_comes_back(tmp_path, kind, multi_label):
    trunk = our_trunk(kind, with_pool=True, **({"with_mlm": True} if multi_label else {}))
    task = TextClassifier(
        build_pooled(trunk), Tokenizer(TOKENS), ["好", "坏", 3], pooling="pooler", multi_label=multi_label, maxlen=24
    )
    untidy(task.model)
    save_hf(task, tmp_path)
    name = f"{kind}ForSequenceClassification"
    theirs, info = getattr(transformers, name).from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values())
    assert theirs.config.architectures == [name]
    assert theirs.config.id2label == {0: "好", 1: "坏", 2: "3"}
    assert theirs.config.label2id == {"好": 0, "坏": 1, "3": 2}
    assert theirs.config.problem_type == ("multi_label_classification" if multi_label else None)
    assert_equal_logits(task, theirs.eval())
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert [tokenizer(text)["input_ids"] for text in TEXTS] == task.tokenizer.encode_many(TEXTS)[0]
    assert tokenizer.model_max_length == 24
    again = TextClassifier.from_hf(tmp_path, maxlen=24)
    assert_equal_logits(again, theirs)
    assert again.labels == ["好", "坏", "3"]


def build_pooled(trunk):
    """The trunk with nothing but its pooler as output."""
    from bert4albert.model import Trunk

    return Trunk(trunk.config.replace(with_mlm=None)) if trunk.config.with_mlm else trunk


@pytest.mark.parametrize("kind", KINDS)
def test_our_tagger_goes_out_and_comes_back(tmp_path, kind):
    tagger = Tagger(our_trunk(kind), Tokenizer(TOKENS), ["PER", "LOC"], method="softmax", maxlen=24)
    untidy(tagger.model)
    save_hf(tagger, tmp_path)
    theirs, info = getattr(transformers, f"{kind}ForTokenClassification").from_pretrained(
        tmp_path, output_loading_info=True
    )
    assert not any(info.values())
    assert [*theirs.config.id2label.values()] == ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
    assert_equal_logits(tagger, theirs.eval())
    assert Tagger.from_hf(tmp_path, maxlen=24).predict(TEXTS) == tagger.predict(TEXTS)


def test_a_trunk_for_masked_words_keeps_masks_whole(tmp_path):
    save_hf(our_trunk("Albert", with_mlm=True), tmp_path, Tokenizer(TOKENS))
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer("a [MASK]")["input_ids"].count(tokenizer.mask_token_id) == 1
    assert tokenizer.model_max_length == 64
    assert transformers.AlbertForMaskedLM.from_pretrained(tmp_path).config.architectures == ["AlbertForMaskedLM"]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda trunk, words: TextClassifier(trunk, words, ["a", "b"], maxlen=24),
            "pooling='cls' cannot leave.*pooling='pooler'",
        ),
        (lambda trunk, words: Tagger(trunk, words, ["a"], method="crf", maxlen=24), "method='crf' cannot leave"),
    ],
)
def test_what_cannot_leave_says_so(tmp_path, make, words):
    with pytest.raises(CheckpointError, match=words):
        save_hf(make(our_trunk("Albert"), Tokenizer(TOKENS)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_no_head_another_or_two_are_errors(tmp_path):
    save_hf(our_trunk("Albert", with_pool=True), tmp_path / "none", Tokenizer(TOKENS))
    with pytest.raises(CheckpointError, match="has no classifier"):
        TextClassifier.from_hf(tmp_path / "none")
    folder, model = their_folder(tmp_path, "Albert", "TokenClassification", TAGS)
    with pytest.raises(CheckpointError, match=r"use Tagger\.from_hf"):
        TextClassifier.from_hf(folder)
    tensors = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    from safetensors.numpy import save_file

    for name in ("predictions.bias", "qa_outputs.weight"):
        save_file(tensors | {name: np.zeros(30, "float32")}, folder / "model.safetensors")
        with pytest.raises(CheckpointError, match=r"more than one head|qa_outputs"):
            Tagger.from_hf(folder)
    config = json.loads((folder / "config.json").read_text())
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config | {"id2label": {"0": "O"}}))
    with pytest.raises(CheckpointError, match="each needs a name"):
        Tagger.from_hf(folder)
    with pytest.raises(CheckpointError, match="no folder"):
        Tagger.from_hf(tmp_path / "nowhere")
