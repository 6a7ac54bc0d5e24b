"""Building a vocabulary for Chinese text from a corpus: characters as they are, word pieces for Latin text."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Iterator

from tokenizers import Tokenizer as TokenizersTokenizer
from tokenizers import models, pre_tokenizers, trainers

from bert4albert.errors import DataError
from bert4albert.pretraining.corpus import Corpus, Paths
from bert4albert.pretraining.progress import ProgressLine
from bert4albert.text.characters import CharacterTable, cased_words, is_control, uncased_words
from bert4albert.text.word_piece import WordPiece

SPECIAL_TOKENS = (WordPiece.pad, WordPiece.unk, WordPiece.cls, WordPiece.sep, WordPiece.mask)

# Text is typed with these even where a corpus of edited prose lacks them.
_PUNCTUATION = (
    string.punctuation + "，。、；：？！…—～·「」『』《》〈〉【】〔〕（）［］｛｝"
    "“”‘’￥％＂＇＆＊＋－／＝＠＃＜＞＿｜°℃×÷①②③④⑤★☆"
)
_WORD = re.compile("[A-Za-z0-9]{2,}")


def build_vocabulary(files: Paths, size: int = 8000, minimum_count: int = 10, do_lower_case: bool = True) -> list[str]:
    r"""Build a vocabulary from a corpus.

    Arguments:
        files: paths of the corpus, as `Corpus` reads it.
        size: the number of tokens; the most frequent characters are kept where they alone exceed it.
        minimum_count: how often a single character must occur to become a token.
        do_lower_case: whether text is lower-cased and loses its accents before it is counted.

    Returns:
        The tokens in the order of their ids: [PAD] [UNK] [CLS] [SEP] [MASK], letters and digits (also as
        continuation `##`), punctuation, characters from frequent to rare, word pieces for Latin words and
        numbers. Raises `DataError` for an empty corpus, or a size with no room for the fixed tokens.

    Examples:
        >>> from pathlib import Path
        >>> from bert4albert.pretraining import build_vocabulary
        >>> _ = Path("corpus.txt").write_text("今天很好。\n明天更好。\n\n后天也好。\n", encoding="utf-8")
        >>> tokens = build_vocabulary("corpus.txt", minimum_count=2)
        >>> tokens[:5]
        ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]']
        >>> tokens[-2:]
        ['天', '好']
    """
    alphabet = string.digits + string.ascii_lowercase + ("" if do_lower_case else string.ascii_uppercase)
    fixed = [*SPECIAL_TOKENS, *alphabet, *(f"##{letter}" for letter in alphabet), *dict.fromkeys(_PUNCTUATION)]
    if size < len(fixed):
        raise DataError(f"A vocabulary of {size} tokens has no room for the {len(fixed)} that every one has.")
    words = _count_words(Corpus(files), uncased_words if do_lower_case else cased_words)
    frequent = [word for word, n in _by_frequency(words) if len(word) == 1 and n >= minimum_count]
    tokens = dict.fromkeys([*fixed, *frequent])
    latin = {word: count for word, count in _by_frequency(words) if _WORD.fullmatch(word)}
    if len(tokens) < size and latin:
        tokens.update(dict.fromkeys(_train_pieces(latin, size, alphabet)))
    return list(tokens)[:size]


def _count_words(corpus: Corpus, rule: object) -> Counter[str]:
    table = CharacterTable(rule)  # type: ignore[arg-type]
    progress, words = ProgressLine("Counting"), Counter[str]()
    for document in corpus:
        words.update(" ".join(document).translate(table).split())
        progress.show(corpus.fraction_read)
    if not words:
        raise DataError(f"The corpus ({', '.join(map(str, corpus.paths))}) holds no text: there is nothing to count.")
    progress.show(1.0, last=True)
    return words


def _by_frequency(words: Counter[str]) -> list[tuple[str, int]]:
    """Return words and counts from frequent to rare, equal ones in the order of their letters."""
    readable = ((word, count) for word, count in words.items() if not any(map(is_control, word)))
    return sorted(readable, key=lambda item: (-item[1], item[0]))


def _train_pieces(words: dict[str, int], size: int, alphabet: str) -> list[str]:
    trained = TokenizersTokenizer(models.WordPiece(unk_token=WordPiece.unk))
    trained.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.WordPieceTrainer(vocab_size=size, initial_alphabet=list(alphabet), show_progress=False)
    trained.train_from_iterator(_repeated(words), trainer)
    vocab = trained.get_vocab()
    return sorted(vocab, key=vocab.__getitem__)


def _repeated(words: dict[str, int]) -> Iterator[str]:
    for word, count in words.items():
        for _ in range(count // 1000):
            yield " ".join([word] * 1000)
        yield " ".join([word] * (count % 1000))
