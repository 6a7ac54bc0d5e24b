"""What Google's programs do to a text, character by character, before they look words up."""

import unicodedata
from collections.abc import Callable

_CJK_RANGES = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)
_REPLACEMENT = "\ufffd"
# As bert4keras has it, which sets no space after any of these.
CJK_PUNCTUATION = (
    "＂＃＄％＆＇（）＊＋，－／：；＜＝＞＠［＼］＾＿｀｛｜｝～｟｠｢｣､　"
    "、〃〈〉《》「」『』【】〔〕〖〗〘〙〚〛〜〝〞〟〰〾〿–—‘’‛“”„‟…‧﹏﹑﹔·！？｡。"
)


class CharacterTable(dict[int, str]):
    """A table for `str.translate` that fills itself from a rule as characters are met."""

    def __init__(self, rule: Callable[[str], str]) -> None:
        super().__init__()
        self.rule = rule

    def __missing__(self, code: int) -> str:
        # Rust and C++ take UTF-8, which has no surrogates. Google drops the replacement character
        # from every text, so it is free to stand for them.
        surrogate = 0xD800 <= code <= 0xDFFF
        self[code] = _REPLACEMENT if surrogate else self.rule(chr(code))
        return self[code]


def is_cjk(character: str) -> bool:
    """Whether Google's tokenizer makes a word of this character: ideographs, but neither kana nor hangul."""
    return any(first <= ord(character) <= last for first, last in _CJK_RANGES)


def is_control(character: str) -> bool:
    """Whether Google's tokenizer drops this character."""
    if character in "\t\n\r":
        return False
    return character == _REPLACEMENT or unicodedata.category(character) in ("Cc", "Cf")


def is_punctuation(character: str) -> bool:
    """Whether this character is punctuation, which to Google's tokenizer includes ASCII symbols like $ and ^."""
    if character < "\x7f":
        return not character.isalnum() and character > " "
    return unicodedata.category(character).startswith("P")


def cased_words(character: str) -> str:
    """Replace a character as `BasicTokenizer(do_lower_case=False)` does: words end up between spaces."""
    if is_control(character):
        return ""
    if character.isspace():
        return " "
    if is_cjk(character):
        return f" {character} "
    return _spaced(character)


def uncased_words(character: str) -> str:
    """Replace a character as `BasicTokenizer(do_lower_case=True)` does: lower case, without accents."""
    if is_control(character) or character.isspace():
        return cased_words(character)
    decomposed = unicodedata.normalize("NFD", character.lower())
    plain = "".join(part for part in decomposed if unicodedata.category(part) != "Mn")
    return f" {plain} " if is_cjk(character) else "".join(map(_spaced, plain))


def without_accents(character: str) -> str:
    """Replace a character as ALBERT's `preprocess_text` does: compatibility form, without accents."""
    decomposed = unicodedata.normalize("NFKD", character)
    return "".join(part for part in decomposed if not unicodedata.combining(part))


def place_final_sigma(text: str) -> str:
    """Turn each capital sigma that ends a word into the small final one, and change nothing else.

    It is the only letter whose lower case depends on its neighbours, so no table can hold it.
    """
    if "Σ" not in text:
        return text
    # A soft hyphen does not end a word, as a dropped character must not; İ alone would grow to two letters.
    joined = "".join("\xad" if is_control(character) else character for character in text)
    lowered = joined.replace("İ", "i").lower()
    return "".join("ς" if low == "ς" else character for character, low in zip(text, lowered, strict=True))


def _spaced(character: str) -> str:
    return f" {character} " if is_punctuation(character) else character
