"""FillMask: which words may stand where a text has [MASK]."""

from __future__ import annotations

from typing import Any, NamedTuple, NoReturn

import keras
import numpy as np

from bert4albert.batches import pad, predict_in_buckets
from bert4albert.errors import ConfigError, DataError, require_whole
from bert4albert.model import trunk_of
from bert4albert.tasks.example import Columns, Data, Fields, Source, checked_text
from bert4albert.text import Tokenizer


class Filling(NamedTuple):
    """A token that may stand for a [MASK], and its probability."""

    token: str
    score: float


class FillMask:
    """Fill each [MASK] of a text with the tokens that the masked language model finds most probable.

    Arguments:
        backbone: a trunk with the masked-LM head: `build_model(..., with_mlm=True)`.
        tokenizer: its `Tokenizer`, with [MASK].
        maxlen: the most tokens of a text.

    Raises `ConfigError` for a model without the head, or a tokenizer that is not its own.

    Examples:
        >>> from bert4albert import Tokenizer, build_model
        >>> from bert4albert.tasks import FillMask
        >>> filler = FillMask(build_model("albert_tiny_zh", with_mlm=True), Tokenizer("albert_tiny_zh"))
        >>> [fillings] = filler.predict(["今天[MASK]气很好"], top_k=3)[0]
        >>> len(fillings)
        3
    """

    def __init__(self, backbone: keras.Model, tokenizer: Tokenizer, *, maxlen: int = 128) -> None:
        self.backbone = trunk_of(backbone)
        self.tokenizer = tokenizer
        self.maxlen = maxlen
        config = self.backbone.config
        if not config.with_mlm or config.application != "encoder":
            raise ConfigError("FillMask needs the masked-LM head of an encoder: build_model(..., with_mlm=True).")
        if tokenizer.vocab_size > config.vocab_size or maxlen > config.max_length:
            raise ConfigError(
                f"The model has {config.vocab_size} words and {config.max_length} positions, too few for a tokenizer "
                f"of {tokenizer.vocab_size} tokens and maxlen={maxlen}."
            )
        self.mask_id = tokenizer.mask_id
        positions = keras.Input((None,), dtype="int32", name="positions")
        logits = self.backbone.word_logits(self.backbone.hidden_states[-1], positions)
        probabilities = keras.layers.Softmax(dtype="float32", name="probabilities")(logits)
        self.model = keras.Model([*self.backbone.inputs[:2], positions], probabilities)

    def predict(
        self, texts: Data, top_k: int = 5, batch_size: int = 32, *, columns: Columns | None = None
    ) -> list[list[list[Filling]]]:
        """Return the most probable tokens for each [MASK] of each text.

        Each mask is filled for itself, as if the others stayed.

        Arguments:
            texts: texts with [MASK] in them, in any form that `Task` takes data in.
            top_k: how many tokens for each.
            batch_size: texts a batch.
            columns: the name of the text in data with other names than 'text': `{"text": "its name"}`.

        Returns:
            For each text a list for each of its masks, in order, of `Filling`s, the most probable first. Raises
            `DataError` for a text without a mask, or whose mask stands beyond `maxlen`.
        """
        require_whole("top_k", top_k, 1, self.tokenizer.vocab_size)
        if isinstance(texts, str):
            raise DataError(f"predict takes a list of texts, not one: use predict([{texts[:20]!r}]).")
        fields = Fields({"text": ("text", "sentence")}, None, "It must be a text.")
        rows = Source(fields, lambda _part, text, _place: text, columns, answered=False).rows(texts)
        values = [fields.texts(row.value)[0] if isinstance(row.value, dict) else row.value for row in rows]
        found = [checked_text(value, row.place) for value, row in zip(values, rows, strict=True)]
        if not found:
            return []
        inputs = self.tokenizer.encode_many(found, maxlen=self.maxlen, keep_special=True)
        masks = [[place for place, token in enumerate(ids) if token == self.mask_id] for ids in inputs[0]]
        for row, text, places in zip(rows, found, masks, strict=True):
            if len(places) < max(text.count("[MASK]"), 1):
                raise DataError(
                    f"{row.place} has {text.count('[MASK]')} times [MASK], {len(places)} of them within its first "
                    f"{self.maxlen} tokens: {text!r:.60}. Write [MASK] for a word to fill in, or raise maxlen."
                )
        probabilities = predict_in_buckets(
            self.model, (*inputs, pad(masks)), batch_size=batch_size, maxlen=self.backbone.config.max_length
        )
        # A model may have more rows than the vocabulary has tokens.
        probabilities = probabilities[:, :, : self.tokenizer.vocab_size]
        return [
            [self._best(of_mask, top_k) for of_mask in of_text[: len(places)]]
            for of_text, places in zip(probabilities, masks, strict=True)
        ]

    def export(self, *arguments: Any, **options: Any) -> NoReturn:
        """Raise `ExportError`, which says what can be exported."""
        from bert4albert.export.exporting import refusal

        raise refusal("FillMask", "since its answers are words for each [MASK], which have no form in an export yet")

    def _best(self, probabilities: Any, top_k: int) -> list[Filling]:
        order = np.argsort(-probabilities, kind="stable")[:top_k]
        return [Filling(self.tokenizer.id_to_token(int(i)), float(probabilities[i])) for i in order]
