"""`Tokenizer` and `SpTokenizer` with the methods and names of bert4keras, over the engines of `bert4albert.text`."""

from __future__ import annotations

import os
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import sentencepiece

from bert4albert.bert4keras.snippets import is_string, lowercase_and_normalize, truncate_sequences
from bert4albert.errors import TokenizerError
from bert4albert.text.characters import CJK_PUNCTUATION, is_cjk, is_punctuation
from bert4albert.text.vocabulary import is_redundant
from bert4albert.text.word_piece import WordPiece, join_word_pieces

__all__ = ["SpTokenizer", "Tokenizer", "TokenizerBase", "load_vocab", "save_vocab"]


def load_vocab(
    dict_path: str | os.PathLike[str],
    encoding: str = "utf-8",
    simplified: bool = False,
    startswith: Sequence[str] | None = None,
) -> Any:
    """Read a `vocab.txt`.

    Arguments:
        dict_path: the file.
        encoding: its encoding.
        simplified: whether to leave out tokens that no text can give.
        startswith: tokens that then come first.

    Returns:
        token -> id; if `simplified` the pair (that, the old ids of its tokens), for `keep_tokens`.
    """
    token_dict: dict[str, int] = {}
    with open(dict_path, encoding=encoding) as file:
        for line in file:
            token = (line.split() or [line.strip()])[0]
            token_dict[token] = len(token_dict)
    if not simplified:
        return token_dict
    tokens = list(startswith or [])
    by_id = sorted(token_dict, key=token_dict.__getitem__)
    first = set(tokens)
    tokens += [token for token in by_id if token not in first and not is_redundant(token)]
    return {token: index for index, token in enumerate(tokens)}, [token_dict[token] for token in tokens]


def save_vocab(dict_path: str | os.PathLike[str], token_dict: Mapping[str, int], encoding: str = "utf-8") -> None:
    """Write a `vocab.txt`, the tokens in the order of their ids."""
    with open(dict_path, "w", encoding=encoding) as file:
        file.writelines(f"{token}\n" for token in sorted(token_dict, key=token_dict.__getitem__))


class TokenizerBase(ABC):
    """What both tokenizers share.

    Arguments:
        token_start, token_end: the tokens around every text; None for none.
        pre_tokenize: a function from a text to a list of words, which are looked up whole first.
        token_translate: tokens that take the place of others.
    """

    def __init__(
        self,
        token_start: str | None = "[CLS]",
        token_end: str | None = "[SEP]",
        pre_tokenize: Callable[[str], Iterable[str]] | None = None,
        token_translate: Mapping[str, str] | None = None,
    ) -> None:
        self._token_pad, self._token_unk, self._token_mask = "[PAD]", "[UNK]", "[MASK]"
        self._token_start, self._token_end = token_start, token_end
        self._pre_tokenize = pre_tokenize
        self._token_translate = dict(token_translate or {})
        self._token_translate_inv = {new: old for old, new in self._token_translate.items()}

    def tokenize(self, text: str, maxlen: int | None = None) -> list[str]:
        """Return the tokens of a text, start and end included, cut to `maxlen` before the end."""
        tokens = [self._token_translate.get(token) or token for token in self._tokenize(text)]
        start = [] if self._token_start is None else [self._token_start]
        end = [] if self._token_end is None else [self._token_end]
        tokens = [*start, *tokens, *end]
        if maxlen is not None:
            truncate_sequences(maxlen, -len(end) - 1, tokens)
        return tokens

    def encode(
        self,
        first_text: str | list[str],
        second_text: str | list[str] | None = None,
        maxlen: int | None = None,
        pattern: str = "S*E*E",
        truncate_from: str | int = "right",
    ) -> tuple[list[int], list[int]]:
        """Return token ids and segment ids.

        Arguments:
            first_text, second_text: texts, or tokens.
            maxlen: the most ids; the longer text is cut.
            pattern: 'S*E*E' for no start before the second text, 'S*ES*E' for one.
            truncate_from: 'right', 'left', or the index of what is cut.
        """
        first = self.tokenize(first_text) if isinstance(first_text, str) else first_text
        second = self.tokenize(second_text) if isinstance(second_text, str) else second_text or []
        if maxlen is not None:
            ends = {"right": -int(self._token_end is not None) - 1, "left": int(self._token_start is not None)}
            index = ends[truncate_from] if isinstance(truncate_from, str) else truncate_from
            truncate_sequences(maxlen + int(second_text is not None and pattern == "S*E*E"), index, first, second)
        token_ids = self.tokens_to_ids(first)
        segment_ids = [0] * len(token_ids)
        if second_text is not None:
            if pattern == "S*E*E":
                second = second[int(bool(self._token_start)) :]
            token_ids += self.tokens_to_ids(second)
            segment_ids += [1] * (len(token_ids) - len(segment_ids))
        return token_ids, segment_ids

    @abstractmethod
    def token_to_id(self, token: str) -> int:
        """Return the id of a token."""

    @abstractmethod
    def id_to_token(self, i: int) -> str:
        """Return the token of an id."""

    def tokens_to_ids(self, tokens: Iterable[str]) -> list[int]:
        """Return the ids of tokens."""
        return [self.token_to_id(token) for token in tokens]

    def ids_to_tokens(self, ids: Iterable[int]) -> list[str]:
        """Return the tokens of ids."""
        return [self.id_to_token(i) for i in ids]

    @abstractmethod
    def decode(self, ids: Iterable[int]) -> str:
        """Return readable text."""

    @abstractmethod
    def _tokenize(self, text: str) -> list[str]:
        """Return the tokens of a text, without start and end."""

    def _set_special_ids(self, find: Callable[[str], int | None]) -> None:
        """Set `_token_start_id` and so on, of the special tokens that there are."""
        for name in ("pad", "unk", "mask", "start", "end"):
            token = getattr(self, f"_token_{name}")
            found = None if token is None else find(token)
            if found is not None:
                setattr(self, f"_token_{name}_id", found)


class Tokenizer(TokenizerBase):
    """Word pieces.

    Arguments:
        token_dict: path of a `vocab.txt`, or token -> id.
        do_lower_case: whether to lower the case and drop accents.
        word_maxlen: longest word that is split; only 200 is offered.
        kwargs: the arguments of `TokenizerBase`.
    """

    def __init__(self, token_dict: Any, do_lower_case: bool = False, word_maxlen: int = 200, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if word_maxlen != 200:
            raise TokenizerError(f"word_maxlen={word_maxlen} is not offered, only Google's 200; leave it out.")
        self._token_dict: dict[str, int] = load_vocab(token_dict) if is_string(token_dict) else token_dict
        self._token_dict_inv = {index: token for token, index in self._token_dict.items()}
        self._vocab_size = len(self._token_dict)
        self._do_lower_case = do_lower_case
        # The engine numbers tokens for itself; what this class gives out comes from `_token_dict`.
        tokens = list(self._token_dict)
        self._engine = WordPiece(tokens if self._token_unk in self._token_dict else [*tokens, "[UNK]"], do_lower_case)
        self._set_special_ids(self._token_dict.get)

    def token_to_id(self, token: str) -> int:
        """Return the id of a token, that of [UNK] if there is no such token."""
        found = self._token_dict.get(token)
        return getattr(self, "_token_unk_id") if found is None else found  # noqa: B009  (scripts set it)

    def id_to_token(self, i: int) -> str:
        """Return the token of an id."""
        return self._token_dict_inv[i]

    def decode(self, ids: Iterable[int], tokens: list[str] | None = None) -> str:
        """Return readable text, special tokens left out; `tokens` take the place of those of `ids`."""
        return join_word_pieces(tokens or self.ids_to_tokens(ids))

    def _tokenize(self, text: str, pre_tokenize: bool = True) -> list[str]:
        if not (pre_tokenize and self._pre_tokenize is not None):
            return [piece.token for piece in self._engine.pieces(text, keep_special=False)]
        words = self._pre_tokenize(lowercase_and_normalize(text) if self._do_lower_case else text)
        return [
            token
            for word in words
            for token in ([word] if word in self._token_dict else self._tokenize(word, pre_tokenize=False))
        ]

    def rematch(self, text: str, tokens: Iterable[str]) -> list[list[int]]:
        """Return, for each token of a text, the positions of its characters in the text; none for special tokens."""
        characters, positions = "", []
        for position, character in enumerate(text.lower() if self._do_lower_case else text):
            if self._do_lower_case:
                character = lowercase_and_normalize(character)
            kept = "".join(c for c in character if c not in "\0�" and not self._is_control(c))
            characters += kept
            positions += [position] * len(kept)
        mapping: list[list[int]] = []
        end = 0
        for token in tokens:
            if self._is_special(token):
                mapping.append([])
                continue
            stem = self.stem(token)
            start = characters.index(stem, end)
            end = start + len(stem)
            mapping.append(positions[start:end])
        return mapping

    @staticmethod
    def stem(token: str) -> str:
        """Return a token without the ## before it."""
        return token.removeprefix("##")

    @staticmethod
    def _is_space(ch: str) -> bool:
        return ch in " \n\r\t" or unicodedata.category(ch) == "Zs"

    @staticmethod
    def _is_punctuation(ch: str) -> bool:
        return is_punctuation(ch)

    @staticmethod
    def _cjk_punctuation() -> str:
        return CJK_PUNCTUATION

    @staticmethod
    def _is_cjk_character(ch: str) -> bool:
        return is_cjk(ch)

    @staticmethod
    def _is_control(ch: str) -> bool:
        return unicodedata.category(ch) in ("Cc", "Cf")

    @staticmethod
    def _is_special(ch: str) -> bool:
        return ch.startswith("[") and ch.endswith("]")

    @staticmethod
    def _is_redundant(token: str) -> bool:
        return is_redundant(token)


class SpTokenizer(TokenizerBase):
    """Sentence pieces, as the SentencePiece model gives them: without what ALBERT does to texts before.

    Arguments:
        sp_model_path: the model's file.
        kwargs: the arguments of `TokenizerBase`.
    """

    def __init__(self, sp_model_path: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.sp_model = sentencepiece.SentencePieceProcessor()
        self.sp_model.Load(str(sp_model_path))
        if self.sp_model.pad_id() >= 0:
            self._token_pad = self.sp_model.id_to_piece(self.sp_model.pad_id())
        self._token_unk = self.sp_model.id_to_piece(self.sp_model.unk_id())
        self._vocab_size = self.sp_model.get_piece_size()
        self._set_special_ids(self.sp_model.piece_to_id)

    def token_to_id(self, token: str) -> int:
        """Return the id of a piece."""
        return self.sp_model.piece_to_id(token)

    def id_to_token(self, i: int) -> str:
        """Return the piece of an id, '' for an id that is too large."""
        return self.sp_model.id_to_piece(int(i)) if i < self._vocab_size else ""

    def decode(self, ids: Iterable[int]) -> str:
        """Return readable text."""
        tokens = [self._token_translate_inv.get(token) or token for token in self.ids_to_tokens(ids)]
        return self.sp_model.decode_pieces(tokens)

    def _tokenize(self, text: str) -> list[str]:
        if self._pre_tokenize is not None:
            text = " ".join(self._pre_tokenize(text))
        return self.sp_model.encode_as_pieces(text)

    def _is_special(self, i: int) -> bool:
        return self.sp_model.is_control(i) or self.sp_model.is_unknown(i) or self.sp_model.is_unused(i)

    def _is_decodable(self, i: int) -> bool:
        return i < self._vocab_size and not self._is_special(i)
