"""The `tokenizer.json` of current Hugging Face folders, over the `tokenizers` library that reads it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import tokenizers

from bert4albert.errors import TokenizerError
from bert4albert.text.pieces import Piece, special_pattern
from bert4albert.text.sentence_piece import SentencePiece
from bert4albert.text.word_piece import WordPiece, join_word_pieces

_SURROGATES = re.compile("[\ud800-\udfff]")
_KINDS = {"WordPiece": WordPiece, "Unigram": SentencePiece}


class TokenizerJson:
    """The engine behind `Tokenizer` for a `tokenizer.json`, with the ids that `transformers` gives.

    Arguments:
        content: what the file holds.
        do_lower_case: whether to lower the case, where the file's normalizer leaves the choice; None for its own.
        special_tokens: the tokens by their role ('pad', 'unk', 'cls', 'sep', 'mask'), where they are not the usual
            ones of the kind.
        split_special: whether special tokens written in a text are split as any other text.
        source: what to call the file in messages.

    Raises `TokenizerError` if the file cannot be read or is of another kind, such as a byte-level BPE.
    """

    file_name = "tokenizer.json"

    def __init__(
        self,
        content: bytes,
        do_lower_case: bool | None = None,
        special_tokens: dict[str, str] | None = None,
        split_special: bool = False,
        source: str = file_name,
    ) -> None:
        settings = _settings_of(content, source)
        self.do_lower_case = _settle_lower_case(settings, do_lower_case, source)
        self._arguments = content, do_lower_case, special_tokens, split_special, source
        self.keeps_special = not split_special
        kind = _KINDS[settings["model"]["type"]]
        names = {role: getattr(kind, role) for role in ("pad", "unk", "cls", "sep", "mask")} | (special_tokens or {})
        self.pad, self.unk, self.cls, self.sep, self.mask = names.values()
        self._is_word_piece = kind is WordPiece
        # Cutting and filling up is the caller's business, whatever the file was saved with.
        text = json.dumps(settings | {"truncation": None, "padding": None}, ensure_ascii=False)
        self._keeping, self._splitting = _read(text, source), _read(text, source)
        self._splitting.encode_special_tokens = True
        self.vocab: dict[str, int] = dict(sorted(self._keeping.get_vocab().items(), key=lambda item: item[1]))
        self.tokens = [*self.vocab]
        if [*self.vocab.values()] != list(range(len(self.tokens))):
            raise TokenizerError(f"{source} numbers its tokens with gaps or twice: is it whole?")
        self._special = special_pattern(names.values(), self.vocab)

    def __reduce__(self) -> tuple[Any, ...]:
        return TokenizerJson, self._arguments

    def encode(self, texts: Sequence[str], keep_special: bool) -> list[list[int]]:
        """Return the token ids of each text."""
        backend = self._backend(keep_special)
        found = backend.encode_batch_fast([_without_surrogates(text) for text in texts], add_special_tokens=False)
        return [encoding.ids for encoding in found]

    def pieces(self, text: str, keep_special: bool) -> list[Piece]:
        """Return the tokens of one text with the characters they were made of; unknown words keep their text."""
        found = self._backend(keep_special).encode(_without_surrogates(text), add_special_tokens=False)
        pieces = []
        for token_id, token, (start, end) in zip(found.ids, found.tokens, found.offsets, strict=True):
            unknown = token == self.unk and self._is_word_piece
            pieces.append(Piece(token_id, text[start:end] if unknown else token, start, end))
        return pieces

    def decode(self, token_ids: Sequence[int]) -> str:
        """Join tokens to a text, special tokens left out."""
        if self._is_word_piece:
            return join_word_pieces([self.tokens[index] for index in token_ids])
        special = {self.vocab.get(token) for token in (self.pad, self.unk, self.cls, self.sep, self.mask)}
        kept = [index for index in token_ids if index not in special]
        return str(self._keeping.decode(kept, skip_special_tokens=True))

    def file_content(self) -> bytes:
        """Return what `tokenizer.json` holds."""
        return self._keeping.to_str().encode()

    def config(self) -> dict[str, Any]:
        """Return what `tokenizer_config.json` says that `tokenizer.json` does not."""
        roles = ("pad", "unk", "cls", "sep", "mask")
        return {f"{role}_token": getattr(self, role) for role in roles} | {
            "split_special_tokens": not self.keeps_special
        }

    def _backend(self, keep_special: bool) -> Any:
        return self._keeping if keep_special else self._splitting


def _settings_of(content: bytes, source: str) -> dict[str, Any]:
    try:
        settings = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise TokenizerError(f"{source} is not JSON ({error}): was the download complete?") from None
    model = settings.get("model") if isinstance(settings, dict) else None
    kind = model.get("type") if isinstance(model, dict) else None
    if kind is None:
        raise TokenizerError(f"{source} is no tokenizer.json: it has no model with a type. Give the file itself.")
    if kind not in _KINDS:
        raise TokenizerError(
            f"{source} holds a tokenizer of the kind {kind!r}; models of BERT and ALBERT have one of "
            f"{' or '.join(_KINDS)}: give the tokenizer that came with the checkpoint."
        )
    return settings


def _settle_lower_case(settings: dict[str, Any], wanted: bool | None, source: str) -> bool:
    """Return whether the file lowers the case, after changing it to what is wanted where it can be changed."""
    steps = _steps(settings.get("normalizer"))
    bert = [step for step in steps if step.get("type") == "BertNormalizer"]
    if wanted is not None:
        for step in bert:
            step["lowercase"] = wanted
    lowers = any(step.get("lowercase") for step in bert) or any(step.get("type") == "Lowercase" for step in steps)
    if wanted is not None and lowers != wanted:
        raise TokenizerError(
            f"{source} {'lowers' if lowers else 'does not lower'} the case, which do_lower_case={wanted} cannot "
            "change: leave do_lower_case out, or use the vocab.txt or spiece.model of the model."
        )
    return lowers


def _steps(normalizer: Any) -> list[dict[str, Any]]:
    """Return the normalizers of a sequence, however deep, in order."""
    if not isinstance(normalizer, dict):
        return []
    inner = normalizer.get("normalizers")
    return [step for part in inner for step in _steps(part)] if isinstance(inner, list) else [normalizer]


def _read(text: str, source: str) -> Any:
    try:
        return tokenizers.Tokenizer.from_str(text)
    except Exception as error:  # `tokenizers` raises nothing more precise
        raise TokenizerError(f"{source} is not a tokenizer ({error}): was the download complete?") from error


def _without_surrogates(text: str) -> str:
    """Replace what has no UTF-8, which Rust takes, by a character that no vocabulary has."""
    return _SURROGATES.sub("\U0010fffd", text)
