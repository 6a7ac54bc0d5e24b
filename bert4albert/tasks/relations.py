"""RelationExtractor: triples of subject, predicate and object, by CasRel half pointers or by GPLinker."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from bert4albert.backend import register
from bert4albert.batches import pad
from bert4albert.errors import ConfigError, DataError, require_choice
from bert4albert.heads.half_pointers import (
    INITIAL_LOGIT,
    OBJECT_POWER,
    SUBJECT_POWER,
    CasRelLoss,
    ObjectPointers,
    SubjectSampler,
)
from bert4albert.heads.pointers import GlobalPointer, span_loss
from bert4albert.layers import padding_of
from bert4albert.model import Trunk
from bert4albert.tasks.data_files import json_cell
from bert4albert.tasks.example import Fields, plain
from bert4albert.tasks.task import Task
from bert4albert.text import Tokenizer
from bert4albert.text.spans import TokenizedTexts, precision_recall_f1

METHODS = ("casrel", "gplinker")
# No text has as many; it keeps an untrained model from pairing all spans of a text with one another.
_MOST_CANDIDATES = 100


class Relation(NamedTuple):
    """A triple of texts, and the characters [start, end) that subject and object stand at."""

    subject: str
    predicate: str
    object: str
    subject_span: tuple[int, int]
    object_span: tuple[int, int]


class RelationExtractor(Task):
    """Find triples (subject, predicate, object).

    An example is `{"text": ..., "spo_list": [{"subject": ..., "predicate": ..., "object": ...}, ...]}`, where each
    entry may also be a triple, and perhaps with 'weight'; or `(text, [(subject, predicate, object), ...])`.
    Subjects and objects that are not in the text cannot be learnt, and count as missed in the evaluation. Answers are
    lists of `Relation`; a relation is right if its three texts are.

    Arguments:
        backbone: a trunk from `build_model`.
        tokenizer: its `Tokenizer`.
        predicates: the predicates; by default those of the training set, sorted.
        method: 'casrel', which finds the subjects first and then the objects of each (arXiv:1909.03227; Su Jianlin,
            kexue.fm/archives/7161), or 'gplinker', which finds all at once (kexue.fm/archives/8888).
        dropout: on the hidden states, in training.
        maxlen: the most tokens that are read at once; longer texts are read in pieces, cut between sentences.

    Examples:
        >>> from bert4albert import Tokenizer, build_model
        >>> from bert4albert.tasks import RelationExtractor
        >>> backbone, tokenizer = build_model("albert_tiny_zh"), Tokenizer("albert_tiny_zh")
        >>> extractor = RelationExtractor(backbone, tokenizer, method="gplinker", maxlen=32)
        >>> train = [("《呐喊》是鲁迅的作品", [("呐喊", "作者", "鲁迅")])]
        >>> history = extractor.fit(train, epochs=1, verbose=0)
        >>> extractor.predicates
        ['作者']
        >>> len(extractor.predict(["《彷徨》是鲁迅的作品"]))
        1
    """

    metric = "f1"
    fields = Fields(
        {"text": ("text",)},
        "spo_list",
        "An example must be {'text': ..., 'spo_list': [...]} or (text, [(subject, predicate, object), ...]).",
    )

    def __init__(
        self,
        backbone: Trunk,
        tokenizer: Tokenizer,
        predicates: Sequence[str] | None = None,
        *,
        method: str = "casrel",
        dropout: float = 0.1,
        maxlen: int = 128,
    ) -> None:
        super().__init__(backbone, tokenizer, maxlen=maxlen)
        require_choice("method", method, METHODS)
        self.predicates = None if predicates is None else list(predicates)
        self.method = method
        self.dropout = dropout
        self._head = (_CasRel if method == "casrel" else _GPLinker)(self)

    @property
    def loss(self) -> Any:
        """What suits the method; each is summed over a text."""
        return self._head.loss

    def settings(self) -> dict[str, Any]:
        """Return the constructor's keyword arguments as JSON values."""
        own = {"predicates": self.predicates, "method": self.method, "dropout": self.dropout}
        return {**super().settings(), **own}

    def cell(self, part: str, text: str, place: str) -> Any:
        """Return the triples, which a table has as JSON."""
        return json_cell(text, place) if part == "spo_list" else text

    def answer(self, value: Any, text: str, place: str) -> list[tuple[str, str, str]]:
        """Return the triples of strings."""
        if not isinstance(value, list | tuple):
            raise DataError(f"{place} has the triples {value!r:.80}. {self.fields.expected}")
        return [_triple(plain(spo), place) for spo in value]

    def learn(self, examples: Sequence[Any]) -> None:
        """Take the predicates from the training set, if none were given."""
        if self.predicates is None:
            answers = [example.answer for example in map(self.example, examples)]
            self.predicates = sorted({predicate for answer in answers for _, predicate, _ in answer})

    def check(self, examples: Sequence[Any]) -> None:
        """Raise `DataError` for predicates that the extractor does not have."""
        known = set(self.predicates or [])
        for example in map(self.example, examples):
            for _, predicate, _ in example.answer:
                if predicate not in known:
                    raise DataError(
                        f"{example.place} has the predicate {predicate!r}, which is none of the "
                        f"{len(known)} predicates of this extractor."
                    )

    def build_model(self) -> keras.Model:
        """Return the model to train, which for CasRel gives the loss itself."""
        if not self.predicates:
            raise ConfigError("The extractor has no predicates yet: give predicates=[...], or fit it first.")
        return self._head.build(len(self.predicates))

    def encode(self, texts: Sequence[str]) -> TokenizedTexts:
        """Return the tokenised texts."""
        return TokenizedTexts(self.tokenizer, texts, self.maxlen)

    def columns(self, examples: Sequence[Any], encoded: TokenizedTexts) -> tuple[Any, ...]:
        """Return the inputs and targets of the method."""
        index = {predicate: i for i, predicate in enumerate(self.predicates or [])}
        relations = []
        for row, text in enumerate(encoded.text_of_row):
            found: list[tuple[int, ...]] = []
            for subject, predicate, object_ in self.example(examples[text]).answer:
                subject_tokens, object_tokens = encoded.find(row, subject), encoded.find(row, object_)
                if subject_tokens is not None and object_tokens is not None:
                    found.append((*subject_tokens, index[predicate], *object_tokens))
            relations.append(found)
        return self._head.columns(encoded.inputs, relations)

    def example_of_row(self, encoded: TokenizedTexts) -> Sequence[int]:
        """Return which text each row is a piece of."""
        return encoded.text_of_row

    def decode(self, encoded: TokenizedTexts, batch_size: int = 32, **thresholds: float) -> list[list[Relation]]:
        """Return the relations found in each text, in order.

        Arguments:
            encoded: the texts.
            batch_size: texts a batch, and subjects a batch.
            thresholds: for CasRel `start_threshold` (0.6) and `end_threshold` (0.5), the probabilities from which a
                position is the start or the end of a subject or object; for GPLinker `threshold` (0.0), the score.
        """
        found: list[dict[tuple[str, str, str], Relation]] = [{} for _ in range(len(encoded))]
        for rows, inputs in encoded.batches(batch_size):
            for i, subject, predicate, object_ in self._head.relations(inputs, batch_size, **thresholds):
                row, text = rows[i], encoded.text_of_row[rows[i]]
                spans = [encoded.characters(row, *tokens) for tokens in (subject, object_)]
                texts = [encoded.texts[text][start:end] for start, end in spans]
                relation = Relation(texts[0], (self.predicates or [])[predicate], texts[1], *spans)
                found[text].setdefault(relation[:3], relation)
        return [sorted(relations.values()) for relations in found]

    def score(self, examples: Sequence[Any], answers: Sequence[Any]) -> dict[str, float]:
        """Return precision, recall and F1 of whole triples, over all texts together."""
        expected = [set(example.answer) for example in map(self.example, examples)]
        return precision_recall_f1(expected, [{relation[:3] for relation in answer} for answer in answers])


class _CasRel:
    """Half pointers: starts and ends of subjects, then starts and ends of the objects of a given subject."""

    def __init__(self, task: RelationExtractor) -> None:
        self.task = task

    def build(self, predicates: int) -> keras.Model:
        trunk, dtype = self.task.backbone, self.task.backbone.encoder.variable_dtype
        hidden, before_norm = (
            keras.layers.Dropout(self.task.dropout, dtype=dtype, name=name)(tensor)
            for name, tensor in [
                ("subject_dropout", trunk.hidden_states[-1]),
                ("object_dropout", trunk.pre_norm_output),
            ]
        )
        subject_logits = keras.layers.Dense(
            2,
            kernel_initializer=self.task.initializer(),
            bias_initializer=keras.initializers.Constant(INITIAL_LOGIT),
            dtype=dtype,
            name="subject_pointers",
        )(hidden)
        objects = ObjectPointers(
            predicates, kernel_initializer=self.task.initializer(), dtype=dtype, name="object_pointers"
        )
        relations = keras.Input((None, 5), dtype="int32", name="relations")
        inside = padding_of(trunk)
        subject = SubjectSampler(dtype=dtype, name="subject_sampler")(inside, relations)
        loss = CasRelLoss(dtype=dtype, name="casrel_loss")(
            inside, relations, subject, subject_logits, objects(before_norm, subject)
        )
        # To predict, the same layers in two steps.
        self._subject_model = keras.Model(trunk.inputs, [subject_logits, before_norm])
        vectors, subject = keras.Input((None, trunk.config.hidden_size)), keras.Input((2,), dtype="int32")
        self._object_model = keras.Model([vectors, subject], objects(vectors, subject))
        return keras.Model([*trunk.inputs, relations], loss)

    @property
    def loss(self) -> Any:
        return _given_losses

    @staticmethod
    def columns(inputs: tuple[Any, ...], relations: Sequence[Sequence[tuple[int, ...]]]) -> tuple[Any, ...]:
        # The relations are an input: the model itself draws a subject of each text at each step.
        # Of one width of their own: a text may have more relations than the model has positions.
        padded = pad([found or [(0, 0, 0, 0, 0)] for found in relations])
        return (*inputs, padded), np.zeros(len(relations))

    def relations(
        self, inputs: tuple[Any, ...], batch_size: int, start_threshold: float = 0.6, end_threshold: float = 0.5
    ) -> Iterator[tuple[int, tuple[int, int], int, tuple[int, int]]]:
        """Yield (row, subject, predicate, object) of a batch, subject and object by first and last token."""
        self.task.model  # noqa: B018  (builds the two models)
        lengths = [len(row) for row in inputs[0]]

        def spans(logits: np.ndarray, length: int, power: int) -> Iterator[tuple[int, tuple[int, int]]]:
            """Yield (kind, (first, last)) from logits [length, kinds, 2]: each start with the nearest end."""
            probabilities = (1 / (1 + np.exp(-logits[1 : length - 1].astype("float64")))) ** power
            for start, kind in np.argwhere(probabilities[:, :, 0] > start_threshold):
                ends = np.flatnonzero(probabilities[start:, kind, 1] > end_threshold)
                if len(ends):
                    yield kind, (start + 1, start + ends[0] + 1)

        logits, vectors = self.task.run(self._subject_model, inputs, batch_size)
        subjects = [
            (row, subject)
            for row, length in enumerate(lengths)
            for _, subject in spans(logits[row, :, None], length, SUBJECT_POWER)
        ]
        if not subjects:
            return
        # Always full batches, so that few shapes are compiled.
        filled = [subjects[i % len(subjects)] for i in range(-(-len(subjects) // batch_size) * batch_size)]
        columns = [vectors[row, : lengths[row]] for row, _ in filled], np.array([subject for _, subject in filled])
        for (row, subject), logits in zip(
            subjects, self.task.run(self._object_model, columns, batch_size), strict=False
        ):
            for predicate, object_ in spans(logits, lengths[row], OBJECT_POWER):
                yield row, subject, predicate, object_


class _GPLinker:
    """Global pointers to subjects and objects, and for each predicate to pairs of their first and last tokens."""

    loss = (span_loss, span_loss, span_loss)

    def __init__(self, task: RelationExtractor) -> None:
        self.task = task

    def build(self, predicates: int) -> keras.Model:
        trunk, dtype = self.task.backbone, self.task.backbone.encoder.variable_dtype
        hidden = keras.layers.Dropout(self.task.dropout, dtype=dtype, name="head_dropout")(trunk.hidden_states[-1])

        inside = padding_of(trunk)
        spread = keras.initializers.LecunNormal(seed=self.task.initializer().seed)

        def pointer(name: str, heads: int, linking: bool) -> Any:
            layer = GlobalPointer(
                heads,
                rotary=not linking,
                ordered=not linking,
                kernel_initializer=spread,
                dtype=dtype,
                name=name,
            )
            return layer(hidden, inside)

        outputs = pointer("entities", 2, False), pointer("heads", predicates, True), pointer("tails", predicates, True)
        return keras.Model(trunk.inputs, outputs)

    @staticmethod
    def columns(inputs: tuple[Any, ...], relations: Sequence[Sequence[tuple[int, ...]]]) -> tuple[Any, ...]:
        targets: tuple[list[Any], ...] = ([], [], [])
        for found in relations:
            spans: tuple[set[tuple[int, ...]], ...] = (
                {(i, *row[3 * i : 3 * i + 2]) for row in found for i in (0, 1)},
                {(row[2], row[0], row[3]) for row in found},
                {(row[2], row[1], row[4]) for row in found},
            )
            for column, spans_of_row in zip(targets, spans, strict=True):
                column.append(sorted(spans_of_row) or [(-1, -1, -1)])
        return inputs, tuple(pad(column, value=-1) for column in targets)

    def relations(
        self, inputs: tuple[Any, ...], batch_size: int, threshold: float = 0.0
    ) -> Iterator[tuple[int, tuple[int, int], int, tuple[int, int]]]:
        """Yield (row, subject, predicate, object) of a batch, subject and object by first and last token."""
        entities, heads, tails = self.task.run(self.task.model, inputs, batch_size)
        for row, token_ids in enumerate(inputs[0]):
            inside = slice(1, len(token_ids) - 1)
            (subject_first, subject_last), (object_first, object_last) = (
                _best(scores[inside, inside], threshold) + 1 for scores in entities[row]
            )
            linked = (heads[row][:, subject_first[:, None], object_first] > threshold) & (
                tails[row][:, subject_last[:, None], object_last] > threshold
            )
            for predicate, s, o in np.argwhere(linked):
                yield row, (subject_first[s], subject_last[s]), predicate, (object_first[o], object_last[o])


@register
def _given_losses(_: Any, losses: Any) -> Any:
    """Return the losses that the model itself gives, [batch]."""
    return losses


def _best(scores: np.ndarray, threshold: float) -> np.ndarray:
    """Return the cells [2, count] of a matrix with scores above a threshold, no more than are plausible."""
    cells = np.argwhere(scores > threshold)
    order = np.argsort(-scores[tuple(cells.T)], kind="stable")
    return cells[order[:_MOST_CANDIDATES]].T


def _triple(spo: Any, place: str) -> tuple[str, str, str]:
    """Return (subject, predicate, object) of one relation; `DataError` for anything else."""
    values = [spo.get(key) for key in ("subject", "predicate", "object")] if isinstance(spo, Mapping) else spo
    if not isinstance(values, list | tuple):
        values = []
    # DuIE 2.0 gives objects as {'@value': ...}.
    texts = [value.get("@value") if isinstance(value, Mapping) else value for value in values]
    if len(texts) != 3 or not all(isinstance(text, str) for text in texts):
        raise DataError(
            f"{place} has the relation {spo!r:.80}. "
            "A relation must have a subject, a predicate and an object, all strings."
        )
    return str(texts[0]), str(texts[1]), str(texts[2])
