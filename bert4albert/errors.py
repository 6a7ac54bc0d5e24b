"""The errors that a user's input can raise, under one base class, and how bad input is told."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable
from numbers import Integral
from typing import Any

_LONGEST_MESSAGE = 2000


class Bert4AlbertError(Exception):
    """Base class of every error this package raises for a user's input; its message is one line, safe to print.

    Arguments:
        message: what was given, what was expected and what to do; it is cut in its middle if it is very long.

    Examples:
        >>> from bert4albert import Bert4AlbertError, build_model
        >>> try:
        ...     build_model("albert_tiny_ch")
        ... except Bert4AlbertError as error:
        ...     print(error)
        There is no config file or model folder at albert_tiny_ch. Did you mean 'albert_tiny_zh'?
    """

    def __init__(self, message: object = "") -> None:
        text = " ".join(str(message).splitlines())
        if len(text) > _LONGEST_MESSAGE - 100:
            # What is wrong stands at the beginning, and what to do at the end.
            text = f"{text[:1400]} [...] {text[-400:]}"
        super().__init__(printable(text)[:_LONGEST_MESSAGE])


class ConfigError(Bert4AlbertError, ValueError):
    """A model configuration or an argument of `build_model` that cannot be used.

    Examples:
        >>> from bert4albert import build_model
        >>> build_model("albert_tiny_zh", sharing="unsharde")
        Traceback (most recent call last):
        bert4albert.errors.ConfigError: sharing must be one of shared, unshared, ... Did you mean 'unshared'?
    """


class CheckpointError(Bert4AlbertError, ValueError):
    """A checkpoint that cannot be read, or that does not fit the model.

    Examples:
        >>> import numpy as np
        >>> from bert4albert import build_model
        >>> build_model("albert_tiny_zh", {"a": np.zeros(3)})
        Traceback (most recent call last):
        bert4albert.errors.CheckpointError: ... is not a checkpoint of a known kind: it has 1 tensors (a); ...
    """


class TokenizerError(Bert4AlbertError, ValueError):
    """A vocabulary that cannot be read, or text that cannot be encoded as asked.

    Examples:
        >>> from bert4albert import Tokenizer
        >>> Tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]"]).mask_id
        Traceback (most recent call last):
        bert4albert.errors.TokenizerError: This vocabulary has no [MASK], ...
    """


class DataError(Bert4AlbertError, ValueError):
    """A data file or a set of examples that cannot be used.

    Examples:
        >>> from bert4albert.batches import pad
        >>> pad([[2, 5, 3]], length=2)
        Traceback (most recent call last):
        bert4albert.errors.DataError: Row 0 has 3 items, more than length=2: cut it, or leave length out.
    """


class TrainingError(Bert4AlbertError, ArithmeticError):
    """Training that cannot go on, since its loss or its weights are no longer numbers.

    Examples:
        >>> from bert4albert import Bert4AlbertError, TrainingError
        >>> issubclass(TrainingError, Bert4AlbertError) and issubclass(TrainingError, ArithmeticError)
        True
    """


class ExportError(Bert4AlbertError, RuntimeError):
    """A model that cannot be written in the format asked for, with the versions installed.

    Examples:
        >>> from bert4albert import Bert4AlbertError, ExportError
        >>> issubclass(ExportError, Bert4AlbertError) and issubclass(ExportError, RuntimeError)
        True
    """


def printable(text: str) -> str:
    """Return text whose control characters, which a terminal would follow, are spelled as JSON spells them."""
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] if ord(c) != 127 else "\\u007f" for c in text)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ' Did you mean ...?' for the closest known name, or an empty string."""
    close = difflib.get_close_matches(name[:100], list(known), n=1, cutoff=0.75)
    return f" Did you mean {close[0]!r}?" if close else ""


def require_choice(
    name: str, value: Any, choices: Iterable[Any], source: str = "", error: type[Bert4AlbertError] = ConfigError
) -> None:
    """Raise an error unless a value is one of the choices.

    Arguments:
        name: what to call the value.
        value: what was given.
        choices: what may be given.
        source: who gave it, such as the name of a file; '' for a caller.
        error: the class to raise.
    """
    choices = list(choices)
    if not any(type(value) is type(choice) and value == choice for choice in choices):
        hint = did_you_mean(value, filter(_is_text, choices)) if _is_text(value) else ""
        given = f"; {source} gives {value!r:.80}" if source else f", not {value!r:.80}"
        raise error(f"{name} must be one of {', '.join(map(str, choices))}{given}.{hint}")


def require_whole(
    name: str,
    value: Any,
    low: int,
    high: int | None = None,
    source: str = "",
    error: type[Bert4AlbertError] = ConfigError,
) -> None:
    """Raise an error unless a value is a whole number within bounds, NumPy's included.

    Arguments:
        name: what to call the value.
        value: what was given.
        low: the lowest value that is allowed.
        high: the highest one; None for any.
        source: who gave it, as for `require_choice`.
        error: the class to raise.
    """
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not whole or value < low or (high is not None and value > high):
        bound = f"{low} or more" if high is None else f"from {low} to {high}"
        given = f"; {source} gives {value!r:.80}" if source else f", not {value!r:.80}"
        raise error(f"{name} must be a whole number, {bound}{given}.")


def _is_text(value: Any) -> bool:
    return isinstance(value, str)
