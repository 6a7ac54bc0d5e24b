"""The card of a pretrained model, a file beside its config: what suits it in fine-tuning."""

from __future__ import annotations

import dataclasses
import os
import sys
from dataclasses import dataclass
from typing import Any, TypeVar

from bert4albert.errors import ConfigError, require_choice
from bert4albert.finding import model_folder
from bert4albert.plain_files import read_json

CARD_FILE = "card.json"
_LARGEST = 10_000

T = TypeVar("T")


@dataclass(frozen=True)
class Card:
    """What the makers of a checkpoint recommend; None for what they leave open.

    Attributes:
        name: the name of the checkpoint's folder.
        pooling: how a text becomes one vector: 'cls', 'mean' or 'pooler'.
        learning_rate: the highest learning rate.
    """

    name: str = ""
    pooling: str | None = None
    learning_rate: float | None = None

    def choose(self, setting: str, given: T | None, otherwise: T, quiet: bool = False) -> T:
        """Return what the user gave, else what the card recommends, which is said in a line, else the default.

        Arguments:
            setting: 'pooling' or 'learning_rate'.
            given: the user's choice; None where there is none.
            otherwise: what to use where the card says nothing.
            quiet: whether to say nothing.
        """
        recommended = getattr(self, setting)
        if given is not None or recommended is None:
            return otherwise if given is None else given
        if not quiet:
            print(f"{setting}={recommended!r}, as the card of {self.name} recommends.", file=sys.stderr)
        return recommended


def read_card(source: Any) -> Card:
    """Return the card of a checkpoint.

    Arguments:
        source: a folder, or the name of a model that comes with the package; anything else has no card.

    Returns:
        The recommendations of its `card.json`, an empty card where there is none. Raises `ConfigError` for a file
        that is not `{"recommended": {...}}` with a pooling or a learning rate.
    """
    folder = model_folder(source) if isinstance(source, str | os.PathLike) else None
    if folder is None or not (folder / CARD_FILE).is_file():
        return Card()
    path = folder / CARD_FILE
    try:
        recommended = read_json(path, _LARGEST)["recommended"]
        settings = {**recommended}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{path} is no card ({error!r:.80}): write "
            '{"recommended": {"pooling": "mean", "learning_rate": 3e-4}}, or delete it.'
        ) from None
    known = [field.name for field in dataclasses.fields(Card) if field.name != "name"]
    for setting in settings:
        require_choice("A recommended setting", setting, known, str(path))
    if settings.get("pooling") is not None:
        require_choice("pooling", settings["pooling"], ("cls", "mean", "pooler"), str(path))
    rate = settings.get("learning_rate")
    if rate is not None and not (isinstance(rate, float) and 0 < rate < 1):
        raise ConfigError(f"learning_rate must be a number between 0 and 1; {path} gives {rate!r:.80}.")
    return Card(folder.resolve().name, **settings)
