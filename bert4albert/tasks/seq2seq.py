"""Seq2Seq: text in, text out, on the UniLM mask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from bert4albert.batches import pad
from bert4albert.errors import ConfigError
from bert4albert.generation import generate
from bert4albert.model import Trunk
from bert4albert.tasks.example import Fields, checked_text
from bert4albert.tasks.task import Task
from bert4albert.tasks.text_metrics import normalised, rouge_l
from bert4albert.text import Tokenizer


class Seq2Seq(Task):
    """Write a text from a text: titles, summaries, replies, translations.

    The input is [CLS] source [SEP] target [SEP] with segments 0 and 1: the source sees all of itself, each token of
    the target what comes before it (UniLM, arXiv:1905.03197). The loss is on the target alone. An example is
    `(source, target)` or a row with 'source', 'target' and perhaps 'weight'. Tab-separated files need no header.

    Arguments:
        backbone: a trunk from `build_model(..., application='unilm')`.
        tokenizer: its `Tokenizer`.
        maxlen: the most tokens of a source, [CLS] and [SEP] included.
        target_maxlen: the most tokens of a target, its [SEP] included.

    Examples:
        >>> from bert4albert import Tokenizer, build_model
        >>> from bert4albert.tasks import Seq2Seq
        >>> backbone = build_model("albert_tiny_zh", application="unilm")
        >>> writer = Seq2Seq(backbone, Tokenizer("albert_tiny_zh"), maxlen=32, target_maxlen=8)
        >>> history = writer.fit([("今天天气很好，我们去公园", "去公园")], epochs=1, verbose=0)
        >>> [type(answer).__name__ for answer in writer.predict(["明天下雨，我们在家"], num_beams=2)]
        ['str']
    """

    metric = "rouge_l"
    fields = Fields(
        {"source": ("source",)},
        "target",
        "It must be (source, target) or {'source': ..., 'target': ...}, two texts.",
        {2: ("source", "target")},
    )

    def __init__(self, backbone: Trunk, tokenizer: Tokenizer, *, maxlen: int = 256, target_maxlen: int = 32) -> None:
        super().__init__(backbone, tokenizer, maxlen=maxlen)
        self.target_maxlen = target_maxlen
        config = self.backbone.config
        if config.application != "unilm" or not config.with_mlm:
            raise ConfigError(
                f"{type(self).__name__} needs a backbone that writes: build_model(..., application='unilm')."
            )
        self._check_room(maxlen + target_maxlen)

    @property
    def loss(self) -> Any:
        """Cross-entropy on logits, averaged over the tokens of the targets."""
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="mean_with_sample_weight")

    def settings(self) -> dict[str, Any]:
        """Return the constructor's keyword arguments as JSON values."""
        return {**super().settings(), "target_maxlen": self.target_maxlen}

    def answer(self, value: Any, text: Any, place: str) -> Any:
        """Return the target."""
        return checked_text(value, place, "target")

    def build_model(self) -> keras.Model:
        """Return a model on ids and the positions to predict from, [batch, count], that gives logits of words."""
        trunk = self.backbone
        positions = keras.Input((None,), dtype="int32", name="positions")
        # Only at the targets: the logits of a whole source would take most of the memory and much of the time.
        logits = trunk.word_logits(trunk.hidden_states[-1], positions)
        return keras.Model([*trunk.inputs[:2], positions], logits)

    def encode(self, texts: Sequence[Any]) -> Any:
        """Return the token ids of each source."""
        return self.tokenizer.encode_many(texts, maxlen=self.maxlen)[0]

    def columns(self, examples: Sequence[Any], encoded: Any) -> tuple[Any, ...]:
        """Return ids, segments and positions; the target token at each position; 1 where there is one, else 0."""
        return self._columns(encoded, self._target_ids([example.answer for example in map(self.example, examples)]))

    def decode(self, encoded: Any, batch_size: int = 32, **options: Any) -> list[Any]:
        """Return the text written for each source; `options` are those of `generate`, such as `num_beams`."""
        return [self._text(ids) for ids in self._generate(encoded, batch_size, **options)]

    def score(self, examples: Sequence[Any], answers: Sequence[Any]) -> dict[str, float]:
        """Return ROUGE-L (F1 of the longest common subsequence of characters) and the part that is exactly right."""
        targets = [normalised(example.answer) for example in map(self.example, examples)]
        pairs = list(zip(targets, map(normalised, answers), strict=True))
        return {
            "rouge_l": float(np.mean([rouge_l(target, answer) for target, answer in pairs])),
            "exact": float(np.mean([target == answer for target, answer in pairs])),
        }

    def _check_room(self, length: int) -> None:
        positions = self.backbone.config.max_length
        if length > positions:
            raise ConfigError(
                f"The lengths of the parts add up to {length}, more than the {positions} positions of the model; "
                "choose smaller ones, or build the model with hierarchical_position=True."
            )

    def _target_ids(self, targets: Sequence[str]) -> list[list[int]]:
        """Return the tokens of each target with its [SEP], without [CLS]."""
        return [ids[1:] for ids in self.tokenizer.encode_many(targets, maxlen=self.target_maxlen + 1)[0]]

    def _columns(self, sources: Sequence[list[int]], targets: Sequence[list[int]]) -> tuple[Any, ...]:
        # The last token predicts nothing, and so is no input.
        token_ids = [[*source, *target[:-1]] for source, target in zip(sources, targets, strict=True)]
        segment_ids = [
            [0] * len(source) + [1] * (len(target) - 1) for source, target in zip(sources, targets, strict=True)
        ]
        # Arrays of one width, since lists would be padded as far as the inputs.
        words = pad(targets)
        inside = np.arange(words.shape[1]) < np.array([len(target) for target in targets])[:, None]
        first = np.array([len(source) - 1 for source in sources])
        positions = (first[:, None] + np.arange(words.shape[1])) * inside
        return (token_ids, segment_ids, positions), words, inside.astype("float32")

    def _generate(self, sources: Sequence[list[int]], batch_size: int, **options: Any) -> list[list[int]]:
        choices = {"max_new_tokens": self.target_maxlen, "end_id": self.tokenizer.sep_id, **options}
        return generate(self.backbone, sources, batch_size=batch_size, **choices)

    def _text(self, token_ids: Sequence[int]) -> str:
        # A model may have more rows than the vocabulary has tokens.
        return self.tokenizer.decode([i for i in token_ids if i < self.tokenizer.vocab_size])
