"""Sentence pieces: the tokenizer of Google's English ALBERT, over the `sentencepiece` library."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import sentencepiece

from bert4albert.text.characters import CharacterTable, without_accents
from bert4albert.text.pieces import Piece, special_pattern

_WORD_START = "▁"


class SentencePiece:
    """The engine behind `Tokenizer` for a `spiece.model`."""

    file_name = "spiece.model"
    pad, unk, cls, sep, mask = "<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"
    keeps_special = False

    def __init__(self, model: bytes, do_lower_case: bool) -> None:
        self.do_lower_case = do_lower_case
        self._model = model
        self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        self.tokens = [self._processor.id_to_piece(index) for index in range(self._processor.get_piece_size())]
        self.vocab = {token: index for index, token in enumerate(self.tokens)}
        self._table = CharacterTable(without_accents)
        self._special = special_pattern((self.pad, self.unk, self.cls, self.sep, self.mask), self.vocab)
        self._digit_comma = {index for index, token in enumerate(self.tokens) if ends_in_digit_comma(token)}

    def __reduce__(self) -> tuple[Any, ...]:
        return SentencePiece, (self._model, self.do_lower_case)

    def encode(self, texts: Sequence[str], keep_special: bool) -> list[list[int]]:
        """Return the token ids of each text."""
        encoded = self._processor.encode([self._normalize(text) for text in texts], return_type=int)
        for index, (text, token_ids) in enumerate(zip(texts, encoded, strict=True)):
            special = keep_special and self._special.search(text)
            if special or not self._digit_comma.isdisjoint(token_ids):
                encoded[index] = [piece.token_id for piece in self.pieces(text, keep_special)]
        return encoded

    def pieces(self, text: str, keep_special: bool) -> list[Piece]:
        """Return the tokens of one text with the characters they were made of."""
        parts = self._special.split(text) if keep_special else [text]
        pieces: list[Piece] = []
        start = 0
        for index, part in enumerate(parts):
            end = start + len(part)
            if index % 2:
                pieces.append(Piece(self.vocab[part], part, start, end))
            else:
                pieces.extend(self._plain_pieces(part, start))
            start = end
        return pieces

    def decode(self, token_ids: Sequence[int]) -> str:
        """Join tokens to a text, special tokens left out."""
        processor = self._processor
        return processor.decode(
            [index for index in token_ids if not processor.is_control(index) and not processor.is_unknown(index)]
        )

    def file_content(self) -> bytes:
        """Return what the model's file holds."""
        return self._model

    def _normalize(self, text: str) -> str:
        normalized = " ".join(text.split()).translate(self._table)
        return normalized.lower() if self.do_lower_case else normalized

    def _plain_pieces(self, text: str, offset: int) -> Iterator[Piece]:
        """Yield the tokens of a text without special tokens that begins at `offset`."""
        normalized, positions = self._normalize(text), self._positions(text)
        for token, start, end in self._spans(normalized):
            start += len(normalized[start:end]) - len(normalized[start:end].lstrip(" "))
            first = positions[start] if start < len(positions) else len(text)
            last = positions[end - 1] + 1 if end > start else first
            yield Piece(self.vocab.get(token, self.vocab[self.unk]), token, offset + first, offset + last)

    def _positions(self, text: str) -> list[int]:
        """Return the place in `text` of each character of its normalized form."""
        positions: list[int] = []
        for word in re.finditer(r"\S+", text):
            if positions:
                positions.append(word.start())
            for index, character in enumerate(word.group(), word.start()):
                positions.extend([index] * len(self._table[ord(character)]))
        return positions

    def _spans(self, normalized: str) -> Iterator[tuple[str, int, int]]:
        """Yield each piece with its start and end, after ALBERT's rule for a comma that follows a digit.

        A piece like `9,` is split: the comma stands alone and the number is encoded anew.
        """
        mapping = self._processor.encode(normalized, return_type="offset_mapping")
        for token, (start, end) in zip(mapping["pieces"], mapping["offsets"], strict=True):
            if not ends_in_digit_comma(token):
                yield token, start, end
                continue
            number = token[:-1].replace(_WORD_START, "")
            again = self._processor.encode(number, return_type="offset_mapping")
            number_start = end - 1 - len(number)
            for index, (part, (first, last)) in enumerate(zip(again["pieces"], again["offsets"], strict=True)):
                if index == 0 and not token.startswith(_WORD_START):
                    part = part.removeprefix(_WORD_START)
                if part:
                    yield part, number_start + first, number_start + last
            yield ",", end - 1, end


def ends_in_digit_comma(token: str) -> bool:
    """Whether ALBERT's program splits this piece: its comma follows a digit."""
    return len(token) > 1 and token[-1] == "," and token[-2].isdigit()
