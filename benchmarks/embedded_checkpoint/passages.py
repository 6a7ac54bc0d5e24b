"""Cut the passages of the recipe: what in a corpus sounds like speech, its words, and everyday sentences joined.

    python benchmarks/embedded_checkpoint/passages.py --corpus train.txt.xz --out passages

Writes text files, one passage a line, into the folder: `speech.txt` (sentences of the corpus with many words of
everyday speech and no classical ones), `words.txt` (characters, and pairs that occur together more often than
chance), `everyday.txt` (the file beside this script) and `joined.txt` (runs of it, as long as reviews are).
"""

import argparse
import collections
import math
import random
import re
from collections.abc import Iterator
from pathlib import Path

from bert4albert.pretraining.corpus import Corpus

EVERYDAY = Path(__file__).with_name("everyday_zh.txt")
SENTENCE = re.compile('[^。！？!?；;]+[。！？!?；;]*[”』」’"]*')
HAN = re.compile("[\u4e00-\u9fff]+")
SPOKEN = set("我你您他她咱俺吗呢吧啊呀哦啦嘛很太真挺好坏爱喜欢想觉让给买吃喝看说走来去家妈爸孩朋友了着过得儿哪怎么这那")
CLASSICAL = set("之乎者也矣焉哉曰尔汝吾其乃皆遂")


def share(text: str, letters: set[str]) -> float:
    return sum(letter in letters for letter in text) / len(text)


def sentences(corpus: list[str]) -> Iterator[str]:
    """Yield every sentence once, those above 110 characters in pieces of whole clauses."""
    seen = set()
    for document in Corpus(corpus):
        for line in document:
            for sentence in SENTENCE.findall(line):
                for piece in clauses(sentence.strip(' 　“”"')):
                    if 8 <= len(piece) <= 120 and piece not in seen:
                        seen.add(piece)
                        yield piece


def clauses(sentence: str) -> list[str]:
    if len(sentence) <= 110:
        return [sentence]
    pieces = [""]
    for clause in re.findall("[^，,：:]+[，,：:]?", sentence):
        if pieces[-1] and len(pieces[-1]) + len(clause) > 90:
            pieces.append("")
        pieces[-1] += clause
    return pieces


def spoken(corpus: list[str]) -> list[str]:
    latin = re.compile("[A-Za-z0-9]")
    return [
        sentence
        for sentence in sentences(corpus)
        if share(sentence, SPOKEN) >= 0.22
        and len(latin.findall(sentence)) < 0.1 * len(sentence)
        and share(sentence, CLASSICAL) < 0.03
    ]


def words(corpus: list[str]) -> list[str]:
    """Return characters, then pairs with a pointwise mutual information above 3, counted in every fourth line."""
    counts: collections.Counter[str] = collections.Counter()
    lines = (line for document in Corpus(corpus) for line in document)
    for number, line in enumerate(lines):
        if number % 4 == 0:
            for run in HAN.findall(line):
                counts.update(run)
                counts.update(run[place : place + 2] for place in range(len(run) - 1))
    total = sum(count for word, count in counts.items() if len(word) == 1)
    pairs = [
        word
        for word, count in counts.items()
        if len(word) == 2 and count >= 15 and math.log(count * total / (counts[word[0]] * counts[word[1]])) > 3
    ]
    characters = [word for word, count in counts.items() if len(word) == 1 and count >= 5]
    return characters + sorted(pairs, key=lambda word: -counts[word])


def joined(lines: list[str], count: int) -> list[str]:
    """Return runs of 30 to 126 characters: half of neighbours, which are about one thing, half from anywhere."""
    found: list[str] = []
    while len(found) < count:
        place, goal, text = random.randrange(len(lines)), random.randint(30, 110), ""
        near = random.random() < 0.5
        while len(text) < goal:
            text += lines[place]
            place = (place + random.randint(1, 3)) % len(lines) if near else random.randrange(len(lines))
        if len(text) <= 126:
            found.append(text)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--joined", type=int, default=2700, help="how many runs of everyday sentences")
    args = parser.parse_args()
    random.seed(0)
    everyday = EVERYDAY.read_text(encoding="utf-8").splitlines()
    speech = spoken(args.corpus)
    random.shuffle(speech)
    parts = {"speech": speech, "words": words(args.corpus), "everyday": everyday}
    args.out.mkdir(parents=True, exist_ok=True)
    for name, passages in {**parts, "joined": joined(everyday, args.joined)}.items():
        (args.out / f"{name}.txt").write_text("\n".join(passages) + "\n", encoding="utf-8")
        print(f"{name}: {len(passages):,} passages, {sum(map(len, passages)):,} characters")


if __name__ == "__main__":
    main()
