"""A tokenizer as `transformers` reads it: tokenizer.json and tokenizer_config.json."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable
from functools import cache
from itertools import groupby
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from bert4albert.text.characters import is_cjk, is_control, is_punctuation
from bert4albert.text.sentence_piece import SentencePiece, ends_in_digit_comma
from bert4albert.text.vocabulary import Engine
from bert4albert.text.word_piece import MAX_WORD_LENGTH, WordPiece

_ROLES = ("pad", "unk", "cls", "sep", "mask")
# A cased letter goes before a final sigma, and none follows it.
_FINAL_SIGMA = r"(?<=[\p{Lu}\p{Ll}\p{Lt}])Σ(?![\p{Lu}\p{Ll}\p{Lt}])"
# What lies beyond is not assigned, or for private use, and no rule is about it.
_CODES = (*range(0xD800), *range(0xE000, 0x30000), *range(0xE0000, 0xE0200))
_USER_DEFINED = 4  # sentencepiece_model.proto


def hugging_face_files(engine: Engine, max_length: int | None = None, keep_special: bool = False) -> dict[str, bytes]:
    """Return the files from which `AutoTokenizer` makes a tokenizer with the same ids.

    Arguments:
        engine: the tokenizer's engine.
        max_length: the most tokens that the model takes; None for any number.
        keep_special: whether "[MASK]" and the like, written in a text, are kept whole, as filling masks needs it.

    Returns:
        File name -> content: `tokenizer.json`, and `tokenizer_config.json` with the class that takes it as it is,
        whatever the kind of the model.
    """
    special = {f"{role}_token": getattr(engine, role) for role in _ROLES if getattr(engine, role) in engine.vocab}
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "do_lower_case": engine.do_lower_case,
        **({} if max_length is None else {"model_max_length": max_length}),
        "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
        **special,
        # `transformers` keeps them by default; Google's programs and this package do not.
        "split_special_tokens": not (keep_special or engine.keeps_special),
    }
    content = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    return {"tokenizer.json": _tokenizer_json(engine), "tokenizer_config.json": content.encode()}


def _tokenizer_json(engine: Engine) -> bytes:
    if isinstance(engine, WordPiece):
        backend = _word_piece_backend(engine)
    elif isinstance(engine, SentencePiece):
        backend = _sentence_piece_backend(engine)
    else:
        return engine.file_content()
    if isinstance(engine, SentencePiece):
        backend.decoder = decoders.Metaspace()
    else:
        backend.decoder = decoders.WordPiece()
    cls, sep = engine.cls, engine.sep
    backend.post_processor = processors.TemplateProcessing(
        single=f"{cls}:0 $A:0 {sep}:0",
        pair=f"{cls}:0 $A:0 {sep}:0 $B:1 {sep}:1",
        special_tokens=[(token, engine.vocab[token]) for token in (cls, sep)],
    )
    special = [getattr(engine, role) for role in _ROLES]
    backend.add_special_tokens([AddedToken(token, normalized=False) for token in special if token in engine.vocab])
    return backend.to_str().encode()


def _word_piece_backend(engine: WordPiece) -> Any:
    """Return Google's rules, spelled with the classes of characters that our own engine uses.

    The BertNormalizer of `tokenizers` drops characters for private use, and knows other ideographs.
    """
    model = models.WordPiece(engine.vocab, unk_token=engine.unk, max_input_chars_per_word=MAX_WORD_LENGTH)
    backend = Tokenizer(model)
    steps: list[Any] = [normalizers.Replace(Regex(_characters(is_control)), "")]
    if engine.do_lower_case:
        steps += [normalizers.Replace(Regex(_FINAL_SIGMA), "ς"), normalizers.Lowercase(), normalizers.NFD()]
        steps.append(normalizers.Replace(Regex(_characters(_is_accent)), ""))
    backend.normalizer = normalizers.Sequence(steps)
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_characters(_is_space)), "removed"),
            pre_tokenizers.Split(Regex(_characters(_is_word)), "isolated"),
        ]
    )
    return backend


def _sentence_piece_backend(engine: SentencePiece) -> Any:
    """Return ALBERT's preprocessing and its pieces, of which those like `9,` are never chosen.

    Where Google's program chooses one inside a number it splits it anew; there, rarely, the ids differ.
    """
    from sentencepiece import sentencepiece_model_pb2

    proto: Any = sentencepiece_model_pb2.ModelProto()  # type: ignore[attr-defined]
    proto.ParseFromString(engine.file_content())
    scores = [piece.score for piece in proto.pieces]
    low, high = min(scores), max(score for piece, score in zip(proto.pieces, scores, strict=True) if piece.type == 1)
    for index, piece in enumerate(proto.pieces):
        if ends_in_digit_comma(piece.piece):
            scores[index] = low - 10
        elif piece.type == _USER_DEFINED:
            # Source: sentencepiece, unigram_model.cc, PopulateNodes.
            scores[index] = len(piece.piece) * high - 0.1
    unknown = proto.trainer_spec.unk_id
    backend = Tokenizer(models.Unigram(list(zip(engine.tokens, scores, strict=True)), unknown, byte_fallback=False))
    steps: list[Any] = [
        normalizers.Replace(Regex(r"\s+"), " "),
        normalizers.Strip(),
        normalizers.NFKD(),
        normalizers.Replace(Regex(_characters(_is_combining)), ""),
    ]
    if engine.do_lower_case:
        steps += [normalizers.Replace(Regex(_FINAL_SIGMA), "ς"), normalizers.Lowercase()]
    steps += [normalizers.Precompiled(proto.normalizer_spec.precompiled_charsmap)]
    steps += [normalizers.Replace(Regex(" +"), " "), normalizers.Strip()]
    backend.normalizer = normalizers.Sequence(steps)
    written = "|".join(re.escape(getattr(engine, role)[1:]) for role in _ROLES)
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(),
            pre_tokenizers.Split(Regex(r"(?<=\d),(?!\d)"), "isolated"),
            # In a text these are spelled, not meant: no piece may reach over their first character.
            pre_tokenizers.Split(Regex(rf"(?<=[<\[])({written})"), "isolated"),
        ]
    )
    return backend


def _is_accent(character: str) -> bool:
    return unicodedata.category(character) == "Mn"


def _is_combining(character: str) -> bool:
    return unicodedata.combining(character) != 0


def _is_space(character: str) -> bool:
    return character.isspace()


def _is_word(character: str) -> bool:
    return is_cjk(character) or is_punctuation(character)


@cache
def _characters(rule: Callable[[str], bool]) -> str:
    """Return the regular expression of all characters that a rule holds for."""
    codes = [code for code in _CODES if rule(chr(code))]
    runs = [[code for _, code in run] for _, run in groupby(enumerate(codes), lambda item: item[1] - item[0])]
    return "[" + "".join(rf"\x{{{run[0]:x}}}-\x{{{run[-1]:x}}}" for run in runs) + "]"
