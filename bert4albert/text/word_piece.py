"""Word pieces: Google's BERT tokenizer, with words split by the `tokenizers` library."""

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

from tokenizers import models

from bert4albert.text.characters import (
    CJK_PUNCTUATION,
    CharacterTable,
    cased_words,
    is_cjk,
    is_punctuation,
    place_final_sigma,
    uncased_words,
)
from bert4albert.text.pieces import Piece, special_pattern

# Google's limit; the library's own is 100, which turns long words into [UNK].
MAX_WORD_LENGTH = 200
# Most words of any text are among its most frequent ones, and looking up a known word takes no splitting.
_REMEMBERED_WORDS = 1 << 16
_NO_SPACE_AFTER = re.compile(rf"([{re.escape(CJK_PUNCTUATION)}+\-/={{(<\[]) ")


class WordPiece:
    """The engine behind `Tokenizer` for a `vocab.txt`."""

    file_name = "vocab.txt"
    pad, unk, cls, sep, mask = "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"
    keeps_special = False

    def __init__(self, tokens: Sequence[str], do_lower_case: bool) -> None:
        self.tokens = list(tokens)
        self.vocab = {token: index for index, token in enumerate(self.tokens)}
        self.do_lower_case = do_lower_case
        self._table = CharacterTable(uncased_words if do_lower_case else cased_words)
        self._special = special_pattern((self.pad, self.unk, self.cls, self.sep, self.mask), self.vocab)
        self._words = models.WordPiece(self.vocab, unk_token=self.unk, max_input_chars_per_word=MAX_WORD_LENGTH)
        self._word_ids = lru_cache(_REMEMBERED_WORDS)(self._look_up)

    def __reduce__(self) -> tuple[Any, ...]:
        return WordPiece, (self.tokens, self.do_lower_case)

    def encode(self, texts: Sequence[str], keep_special: bool) -> list[list[int]]:
        """Return the token ids of each text."""
        normalize = self._normalize_around_special if keep_special else self._normalize
        return [[*chain.from_iterable(map(self._word_ids, normalize(text).split()))] for text in texts]

    def pieces(self, text: str, keep_special: bool) -> list[Piece]:
        """Return the tokens of one text with the characters they were made of; unknown words keep their text."""
        replaced = [self._table[ord(character)] for character in self._prepare(text)]
        if keep_special:
            for match in self._special.finditer(text):
                replaced[match.start() : match.end()] = [*match.group()]
                replaced[match.start()] = " " + replaced[match.start()]
                replaced[match.end() - 1] += " "
        positions = [index for index, part in enumerate(replaced) for _ in part]
        pieces = []
        for word in re.finditer("[^ ]+", "".join(replaced)):
            end = word.start()
            for piece in self._words.tokenize(word.group()):
                known = piece.id != self.vocab[self.unk]
                token = piece.value if known else word.group()
                start, end = end, end + len(token.removeprefix("##") if known else token)
                pieces.append(Piece(piece.id, token, positions[start], positions[end - 1] + 1))
        return pieces

    def decode(self, token_ids: Sequence[int]) -> str:
        """Join tokens to a text."""
        return join_word_pieces([self.tokens[index] for index in token_ids])

    def file_content(self) -> bytes:
        """Return what `vocab.txt` holds: one token a line."""
        return "".join(f"{token}\n" for token in self.tokens).encode()

    def _look_up(self, word: str) -> list[int]:
        return [piece.id for piece in self._words.tokenize(word)]

    def _prepare(self, text: str) -> str:
        return place_final_sigma(text) if self.do_lower_case else text

    def _normalize(self, text: str) -> str:
        return self._prepare(text).translate(self._table)

    def _normalize_around_special(self, text: str) -> str:
        parts = self._special.split(text)
        parts[::2] = map(self._normalize, parts[::2])
        return " ".join(parts)


def join_word_pieces(tokens: Sequence[str]) -> str:
    """Join tokens to a text: no spaces around Chinese characters, `##` joined, tokens in brackets left out."""
    text = ""
    for token in tokens:
        if token.startswith("[") and token.endswith("]"):
            continue
        if token.startswith("##"):
            text += token[2:]
        elif len(token) == 1 and is_cjk(token):
            text += token
        elif len(token) == 1 and is_punctuation(token):
            text += token + " "
        elif text and is_cjk(text[-1]):
            text += token
        else:
            text += " " + token
    text = re.sub(" +", " ", text)
    text = re.sub("' (re|m|s|t|ve|d|ll) ", r"'\1 ", text)
    text = _NO_SPACE_AFTER.sub(r"\1", text)
    return re.sub(r"(\d\.) (\d)", r"\1\2", text).strip()
