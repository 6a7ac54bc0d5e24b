"""Cut the passages of the recipe: texts written for it, whole and in pieces; speech and words of the corpus.

    python benchmarks/embedded_checkpoint/passages.py --corpus train.txt.xz --dictionary dict.txt --out passages

Writes text files, one passage a line, into the folder: `texts.txt` (the two files beside this script), `pieces.txt`
(their sentences, some of their clauses, and runs of sentences), `clauses.txt`, `own_words.txt` (their characters and
words), `speech.txt` (sentences of the corpus with many words of everyday speech and no classical ones), `prose.txt`
(100,000 of its other sentences), `words.txt` (characters of the corpus, and pairs that occur together more often than
chance) and, with the word list of jieba 0.42.1 (MIT, `jieba/dict.txt` of its source package), `dictionary.txt` (its
commonest words of two to four characters, without names of people and places, and all its adjectives and idioms).
"""

import argparse
import collections
import itertools
import math
import random
import re
from collections.abc import Iterator
from pathlib import Path

from bert4albert.pretraining.corpus import Corpus

OWN = [Path(__file__).with_name(name) for name in ("reviews_zh.txt", "everyday_zh.txt")]
SENTENCE = re.compile('[^。！？!?；;]+[。！？!?；;]*[”』」’"]*')
OWN_SENTENCE = re.compile("[^。！？!?；;…~～]+[。！？!?；;…~～]*")
LATIN = re.compile("[A-Za-z0-9]")
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


def spoken_and_other(corpus: list[str]) -> tuple[list[str], list[str]]:
    """Return the sentences that sound like speech, and the others."""
    parts: tuple[list[str], list[str]] = ([], [])
    for sentence in sentences(corpus):
        parts[not sounds_spoken(sentence)].append(sentence)
    return parts


def sounds_spoken(sentence: str) -> bool:
    return (
        share(sentence, SPOKEN) >= 0.22
        and len(LATIN.findall(sentence)) < 0.1 * len(sentence)
        and share(sentence, CLASSICAL) < 0.03
    )


def listed_words(dictionary: Path) -> list[str]:
    """Return words of jieba's list, the commonest first: lines of a word, how often it was seen, and its class."""
    rows = [line.split() for line in dictionary.read_text(encoding="utf-8").splitlines()]
    rows = [row for row in rows if HAN.fullmatch(row[0]) and 2 <= len(row[0]) <= 4]
    rows.sort(key=lambda row: -int(row[1]))
    common = [word for word, _, kind in rows if not kind.startswith(("nr", "ns", "nt", "m", "t"))][:40_000]
    telling = [word for word, count, kind in rows if kind in ("a", "i", "l", "z") and int(count) >= 3]
    return list(dict.fromkeys(common + telling))


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


def pieces(texts: list[str]) -> list[str]:
    """Return the sentences of the texts, some of their clauses, and runs of sentences of one text or of several."""
    found: dict[str, None] = {}
    split = [OWN_SENTENCE.findall(text) for text in texts]
    flat = list(itertools.chain.from_iterable(split))
    found.update(dict.fromkeys(flat))
    for sentence in flat:
        found.update({c: None for c in re.split("[，,、]", sentence) if len(c) >= 6 and random.random() < 0.35})
    for text in split:
        for _ in range(2 if len(text) >= 3 else 0):
            start = random.randrange(len(text) - 1)
            found["".join(text[start : random.randint(start + 2, len(text))])] = None
    for _ in range(round(0.9 * len(texts))):
        run, place, goal = "", random.randrange(len(flat)), random.randint(40, 120)
        near = random.random() < 0.5
        while len(run) < goal:
            run += flat[place % len(flat)]
            place = place + 1 if near else random.randrange(len(flat))
        found[run] = None
    whole = set(texts)
    return [piece for piece in map(str.strip, found) if 5 <= len(piece) <= 140 and piece not in whole]


def all_clauses(texts: list[str]) -> list[str]:
    cut = (clause.strip() for text in texts for clause in re.split("[，,、。！？!?；;…~～：:]", text))
    return list(dict.fromkeys(clause for clause in cut if 4 <= len(clause) <= 24))


def own_words(texts: list[str]) -> list[str]:
    """Return characters, and runs of 2 to 4 of them that occur together more often than chance."""
    counts: collections.Counter[str] = collections.Counter()
    for run in HAN.findall("\n".join(texts)):
        for size in (1, 2, 3, 4):
            counts.update(run[place : place + size] for place in range(len(run) - size + 1))
    total = sum(count for word, count in counts.items() if len(word) == 1)

    def bound(word: str) -> float:
        """The pointwise mutual information of the parts, where it is least."""
        cuts = ((counts[word[:place]], counts[word[place:]]) for place in range(1, len(word)))
        return min(math.log(counts[word] * total / (left * right)) for left, right in cuts)

    least = {2: (3, 1.5), 3: (4, 2.5), 4: (4, 2.5)}
    return [
        word
        for word, count in counts.items()
        if (count >= 3 if len(word) == 1 else count >= least[len(word)][0] and bound(word) > least[len(word)][1])
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", nargs="+", required=True)
    parser.add_argument("--dictionary", type=Path, help="the word list of jieba")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    random.seed(0)
    texts = [line for path in OWN for line in path.read_text(encoding="utf-8").splitlines()]
    speech, prose = spoken_and_other(args.corpus)
    random.shuffle(speech)
    random.shuffle(prose)
    parts = {"texts": texts, "pieces": pieces(texts), "clauses": all_clauses(texts), "own_words": own_words(texts)}
    parts |= {"speech": speech, "prose": prose[:100_000], "words": words(args.corpus)}
    if args.dictionary:
        parts["dictionary"] = listed_words(args.dictionary)
    args.out.mkdir(parents=True, exist_ok=True)
    for name, passages in parts.items():
        (args.out / f"{name}.txt").write_text("\n".join(passages) + "\n", encoding="utf-8")
        print(f"{name}: {len(passages):,} passages, {sum(map(len, passages)):,} characters")


if __name__ == "__main__":
    main()
