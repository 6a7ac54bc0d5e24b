"""How close a generated text is to the expected one."""

from collections import Counter


def normalised(text: str) -> str:
    """Return a text in lower case without white space, as answers are compared."""
    return "".join(text.lower().split())


def rouge_l(expected: str, given: str) -> float:
    """Return the F1 of the longest common subsequence of two texts' characters; 1 where both are empty."""
    lengths = [0] * (len(given) + 1)
    for character in expected:
        previous = lengths
        lengths = [0]
        for i, other in enumerate(given):
            lengths.append(previous[i] + 1 if character == other else max(previous[i + 1], lengths[i]))
    return _f1(lengths[-1], expected, given)


def character_f1(expected: str, given: str) -> float:
    """Return the F1 of two texts as bags of characters; 1 where both are empty."""
    return _f1((Counter(expected) & Counter(given)).total(), expected, given)


def _f1(common: int, expected: str, given: str) -> float:
    return 2 * common / (len(expected) + len(given)) if expected or given else 1.0
