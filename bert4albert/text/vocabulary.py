"""Vocabulary files: finding, reading, checking and saving them."""

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from bert4albert.errors import TokenizerError
from bert4albert.finding import find_vocabularies, model_folder
from bert4albert.plain_files import read_json, read_small
from bert4albert.text.characters import is_cjk, is_punctuation
from bert4albert.text.sentence_piece import SentencePiece
from bert4albert.text.tokenizer_json import TokenizerJson
from bert4albert.text.word_piece import WordPiece

Engine = WordPiece | SentencePiece | TokenizerJson
AnyEngine = TypeVar("AnyEngine", WordPiece, SentencePiece, TokenizerJson)

_CONFIG_NAME = "tokenizer_config.json"
_MOST_CONFIG_BYTES = 2**21
_MOST_BYTES = 2**26
_MOST_TOKENS = 2**20


def load_engine(
    vocabulary: str | os.PathLike[str] | Sequence[str] | Mapping[str, int], do_lower_case: bool | None
) -> Engine:
    """Return the engine for a file, a folder or the tokens themselves; `Tokenizer` explains the arguments."""
    if not isinstance(vocabulary, str | os.PathLike | Sequence | Mapping):
        raise TokenizerError(f"Got {vocabulary!r} for a vocabulary: give the path of a vocab.txt, or its tokens.")
    if not isinstance(vocabulary, str | os.PathLike):
        return _word_piece(_ordered(vocabulary), _or_true(do_lower_case), "the given vocabulary")
    path = model_folder(vocabulary) or Path(vocabulary)
    config: dict[str, Any] = {}
    if path.is_dir():
        config = _read_config(path)
        if do_lower_case is None:
            do_lower_case = config.get("do_lower_case")
        path = _the_one(path)
    if not path.is_file():
        raise TokenizerError(
            f"There is no file {path}: give the path of a vocab.txt, of a spiece.model, of a tokenizer.json, "
            "or of their folder."
        )
    if path.suffix == ".json":
        config = config or _read_config(path.parent)
        special, split = _special_tokens(config), bool(config.get("split_special_tokens"))
        return _checked(TokenizerJson(_read(path), do_lower_case, special, split, str(path)), str(path))
    if path.suffix == ".model":
        return _sentence_piece(path, _or_true(do_lower_case))
    return _word_piece(_read_tokens(path), _or_true(do_lower_case), str(path))


def write_engine(engine: Engine, folder: Path) -> None:
    """Write the files that `load_engine` reads back into a folder of new files."""
    (folder / engine.file_name).write_bytes(engine.file_content())
    config: dict[str, Any] = {"do_lower_case": engine.do_lower_case}
    if isinstance(engine, TokenizerJson):
        config |= engine.config()
    (folder / _CONFIG_NAME).write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def refuse_other_vocabulary(new: Path, folder: Path) -> None:
    """Raise `TokenizerError` where a folder holds a vocabulary that would be read in place of the new files."""
    # A tokenizer.json beside another vocabulary says the same again, and is never read.
    for other in (WordPiece, SentencePiece):
        if not (new / other.file_name).exists() and (folder / other.file_name).exists():
            raise TokenizerError(
                f"{folder} already holds {other.file_name}, another vocabulary: save to another folder."
            )


def is_redundant(token: str) -> bool:
    """Whether no text can give this token, since each of its Chinese characters and punctuation is a word."""
    return len(token) > 1 and any(is_cjk(part) or is_punctuation(part) for part in token.removeprefix("##"))


def _or_true(do_lower_case: bool | None) -> bool:
    return do_lower_case is None or bool(do_lower_case)


def _the_one(folder: Path) -> Path:
    found = find_vocabularies(folder)
    if len(found) == 1:
        return found[0]
    names = ", ".join(path.name for path in found[:5]) or "no vocabulary"
    raise TokenizerError(
        f"The folder {folder} holds {names}, expected vocab.txt, spiece.model or tokenizer.json: give the file itself."
    )


def _read_config(folder: Path) -> dict[str, Any]:
    """Return what `tokenizer_config.json` says, nothing where there is none."""
    path = folder / _CONFIG_NAME
    if not path.is_file():
        return {}
    try:
        config = read_json(path, _MOST_CONFIG_BYTES)
    except (OSError, ValueError) as error:
        raise TokenizerError(f"{path} is not JSON ({error}): mend or remove it.") from error
    do_lower_case = config.get("do_lower_case")
    if not (do_lower_case is None or isinstance(do_lower_case, bool)):
        raise TokenizerError(
            f"{path} has do_lower_case {do_lower_case!r:.80}, expected true or false: mend or remove it."
        )
    return config


def _special_tokens(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the special tokens by role, of a config that may have each as a string or with settings of its own."""
    found: dict[str, str] = {}
    for role in ("pad", "unk", "cls", "sep", "mask"):
        token = config.get(f"{role}_token")
        token = token.get("content") if isinstance(token, Mapping) else token
        if isinstance(token, str):
            found[role] = token
    return found


def _read_tokens(path: Path) -> list[str]:
    try:
        text = _read(path).decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise TokenizerError(
            f"{path} is not UTF-8 text: expected a vocab.txt with one token a line, "
            "or a SentencePiece model, whose name must end in .model."
        ) from error
    if text.count("\n") > _MOST_TOKENS:
        raise TokenizerError(f"{path} has more than {_MOST_TOKENS:,} lines, so it is no vocabulary.")
    lines = text.rstrip("\n").split("\n")
    # The Chinese vocabulary has a line that is nothing but a line separator, and it counts.
    return [line.strip() or line for line in lines]


def _read(path: Path) -> bytes:
    try:
        return read_small(path, _MOST_BYTES)
    except OSError as error:
        raise TokenizerError(f"{path} cannot be read ({error.strerror or error}): give another file.") from None
    except ValueError as error:
        raise TokenizerError(f"{path} is no vocabulary: {error}.") from None


def _ordered(vocabulary: Sequence[str] | Mapping[str, int]) -> list[str]:
    if not isinstance(vocabulary, Mapping):
        return list(vocabulary)
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    if [vocabulary[token] for token in tokens] != list(range(len(tokens))):
        raise TokenizerError(
            "The ids of the given vocabulary are not 0, 1, 2, ... without a gap: number its tokens anew."
        )
    return tokens


def _word_piece(tokens: list[str], do_lower_case: bool, source: str) -> WordPiece:
    repeated = (
        [] if len(set(tokens)) == len(tokens) else [token for token, count in Counter(tokens).items() if count > 1]
    )
    if repeated:
        lines = [index + 1 for index, token in enumerate(tokens) if token == repeated[0]]
        raise TokenizerError(
            f"{source} has {repeated[0]!r:.80} more than once (lines {', '.join(map(str, lines[:5]))}): "
            "each token needs one line, since its line is its id."
        )
    return _checked(WordPiece(tokens, do_lower_case), source)


def _sentence_piece(path: Path, do_lower_case: bool) -> SentencePiece:
    try:
        engine = SentencePiece(_read(path), do_lower_case)
    except (RuntimeError, ValueError) as error:  # sentencepiece's own, and text in it that is not UTF-8
        raise TokenizerError(f"{path} is not a SentencePiece model: was the download complete?") from error
    return _checked(engine, str(path))


def _checked(engine: AnyEngine, source: str) -> AnyEngine:
    """Return an engine that has the tokens which every text needs."""
    tokens = engine.tokens
    missing = [token for token in (engine.unk, engine.cls, engine.sep) if token not in engine.vocab]
    if missing:
        raise TokenizerError(
            f"{source} lacks {', '.join(missing)} among its {len(tokens)} tokens, so it is no vocabulary of BERT or "
            "ALBERT: give the file that came with the checkpoint."
        )
    if engine.pad in engine.vocab and tokens[0] != engine.pad:
        raise TokenizerError(
            f"{source} has {engine.pad} at place {tokens.index(engine.pad)}, expected 0: models take id 0 for padding."
        )
    return engine
