"""What the two tokenizing engines share: the token with its place, and special tokens written in a text."""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple


class Piece(NamedTuple):
    """One token of a text: its id, its spelling, and text[start:end], the characters it was made of."""

    token_id: int
    token: str
    start: int
    end: int


def special_pattern(special_tokens: Iterable[str], vocab: Mapping[str, int]) -> re.Pattern[str]:
    """Return a pattern whose `split` leaves text at even places and the vocabulary's special tokens at odd ones."""
    return re.compile("(" + "|".join(re.escape(token) for token in special_tokens if token in vocab) + ")")
