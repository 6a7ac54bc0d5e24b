"""TextEmbedder: a vector for each text, so that texts of one meaning are close; and how it learns that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from bert4albert.backend import register
from bert4albert.errors import DataError, require_choice
from bert4albert.heads import FirstToken, MeanPooling
from bert4albert.layers import padding_of
from bert4albert.model import Trunk
from bert4albert.tasks.example import Columns, Data, Fields, checked_text
from bert4albert.tasks.task import Task
from bert4albert.text import Tokenizer

POOLINGS = ("mean", "cls", "first_last_mean")


class TextEmbedder(Task):
    """Give each text a vector, and learn from pairs which texts belong together.

    An example is `(text, second_text)`, two texts that belong together, or a row with 'text' (or 'sentence1'),
    'second_text' (or 'sentence2') and perhaps 'weight'. The other texts of a batch are those that do not belong: the
    loss is the cross-entropy of finding the right one by cosine similarity (SimCSE, arXiv:2104.08821). A pair of twice
    the same text learns from dropout alone, which sees it in two ways. `evaluate` tells for how many texts the second
    one of its own is the closest of all.

    Arguments:
        backbone: a trunk from `build_model`.
        tokenizer: its `Tokenizer`.
        pooling: 'mean' over the text, 'cls' for the hidden state of [CLS], or 'first_last_mean', the mean of the first
            and the last depth.
        normalize: whether vectors have the length 1.
        temperature: what similarities are divided by in the loss.
        maxlen: the most tokens of a text.

    Examples:
        >>> from bert4albert import Tokenizer, build_model
        >>> from bert4albert.tasks import TextEmbedder
        >>> embedder = TextEmbedder(build_model("albert_tiny_zh"), Tokenizer("albert_tiny_zh"))
        >>> embedder.predict(["今天天气很好", "明天会下雨"])[0].shape
        (312,)
    """

    metric = "accuracy"
    fields = Fields(
        {"text": ("text", "sentence", "sentence1")},
        "second_text",
        "An example must be (text, second_text), two texts that belong together.",
        {2: ("text", "second_text")},
        ("sentence2",),
    )

    def __init__(
        self,
        backbone: Trunk,
        tokenizer: Tokenizer,
        *,
        pooling: str = "mean",
        normalize: bool = True,
        temperature: float = 0.05,
        maxlen: int = 128,
    ) -> None:
        super().__init__(backbone, tokenizer, maxlen=maxlen)
        require_choice("pooling", pooling, POOLINGS)
        self.pooling = pooling
        self.normalize = normalize
        self.temperature = temperature

    @property
    def loss(self) -> Any:
        """Cross-entropy of finding the second text among those of the batch."""
        return ContrastiveLoss(self.temperature)

    def settings(self) -> dict[str, Any]:
        """Return the constructor's keyword arguments as JSON values."""
        own = {"pooling": self.pooling, "normalize": self.normalize, "temperature": self.temperature}
        return {**super().settings(), **own}

    def answer(self, value: Any, text: Any, place: str) -> str:
        """Return the second text."""
        return checked_text(value, place, "second text")

    def build_model(self) -> keras.Model:
        """Return a model on the ids and segments of two texts that gives their vectors, [batch, 2, hidden_size]."""
        trunk = self.backbone
        inside, dtype = padding_of(trunk), trunk.encoder.variable_dtype
        if self.pooling == "cls":
            vector = FirstToken(dtype=dtype, name="first_token")(trunk.hidden_states[-1])
        else:
            mean = MeanPooling(dtype=dtype, name="mean_pooling")
            depths = [0, -1] if self.pooling == "first_last_mean" else [-1]
            vectors = [mean(trunk.hidden_states[depth], inside) for depth in depths]
            vector = (
                keras.layers.Average(dtype=dtype, name="mean_of_depths")(vectors) if len(depths) > 1 else vectors[0]
            )
        if self.normalize:
            vector = keras.layers.UnitNormalization(dtype=dtype, name="unit_length")(vector)
        self._text_model = keras.Model(trunk.inputs[:2], vector, name="text_vector")
        names = ("token_ids", "segment_ids", "second_token_ids", "second_segment_ids")
        inputs = [keras.Input((None,), dtype="int32", name=f"pair_{name}") for name in names]
        pair = [self._text_model(inputs[:2]), self._text_model(inputs[2:])]
        return keras.Model(inputs, Pair(dtype=dtype, name="pair")(pair))

    def encode(self, texts: Sequence[str]) -> tuple[list[list[int]], list[list[int]]]:
        """Return token ids and segment ids."""
        return self.tokenizer.encode_many(texts, maxlen=self.maxlen)

    def columns(self, examples: Sequence[Any], encoded: Any) -> tuple[Any, ...]:
        """Return ids and segments of both texts; there is no target but the place in the batch."""
        second = self.encode([example.answer for example in map(self.example, examples)])
        return (*encoded, *second), np.zeros(len(examples))

    def embed(self, texts: Data, batch_size: int = 32, *, columns: Columns | None = None) -> np.ndarray:
        """Return the vector of each text, float32 [texts, hidden_size].

        Arguments:
            texts: as in `Task.predict`.
            batch_size: as in `Task.predict`.
            columns: as in `Task.predict`.
        """
        found = self.texts(texts, columns)
        if not found:
            return np.zeros((0, self.backbone.config.hidden_size), "float32")
        return self._vectors(self.encode(found), batch_size)

    def decode(self, encoded: Any, batch_size: int = 32) -> list[np.ndarray]:
        """Return the vector of each text."""
        return list(self._vectors(encoded, batch_size))

    def similarity(self, texts: Data, others: Data, batch_size: int = 32) -> np.ndarray:
        """Return the cosine similarity of each text to each of the others, float32 [texts, others]."""
        return cosine_similarity(self.embed(texts, batch_size), self.embed(others, batch_size))

    def score(self, examples: Sequence[Any], answers: Sequence[Any]) -> dict[str, float]:
        """Return the part of the texts whose own second text is the closest of all, and the mean similarity to it."""
        second = self.embed([example.answer for example in map(self.example, examples)])
        similarities = cosine_similarity(np.array(answers), second)
        own = similarities.diagonal()
        # Another that is as close, such as the same text twice, is as good.
        return {
            "accuracy": float((own >= similarities.max(axis=1) - 1e-6).mean()),
            "similarity": float(own.mean()),
        }

    def _vectors(self, encoded: Any, batch_size: int) -> np.ndarray:
        self.model  # noqa: B018  (builds the model of one text)
        return np.asarray(self.run(self._text_model, encoded, batch_size), "float32")


@register
class Pair(keras.layers.Layer):
    """Two vectors of each example as one tensor: a list of two [batch, size] to [batch, 2, size]."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)

    def get_config(self) -> dict[str, Any]:
        """Return Keras' own settings."""
        return super().get_config()

    def call(self, vectors: Sequence[Any]) -> Any:
        """Return both."""
        return ops.stack(list(vectors), axis=1)

    def compute_output_spec(self, vectors: Sequence[Any]) -> keras.KerasTensor:
        """Return [batch, 2, size]."""
        return keras.KerasTensor((vectors[0].shape[0], 2, vectors[0].shape[-1]), dtype=self.compute_dtype)


@register
class ContrastiveLoss(keras.losses.Loss):
    """The `contrastive_loss` of vectors [batch, 2, size], whatever the targets.

    Arguments:
        temperature: what cosine similarities are divided by.
    """

    def __init__(self, temperature: float = 0.05, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.temperature = temperature

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return the loss of each pair, [batch]."""
        return contrastive_loss(y_pred, self.temperature)

    def get_config(self) -> dict[str, Any]:
        """Return Keras' own settings and the temperature."""
        return {**super().get_config(), "temperature": self.temperature}


def contrastive_loss(vectors: Any, temperature: float) -> Any:
    """Return -log p(own second text) among all second texts of the batch, [batch].

    Source: arXiv:2104.08821, equation 1.

    Arguments:
        vectors: [batch, 2, size].
        temperature: what cosine similarities are divided by.
    """
    first, second = (ops.normalize(vectors[:, place], axis=-1) for place in (0, 1))
    similarities = ops.matmul(first, ops.transpose(second)) / temperature  # [batch, batch]
    right = ops.arange(ops.shape(similarities)[0])
    return ops.sparse_categorical_crossentropy(right, similarities, from_logits=True)


def cosine_similarity(vectors: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the cosine of each vector [n, size] with each of the others [m, size], [n, m]; 0 for a vector of zeros.

    Arguments:
        vectors: float [n, size].
        others: float [m, size].

    Raises `DataError` for vectors of different sizes.

    Examples:
        >>> import numpy as np
        >>> from bert4albert.tasks import cosine_similarity
        >>> cosine_similarity(np.array([[3.0, 0.0]]), np.array([[1.0, 0.0], [0.0, 2.0]])).tolist()
        [[1.0, 0.0]]
    """
    if vectors.ndim != 2 or others.ndim != 2 or vectors.shape[1] != others.shape[1]:
        raise DataError(f"Expected two arrays [texts, size] of one size, not {vectors.shape} and {others.shape}.")
    first, second = (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in (vectors, others))
    return first @ second.T
