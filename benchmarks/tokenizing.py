"""How fast `Tokenizer.encode_batch` is next to Google's word piece tokenizer in plain Python.

    python benchmarks/tokenizing.py [folder with sentiment.train.data.gz] [vocab.txt]

The two take turns over the same sentences, so that a noisy machine is noisy for both.
"""

import argparse
import gzip
import os
import statistics
import time
import unicodedata
from pathlib import Path

from bert4albert.text import Tokenizer

SHARED = Path(__file__).parents[1].parent / "shared"
MAXLEN = 128


def is_cjk(character):
    code = ord(character)
    return (
        0x4E00 <= code <= 0x9FFF
        or 0x3400 <= code <= 0x4DBF
        or 0x20000 <= code <= 0x2A6DF
        or 0x2A700 <= code <= 0x2B73F
        or 0x2B740 <= code <= 0x2B81F
        or 0x2B820 <= code <= 0x2CEAF
        or 0xF900 <= code <= 0xFAFF
        or 0x2F800 <= code <= 0x2FA1F
    )


def is_punctuation(character):
    code = ord(character)
    if 33 <= code <= 47 or 58 <= code <= 64 or 91 <= code <= 96 or 123 <= code <= 126:
        return True
    return unicodedata.category(character).startswith("P")


def is_whitespace(character):
    return character in " \t\n\r" or unicodedata.category(character) == "Zs"


def is_control(character):
    return character not in "\t\n\r" and unicodedata.category(character) in ("Cc", "Cf")


def basic_tokens(text):
    """Split as Google's `BasicTokenizer` does."""
    cleaned = []
    for character in text:
        if character in "\0\ufffd" or is_control(character):
            continue
        if is_whitespace(character):
            cleaned.append(" ")
        elif is_cjk(character):
            cleaned.append(f" {character} ")
        else:
            cleaned.append(character)
    tokens = []
    for word in "".join(cleaned).split():
        decomposed = unicodedata.normalize("NFD", word.lower())
        plain = [character for character in decomposed if unicodedata.category(character) != "Mn"]
        spaced = [f" {character} " if is_punctuation(character) else character for character in plain]
        tokens.extend("".join(spaced).split())
    return tokens


def word_pieces(word, vocab):
    """Split a word as Google's `WordpieceTokenizer` does."""
    if len(word) > 200:
        return ["[UNK]"]
    pieces, start = [], 0
    while start < len(word):
        end = len(word)
        while end > start:
            piece = ("##" if start else "") + word[start:end]
            if piece in vocab:
                break
            end -= 1
        if end == start:
            return ["[UNK]"]
        pieces.append(piece)
        start = end
    return pieces


def encode_in_python(text, vocab):
    ids = [vocab[piece] for word in basic_tokens(text) for piece in word_pieces(word, vocab)]
    return [vocab["[CLS]"], *ids[: MAXLEN - 2], vocab["[SEP]"]]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=SHARED / "data" / "sentiment")
    parser.add_argument("vocab", nargs="?", type=Path, default=SHARED / "golden" / "tokenization" / "vocab_zh.txt")
    parser.add_argument("--runs", type=int, default=7)
    arguments = parser.parse_args()

    with gzip.open(arguments.folder / "sentiment.train.data.gz", "rt", encoding="utf-8") as lines:
        texts = [line.rsplit("\t", 1)[0] for line in lines]
    tokenizer = Tokenizer(arguments.vocab)
    vocab = dict(tokenizer.vocab)

    def fast():
        return tokenizer.encode_batch(texts, maxlen=MAXLEN)

    def plain():
        return [encode_in_python(text, vocab) for text in texts]

    token_ids, _ = fast()
    for row, expected in zip(token_ids, plain(), strict=True):
        assert row[: len(expected)].tolist() == expected

    rates = {"encode_batch": [], "plain Python": []}
    for _ in range(arguments.runs):
        for name, run in (("encode_batch", fast), ("plain Python", plain)):
            start = time.perf_counter()
            run()
            rates[name].append(len(texts) / (time.perf_counter() - start))

    print(f"{len(texts)} sentences, maxlen {MAXLEN}, {os.cpu_count()} cores, {arguments.runs} alternating runs")
    for name, values in rates.items():
        print(
            f"{name:13} {statistics.median(values):8,.0f} sentences/s (from {min(values):,.0f} to {max(values):,.0f})"
        )
    ratios = [fast / slow for fast, slow in zip(*rates.values(), strict=True)]
    print(f"ratio         {statistics.median(ratios):8.2f} (from {min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
