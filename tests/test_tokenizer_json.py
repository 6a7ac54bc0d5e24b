"""tokenizer.json: what `transformers` writes is read, what it reads is written, and the ids are the same."""

import json
import pickle
from pathlib import Path

import pytest

from bert4albert.errors import TokenizerError
from bert4albert.text import Tokenizer
from bert4albert.text.hugging_face import hugging_face_files

GOLDEN = Path(__file__).parents[1].parent / "shared" / "golden" / "tokenization"
pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"the golden files are not at {GOLDEN}"),
]
VOCABULARIES = {"word pieces": "vocab_zh.txt", "sentence pieces": "spiece_en.model"}
SPECIAL = "[CLS] [SEP] [MASK] <pad> in a text"


@pytest.fixture(scope="module")
def texts():
    cases = json.loads((GOLDEN / "cases.json").read_text(encoding="utf-8"))["cases"]
    pieces = json.loads((GOLDEN / "sentencepiece_cases.json").read_text(encoding="utf-8"))
    return [*(case["text"] for case in [*cases, *pieces]), "", SPECIAL, "ΑΣ ΑΣΑ \ue000 2,5 and 2009, İ"]


@pytest.fixture(scope="module")
def transformers():
    return pytest.importorskip("transformers")


def ids(tokenizer, texts):
    return [tokenizer(text)["input_ids"] for text in texts]


@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize(("kind", "name"), [("Bert", "vocab.txt"), ("Albert", "spiece.model")])
def test_a_folder_that_transformers_wrote_gives_its_ids(transformers, texts, tmp_path, kind, name, lower):
    source = VOCABULARIES["word pieces" if kind == "Bert" else "sentence pieces"]
    (tmp_path / name).write_bytes((GOLDEN / source).read_bytes())
    theirs = getattr(transformers, f"{kind}Tokenizer").from_pretrained(tmp_path, do_lower_case=lower)
    theirs.save_pretrained(tmp_path / "saved")
    assert not (tmp_path / "saved" / name).exists()
    for ours in (Tokenizer(tmp_path / "saved"), Tokenizer(tmp_path / "saved" / "tokenizer.json")):
        assert ours.do_lower_case == lower
        assert ours.encode_many(texts)[0] == ids(theirs, texts)
        pair = theirs("今天 hello", "world!", return_token_type_ids=True)
        assert ours.encode("今天 hello", "world!") == (pair["input_ids"], pair["token_type_ids"])


@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize("name", VOCABULARIES.values())
def test_transformers_gives_our_ids_whatever_the_kind_of_the_model(transformers, texts, tmp_path, name, lower):
    ours = Tokenizer(GOLDEN / name, do_lower_case=lower)
    for file, content in hugging_face_files(ours._engine, 64).items():
        (tmp_path / file).write_bytes(content)
    (tmp_path / "config.json").write_text('{"model_type": "albert"}')
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert theirs.model_max_length == 64
    assert ids(theirs, texts) == ours.encode_many(texts)[0]
    assert theirs("a", "b")["token_type_ids"] == ours.encode("a", "b")[1]
    # And read back by ourselves, from nothing but that file.
    assert Tokenizer(tmp_path).encode_many(texts)[0] == ours.encode_many(texts)[0]


def test_special_tokens_are_kept_where_masks_are_to_be_filled(transformers, tmp_path):
    ours = Tokenizer(GOLDEN / "vocab_zh.txt")
    for file, content in hugging_face_files(ours._engine, keep_special=True).items():
        (tmp_path / file).write_bytes(content)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert theirs(SPECIAL)["input_ids"] == ours.encode(SPECIAL, keep_special=True)[0]
    assert Tokenizer(tmp_path).encode("[MASK]")[0].count(ours.mask_id) == 1
    assert Tokenizer(tmp_path).encode("[MASK]", keep_special=False) == ours.encode("[MASK]")


@pytest.fixture(params=VOCABULARIES.values())
def engines(request, tmp_path):
    ours = Tokenizer(GOLDEN / request.param)
    for file, content in hugging_face_files(ours._engine).items():
        (tmp_path / file).write_bytes(content)
    return ours, Tokenizer(tmp_path)


def test_places_texts_and_copies_are_those_of_the_other_engines(engines, tmp_path):
    first, second = engines
    text = "Hello  wörld, 今天天气真好!"
    assert second.tokenize(text) == first.tokenize(text)
    if "vocab" in repr(first):
        assert second.offsets(text, maxlen=9) == first.offsets(text, maxlen=9)
    token_ids = first.encode(text)[0]
    assert second.decode(token_ids) == first.decode(token_ids)
    assert pickle.loads(pickle.dumps(second)).encode(text) == first.encode(text)
    second.save(tmp_path / "again")
    assert Tokenizer(tmp_path / "again").encode(text) == first.encode(text)
    assert second.encode("a\ud800b")[0][0] == first.cls_id


def test_texts_are_cut_as_asked_whatever_the_file_was_saved_with(tmp_path):
    settings = json.loads(hugging_face_files(Tokenizer(GOLDEN / "vocab_zh.txt")._engine)["tokenizer.json"])
    settings["truncation"] = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    settings["padding"] = {
        **{"strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": None},
        **{"pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"},
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(settings))
    assert Tokenizer(tmp_path).encode("今天天气") == Tokenizer(GOLDEN / "vocab_zh.txt").encode("今天天气")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("no json", "not JSON"),
        ("[]", "no tokenizer.json"),
        ('{"model": {"type": "BPE"}}', "'BPE'.*WordPiece or Unigram"),
        ('{"model": {"type": "WordPiece"}}', "not a tokenizer"),
    ],
)
def test_a_file_of_another_kind_is_explained(tmp_path, content, message):
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(TokenizerError, match=message) as caught:
        Tokenizer(tmp_path)
    assert "\n" not in str(caught.value)


def test_lower_case_that_the_file_cannot_change_is_an_error(engines):
    settings = engines[1]._engine.file_content()
    from bert4albert.text.tokenizer_json import TokenizerJson

    with pytest.raises(TokenizerError, match="do_lower_case=False cannot change"):
        TokenizerJson(settings, do_lower_case=False)
