"""Tokenizer: the ids of Google's and bert4keras' programs, places in the original text, errors that help."""

import json
import pickle
import random
import sys
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from bert4albert.errors import DataError, TokenizerError
from bert4albert.text import Tokenizer, pad

GOLDEN = Path(__file__).parents[1].parent / "shared" / "golden" / "tokenization"
pytestmark = pytest.mark.once
needs_golden = pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"the golden files are not at {GOLDEN}")
VOCAB = [
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused1]"),
    *("今", "天", "气", "真", "好", "不", "，", "。", "!", "'", "-", "(", ")", "[", "]", "##天", "天气"),
    *("un", "##aff", "##able", "hello", "world", "##s", "t", "s", "3", ".", "14", "cafe", "mask"),
]


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer(VOCAB)


@pytest.fixture(scope="module")
def chinese():
    return Tokenizer(GOLDEN / "vocab_zh.txt")


@pytest.fixture(scope="module")
def english():
    return Tokenizer(GOLDEN / "spiece_en.model")


def golden_cases(name="cases.json"):
    path = GOLDEN / name
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"cases": [], "pairs": []}


def both_engines():
    return pytest.mark.parametrize("engine", ["chinese", "english"])


# Golden files


@needs_golden
def test_ids_are_those_of_google_and_bert4keras(chinese):
    cases = golden_cases()["cases"]
    assert len(cases) == 90
    for case in cases:
        assert chinese.encode(case["text"])[0] == case["bert4keras_ids"], case["text"]
        assert chinese.encode(case["text"])[0][1:-1] == case["google_uncased_ids"], case["text"]


@needs_golden
def test_cased_tokens_are_those_of_google():
    cased = Tokenizer(GOLDEN / "vocab_zh.txt", do_lower_case=False)
    for case in golden_cases()["cases"]:
        token_ids, _ = cased.encode(case["text"])
        assert cased.ids_to_tokens(token_ids[1:-1]) == case["google_cased_tokens"], case["text"]


@needs_golden
def test_tokens_are_those_of_bert4keras(chinese):
    for case in golden_cases()["cases"]:
        assert chinese.tokenize(case["text"]) == case["bert4keras_tokens"], case["text"]


@needs_golden
def test_truncated_ids_are_those_of_bert4keras(chinese):
    for case in golden_cases()["cases"]:
        assert chinese.encode(case["text"], maxlen=16)[0] == case["bert4keras_ids_maxlen16"], case["text"]


@needs_golden
def test_truncated_pairs_are_those_of_bert4keras(chinese):
    pairs = golden_cases()["pairs"]
    assert len(pairs) == 10
    for pair in pairs:
        expected = (pair["token_ids"], pair["segment_ids"])
        assert chinese.encode(pair["first"], pair["second"], pair["maxlen"]) == expected


@needs_golden
def test_offsets_are_those_of_bert4keras(chinese):
    for case in golden_cases()["cases"]:
        if "İ" in case["text"]:
            continue  # bert4keras counts in the lower-cased text, where this letter is two
        expected = [(found[0], found[-1] + 1) if found else (0, 0) for found in case["bert4keras_rematch"]]
        assert chinese.offsets(case["text"]) == expected, case["text"]


@needs_golden
def test_sentence_pieces_are_those_of_google_albert(english):
    cases = golden_cases("sentencepiece_cases.json")
    assert len(cases) == 12
    for case in cases:
        assert english.encode(case["text"])[0][1:-1] == case["ids"], case["text"]
        assert english.tokenize(case["text"])[1:-1] == case["pieces"], case["text"]


@needs_golden
def test_sentence_pieces_are_those_of_bert4keras_where_google_does_not_preprocess(english):
    def preprocessed(text):
        decomposed = unicodedata.normalize("NFKD", " ".join(text.split()))
        return "".join(c for c in decomposed if not unicodedata.combining(c)).lower()

    def comma_after_digit(text):
        return any(first.isdigit() and second == "," for first, second in pairwise(text))

    cases = [case for case in golden_cases()["cases"] if preprocessed(case["text"]) == case["text"]]
    # bert4keras lacks the rule for commas after digits; and pieces of equal score, as in this row of x,
    # are chosen differently by different versions of sentencepiece.
    cases = [case for case in cases if not comma_after_digit(case["text"]) and "xxx" not in case["text"]]
    assert len(cases) > 10
    for case in cases:
        assert english.encode(case["text"])[0] == case["sentencepiece_ids"], case["text"]


@needs_golden
def test_simplified_vocabulary_is_that_of_bert4keras(chinese):
    small, keep_tokens = chinese.simplify(first=["[PAD]", "[UNK]", "[CLS]", "[SEP]"])
    assert len(keep_tokens) == 13584
    assert keep_tokens[:5] == [0, 100, 101, 102, 106]
    texts = [case["text"] for case in golden_cases()["cases"]]
    for small_ids, old_ids in zip(small.encode_many(texts)[0], chinese.encode_many(texts)[0], strict=True):
        assert [keep_tokens[index] for index in small_ids] == old_ids


# All of Unicode


CJK = [
    *((0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F)),
    *((0x2B740, 0x2B81F), (0x2B820, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F)),
]


def google_words(text, do_lower_case):
    """Split as Google's `BasicTokenizer` does, step by step."""

    def is_cjk(c):
        return any(first <= ord(c) <= last for first, last in CJK)

    def is_punctuation(c):
        ascii_symbol = 33 <= ord(c) <= 47 or 58 <= ord(c) <= 64 or 91 <= ord(c) <= 96 or 123 <= ord(c) <= 126
        return ascii_symbol or unicodedata.category(c).startswith("P")

    kept = [c for c in text if c in "\t\n\r" or not (c in "\0\ufffd" or unicodedata.category(c) in ("Cc", "Cf"))]
    spaced = [" " if c in "\t\n\r" or unicodedata.category(c) == "Zs" else c for c in kept]
    words = []
    for word in "".join(f" {c} " if is_cjk(c) else c for c in spaced).split():
        if do_lower_case:
            decomposed = unicodedata.normalize("NFD", word.lower())
            word = "".join(c for c in decomposed if unicodedata.category(c) != "Mn")
        words.extend("".join(f" {c} " if is_punctuation(c) else c for c in word).split())
    return words


@pytest.mark.parametrize("do_lower_case", [True, False])
def test_every_character_of_unicode_is_treated_as_google_does(do_lower_case):
    tokenizer = Tokenizer(["[UNK]", "[CLS]", "[SEP]"], do_lower_case)
    characters = [chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code <= 0xDFFF]
    assigned = [c for c in characters if unicodedata.category(c) not in ("Cn", "Co")]
    characters = [*assigned, *characters[::97]]
    for start in range(0, len(characters), 64):
        block = characters[start : start + 64]
        text = "".join(f"{c} a{c}b " for c in block)
        assert tokenizer.tokenize(text)[1:-1] == google_words(text, do_lower_case), f"{ord(block[0]):x}"


@pytest.mark.parametrize("do_lower_case", [True, False])
def test_mixed_characters_are_treated_as_google_does(do_lower_case):
    tokenizer = Tokenizer(["[UNK]", "[CLS]", "[SEP]"], do_lower_case)
    draw = random.Random(0)
    awkward = "ΑΣςσİıßé\u0301\u0327\u00ad\u200d\x07\t\u3000\u2028一豈！#"
    for _ in range(5000):
        text = "".join(draw.choice([draw.choice(awkward), chr(draw.randrange(32, 0xD800))]) for _ in range(12))
        assert tokenizer.tokenize(text)[1:-1] == google_words(text, do_lower_case), text


# Encoding


def test_a_text_stands_between_cls_and_sep(tokenizer):
    token_ids, segment_ids = tokenizer.encode("今天真好!")
    assert tokenizer.ids_to_tokens(token_ids) == ["[CLS]", "今", "天", "真", "好", "!", "[SEP]"]
    assert segment_ids == [0] * 7


def test_a_second_text_has_segment_one(tokenizer):
    token_ids, segment_ids = tokenizer.encode("今天", "unaffable")
    expected = ["[CLS]", "今", "天", "[SEP]", "un", "##aff", "##able", "[SEP]"]
    assert tokenizer.ids_to_tokens(token_ids) == expected
    assert segment_ids == [0, 0, 0, 0, 1, 1, 1, 1]


def test_an_unknown_word_is_one_unk_but_keeps_its_spelling_as_a_token(tokenizer):
    assert tokenizer.encode("hello xyz")[0][1:-1] == [tokenizer.token_to_id("hello"), tokenizer.unk_id]
    assert tokenizer.tokenize("hello XYZ") == ["[CLS]", "hello", "xyz", "[SEP]"]


@pytest.mark.parametrize("lengths", [(5, 5), (1, 9), (9, 1), (6, 5), (5, 6), (0, 9), (2, 2)])
@pytest.mark.parametrize("maxlen", [4, 5, 8, 9, 10])
def test_a_pair_loses_tokens_one_at_a_time_from_the_longer_text(tokenizer, lengths, maxlen):
    first, second = lengths
    while first + second > maxlen - 3:
        if first >= second:
            first -= 1
        else:
            second -= 1
    _, segment_ids = tokenizer.encode("今" * lengths[0], "天" * lengths[1], maxlen)
    assert segment_ids == [0] * (first + 2) + [1] * (second + 1)


def test_a_batch_is_padded_to_int32_arrays(tokenizer):
    token_ids, segment_ids = tokenizer.encode_batch(["今天", "好"], ["真", "不好!"])
    assert token_ids.dtype == segment_ids.dtype == np.int32
    for row, pair in enumerate([("今天", "真"), ("好", "不好!")]):
        expected = tokenizer.encode(*pair)
        assert token_ids[row, : len(expected[0])].tolist() == expected[0]
        assert segment_ids[row, : len(expected[1])].tolist() == expected[1]
    assert token_ids.shape == segment_ids.shape == (2, 7)
    assert token_ids[0, 6:].tolist() == [tokenizer.pad_id]


def test_a_batch_can_be_padded_to_a_length_or_to_a_multiple(tokenizer):
    assert tokenizer.encode_batch(["今天"], length=9)[0].shape == (1, 9)
    assert tokenizer.encode_batch(["今天"], multiple=8)[0].shape == (1, 8)
    assert tokenizer.encode_batch([])[0].shape == (0, 0)


def test_many_texts_are_encoded_as_each_alone(tokenizer):
    texts = ["今天真好!", "", "unaffable hello"]
    token_ids, segment_ids = tokenizer.encode_many(texts, maxlen=5)
    assert list(zip(token_ids, segment_ids, strict=True)) == [tokenizer.encode(text, maxlen=5) for text in texts]


def test_special_tokens_in_a_text_are_text_unless_kept(tokenizer):
    assert tokenizer.tokenize("今[MASK]天") == ["[CLS]", "今", "[", "mask", "]", "天", "[SEP]"]
    assert tokenizer.tokenize("今[MASK]天", keep_special=True) == ["[CLS]", "今", "[MASK]", "天", "[SEP]"]
    token_ids, _ = tokenizer.encode("今[MASK]天", keep_special=True)
    assert token_ids[2] == tokenizer.mask_id
    assert tokenizer.offsets("今[MASK]天", keep_special=True)[2] == (1, 7)


@needs_golden
def test_sentence_piece_keeps_special_tokens_on_request(english):
    text = "The capital is [MASK] ."
    token_ids, _ = english.encode(text, keep_special=True)
    assert token_ids.count(english.mask_id) == 1
    assert english.mask_id not in english.encode(text)[0]
    start, end = english.offsets(text, keep_special=True)[token_ids.index(english.mask_id)]
    assert text[start:end] == "[MASK]"


def test_words_of_200_characters_are_split_and_longer_ones_are_unknown():
    tokenizer = Tokenizer([*VOCAB, "a", "##a"])
    assert len(tokenizer.encode("a" * 200)[0]) == 202
    assert tokenizer.encode("a" * 201)[0][1:-1] == [tokenizer.unk_id]


AWKWARD = [
    "",
    "   ",
    "😀👩‍👩‍👧",
    "\ud800",
    "a\udfffb",
    "\x00\x07\x1f",
    "今天" * 50_000,
    "x" * 100_000,
    "\u0301",
    "é" * 50,
]


@pytest.mark.parametrize("text", AWKWARD, ids=lambda text: ascii(text[:12]))
def test_any_string_can_be_encoded(tokenizer, text):
    token_ids, _ = tokenizer.encode(text)
    assert len(token_ids) == len(tokenizer.tokenize(text)) == len(tokenizer.offsets(text))


@needs_golden
@pytest.mark.parametrize("text", AWKWARD, ids=lambda text: ascii(text[:12]))
def test_any_string_can_be_encoded_with_sentence_pieces(english, text):
    token_ids, _ = english.encode(text)
    assert len(token_ids) == len(english.tokenize(text)) == len(english.offsets(text))


# Places in the original text


def test_offsets_cut_the_source_of_each_token_out_of_the_text(tokenizer):
    text = "  Café\u3000今\u200b天，UNAFFABLE cafe\u0301\t"
    sources = [text[start:end] for start, end in tokenizer.offsets(text)]
    assert sources == ["", "Café", "今", "天", "，", "UN", "AFF", "ABLE", "cafe", ""]


def test_offsets_of_a_pair_count_in_each_text_and_follow_truncation(tokenizer):
    offsets = tokenizer.offsets("今天真好", "不好!", maxlen=8)
    _, segment_ids = tokenizer.encode("今天真好", "不好!", maxlen=8)
    assert offsets == [(0, 0), (0, 1), (1, 2), (0, 0), (0, 1), (1, 2), (2, 3), (0, 0)]
    assert segment_ids == [0, 0, 0, 0, 1, 1, 1, 1]


@needs_golden
def test_sentence_piece_offsets_cut_the_source_of_each_piece_out_of_the_text(english):
    for text in [case["text"] for case in golden_cases("sentencepiece_cases.json")]:
        offsets = english.offsets(text)[1:-1]
        for piece, (start, end) in zip(english.tokenize(text)[1:-1], offsets, strict=True):
            decomposed = unicodedata.normalize("NFKD", text[start:end]).lower()
            plain = "".join(c for c in decomposed if not unicodedata.combining(c))
            if text[start:end] == "…":
                assert piece == "."
            else:
                assert plain == piece.removeprefix("▁"), text


@needs_golden
def test_sentence_piece_offsets_survive_text_that_changes_length(english):
    text = " \u00a0ﬁnal  한국어 9,000, ①, x "
    sources = [text[start:end] for start, end in english.offsets(text)]
    assert [source for source in sources if source] == ["ﬁnal", "한국어", "9,000", ",", "①", ",", "x"]


# Decoding


@pytest.mark.parametrize(
    ("text", "decoded"),
    [
        ("今天 真好 ， 不好 。", "今天真好，不好。"),
        ("unaffable hello worlds", "unaffable hello worlds"),
        ("今天hello world", "今天hello world"),
        ("hello今天", "hello今天"),
        ("3.14 !", "3.14!"),
        ("今天[MASK]", "今天"),
        ("", ""),
    ],
)
def test_decoding_writes_chinese_without_spaces_and_joins_pieces(tokenizer, text, decoded):
    assert tokenizer.decode(tokenizer.encode(text, keep_special=True)[0]).replace(" !", "!") == decoded


def test_decoding_takes_arrays_and_leaves_padding_out(tokenizer):
    token_ids, _ = tokenizer.encode_batch(["今天真好", "好"])
    assert [tokenizer.decode(row) for row in token_ids] == ["今天真好", "好"]


@needs_golden
def test_sentence_pieces_are_decoded_to_words(english):
    token_ids, _ = english.encode("ALBERT shares parameters, across layers.")
    assert english.decode(token_ids) == "albert shares parameters, across layers."


# Vocabulary


def test_tokens_and_ids_correspond(tokenizer):
    assert tokenizer.vocab_size == len(tokenizer.vocab) == len(VOCAB)
    assert tokenizer.tokens_to_ids(["今", "nothing"]) == [VOCAB.index("今"), tokenizer.unk_id]
    assert tokenizer.ids_to_tokens([0, 4]) == ["[PAD]", "[MASK]"]
    ids = (tokenizer.pad_id, tokenizer.unk_id, tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id)
    assert ids == (0, 1, 2, 3, 4)


@needs_golden
def test_sentence_piece_vocabulary_has_the_special_tokens(english):
    ids = (english.pad_id, english.unk_id, english.cls_id, english.sep_id, english.mask_id)
    assert ids == (0, 1, 2, 3, 4)
    assert english.vocab_size == 30000


def test_a_vocabulary_may_be_a_dictionary(tokenizer):
    again = Tokenizer(dict(tokenizer.vocab))
    assert again.encode("今天unaffable") == tokenizer.encode("今天unaffable")


def test_without_texts_tokens_that_no_text_can_give_are_dropped(tokenizer):
    small, keep_tokens = tokenizer.simplify()
    dropped = set(VOCAB) - set(small.vocab)
    assert dropped == {"[unused1]", "##天", "天气"}
    assert [VOCAB[index] for index in keep_tokens] == list(small.vocab)


def test_with_texts_frequent_tokens_are_kept_and_special_ones_come_first(tokenizer):
    small, keep_tokens = tokenizer.simplify(["今天今天", "hello"], minimum_count=2)
    assert list(small.vocab) == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "今", "天"]
    assert keep_tokens == [0, 1, 2, 3, 4, 6, 7]


# Saving


@pytest.mark.parametrize("do_lower_case", [True, False])
def test_a_saved_tokenizer_reads_back_equal(tmp_path, do_lower_case):
    tokenizer = Tokenizer([*VOCAB, "\u2028", "Hello"], do_lower_case)
    tokenizer.save(tmp_path / "made" / "here")
    again = Tokenizer(tmp_path / "made" / "here")
    assert again.vocab == tokenizer.vocab
    assert again.do_lower_case == do_lower_case
    assert again.encode("Hello 今天") == tokenizer.encode("Hello 今天")
    assert sorted(path.name for path in (tmp_path / "made" / "here").iterdir()) == [
        "tokenizer_config.json",
        "vocab.txt",
    ]


@needs_golden
@both_engines()
def test_a_real_tokenizer_reads_back_equal(tmp_path, request, engine):
    tokenizer = request.getfixturevalue(engine)
    tokenizer.save(tmp_path)
    texts = [case["text"] for case in golden_cases()["cases"]]
    assert Tokenizer(tmp_path).encode_many(texts) == tokenizer.encode_many(texts)


def test_an_argument_outweighs_the_saved_configuration(tmp_path, tokenizer):
    tokenizer.save(tmp_path)
    assert Tokenizer(tmp_path).do_lower_case
    assert not Tokenizer(tmp_path, do_lower_case=False).do_lower_case


@pytest.mark.parametrize("content", ["\ufeff{}", "{}\n\n", "{}"], ids=["byte order mark", "blank end", "no newline"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_vocabulary_file_may_be_untidy(tmp_path, content, newline):
    path = tmp_path / "vocab.txt"
    path.write_bytes(content.format("\n".join(VOCAB)).replace("\n", newline).encode())
    assert list(Tokenizer(path).vocab) == VOCAB


@needs_golden
@both_engines()
def test_a_tokenizer_can_be_pickled_after_use(request, engine):
    tokenizer = request.getfixturevalue(engine)
    expected = tokenizer.encode("Hello 今天 9,")
    assert pickle.loads(pickle.dumps(tokenizer)).encode("Hello 今天 9,") == expected


def test_threads_may_share_a_tokenizer(tokenizer):
    texts = [f"今天{chr(0x4E00 + index)} hello{index}" for index in range(200)]
    expected = [tokenizer.encode(text) for text in texts]
    fresh = Tokenizer(VOCAB)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(fresh.encode, texts)) == expected


# Errors


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("vocab.txt", "[CLS]\n[SEP]\n", r"lacks \[UNK\]"),
        ("config.json", "{}", "is no tokenizer.json"),
        ("vocab.txt", "", "lacks"),
        ("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n好\n好\n", r"'好' more than once \(lines 5, 6\)"),
        ("vocab.txt", "[UNK]\n[CLS]\n[SEP]\n[PAD]\n", r"\[PAD\] at place 3, expected 0"),
        ("model.ckpt", b"\xff\xfe\x00\x80", "not UTF-8"),
        ("spiece.model", b"no model", "not a SentencePiece model"),
    ],
)
def test_a_file_that_is_no_vocabulary_is_explained(tmp_path, name, content, message):
    with pytest.raises(TokenizerError, match=message) as caught:
        Tokenizer(write(tmp_path / name, content))
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(TokenizerError, match=r"no file .*vocab\.txt"):
        Tokenizer(tmp_path / "no" / "vocab.txt")


def test_a_folder_without_a_vocabulary_is_named(tmp_path):
    with pytest.raises(TokenizerError, match=r"no vocabulary, expected vocab\.txt, spiece\.model or tokenizer"):
        Tokenizer(tmp_path)


def test_a_folder_with_one_vocabulary_of_another_name_is_taken(tmp_path):
    write(tmp_path / "vocab_chinese.txt", "\n".join(VOCAB))
    assert Tokenizer(str(tmp_path)).vocab_size == len(VOCAB)


def test_saving_beside_a_vocabulary_of_the_other_kind_is_refused(tmp_path, tokenizer):
    write(tmp_path / "spiece.model", b"")
    with pytest.raises(TokenizerError, match="another folder"):
        tokenizer.save(tmp_path)


@pytest.mark.parametrize("config", ["{", '{"do_lower_case": "no"}', "[]"])
def test_a_broken_configuration_is_named(tmp_path, tokenizer, config):
    tokenizer.save(tmp_path)
    write(tmp_path / "tokenizer_config.json", config)
    with pytest.raises(TokenizerError, match=r"tokenizer_config\.json"):
        Tokenizer(tmp_path)


def test_ids_with_gaps_are_refused():
    with pytest.raises(TokenizerError, match="without a gap"):
        Tokenizer({"[UNK]": 0, "[CLS]": 1, "[SEP]": 3})


@pytest.mark.parametrize("text", [None, float("nan"), b"bytes", 3, ["今天"]])
def test_what_is_no_string_is_shown(tokenizer, text):
    for encode in (
        tokenizer.encode,
        tokenizer.tokenize,
        tokenizer.offsets,
        lambda text: tokenizer.encode_batch(["好", text]),
    ):
        with pytest.raises(TokenizerError, match="expected a str"):
            encode(text)


def test_one_text_is_not_a_batch(tokenizer):
    with pytest.raises(TokenizerError, match="list of texts"):
        tokenizer.encode_batch("今天")


@pytest.mark.parametrize("maxlen", [0, -1, 2, 2.5, "8", True])
def test_a_maxlen_without_room_is_refused(tokenizer, maxlen):
    with pytest.raises(TokenizerError, match="maxlen"):
        tokenizer.encode("今天", maxlen=maxlen)
    with pytest.raises(TokenizerError, match="Use an integer of 4 or more"):
        tokenizer.encode("今天", "今天", maxlen=3)


def test_pairs_must_have_as_many_texts_on_both_sides(tokenizer):
    with pytest.raises(TokenizerError, match="2 texts and 1 second texts"):
        tokenizer.encode_batch(["今", "天"], ["好"])


@pytest.mark.parametrize("token_id", [-1, len(VOCAB)])
def test_an_id_outside_the_vocabulary_is_refused(tokenizer, token_id):
    with pytest.raises(TokenizerError, match="no token with id"):
        tokenizer.decode([token_id])


def test_a_missing_mask_token_is_explained():
    with pytest.raises(TokenizerError, match=r"no \[MASK\]"):
        _ = Tokenizer(["[UNK]", "[CLS]", "[SEP]"]).mask_id


@needs_golden
def test_a_sentence_piece_vocabulary_cannot_be_simplified(english):
    with pytest.raises(TokenizerError, match="cannot be cut down"):
        english.simplify()


# Padding


def test_rows_are_padded_with_a_value_to_a_multiple():
    assert pad([[1, 2, 3], [4]], value=-1, multiple=4).tolist() == [[1, 2, 3, -1], [4, -1, -1, -1]]


def test_rows_of_vectors_and_of_floats_are_padded():
    padded = pad([np.ones((2, 3)), np.zeros((1, 3))])
    assert padded.shape == (2, 2, 3)
    assert padded.dtype == np.float32
    assert pad([[[1, 2]], [[3, 4], [5, 6]]]).tolist() == [[[1, 2], [0, 0]], [[3, 4], [5, 6]]]


def test_a_row_that_is_too_long_is_refused():
    with pytest.raises(DataError, match="Row 1 has 3 items"):
        pad([[1], [1, 2, 3]], length=2)


def test_rows_of_something_else_are_refused():
    with pytest.raises(DataError, match="Expected numbers"):
        pad(["今天"])
