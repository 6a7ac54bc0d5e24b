"""Seq2Seq: text in, text out, on the UniLM mask; and ReadingComprehension, which answers a question from passages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from bert4albert.errors import DataError
from bert4albert.model import Trunk
from bert4albert.tasks.data_files import json_cell
from bert4albert.tasks.example import WEIGHT, Example, Fields, checked_text, plain, weight_of
from bert4albert.tasks.seq2seq import Seq2Seq
from bert4albert.tasks.text_metrics import character_f1, normalised
from bert4albert.text import Tokenizer
from bert4albert.text.spans import TokenizedTexts


class Question(NamedTuple):
    """A question and the passages that may hold its answer."""

    question: str
    passages: Sequence[str]


class ReadingComprehension(Seq2Seq):
    """Answer a question from one or several passages, by writing the answer on the UniLM mask.

    The input is [CLS] passage [SEP] question [SEP] answer [SEP] with segments 0, 0, 1. A passage without an answer
    learns to end at once. Passages that are too long are read in pieces. To answer, each step takes a vote of the
    question's passages, those left out that would say nothing (p^2 summed over sum p + 1); where all would say
    nothing, the answer is ''. Source: Su Jianlin, bert4keras, task_reading_comprehension_by_seq2seq.

    An example is `{"question": ..., "passages": [{"passage": ..., "answer": ...}, ...]}`, an empty or missing answer
    where the passage has none, and perhaps with 'weight'. A text for `predict` is
    `(question, [passage, ...])`, or an example.

    Arguments:
        backbone: a trunk from `build_model(..., application='unilm')`.
        tokenizer: its `Tokenizer`.
        maxlen: the most tokens of a passage, [CLS] and [SEP] included.
        question_maxlen: the most tokens of a question, its [SEP] included.
        target_maxlen: the most tokens of an answer, its [SEP] included.
        extractive: whether an answer must stand in a passage, word by word.

    Examples:
        >>> from bert4albert import Tokenizer, build_model
        >>> from bert4albert.tasks import ReadingComprehension
        >>> backbone = build_model("albert_tiny_zh", application="unilm")
        >>> reader = ReadingComprehension(backbone, Tokenizer("albert_tiny_zh"), maxlen=64, target_maxlen=8)
        >>> passages = [{"passage": "鲁迅生于绍兴。", "answer": "绍兴"}, {"passage": "老舍生于北京。"}]
        >>> history = reader.fit([{"question": "鲁迅生于哪里？", "passages": passages}], epochs=1, verbose=0)
        >>> answers = reader.predict([("老舍生于哪里？", ["鲁迅生于绍兴。", "老舍生于北京。"])])
        >>> len(answers), answers[0] in "鲁迅生于绍兴。老舍生于北京。"
        (1, True)
    """

    metric = "score"
    fields = Fields(
        {"question": ("question",), "passages": ("passages",)},
        None,
        "It must be {'question': ..., 'passages': [{'passage': ..., 'answer': ...}, ...]} or, to predict, "
        "(question, [passage, ...]).",
    )

    def __init__(
        self,
        backbone: Trunk,
        tokenizer: Tokenizer,
        *,
        maxlen: int = 256,
        question_maxlen: int = 64,
        target_maxlen: int = 32,
        extractive: bool = True,
    ) -> None:
        super().__init__(backbone, tokenizer, maxlen=maxlen, target_maxlen=target_maxlen)
        self.question_maxlen = question_maxlen
        self.extractive = extractive
        self._check_room(maxlen + question_maxlen + target_maxlen)

    def settings(self) -> dict[str, Any]:
        """Return the constructor's keyword arguments as JSON values."""
        return {**super().settings(), "question_maxlen": self.question_maxlen, "extractive": self.extractive}

    def cell(self, part: str, text: str, place: str) -> Any:
        """Return the passages, which a table has as JSON."""
        return json_cell(text, place) if part == "passages" else text

    def text(self, value: Any, place: str = "The text") -> Question:
        """Return the question and the passages of an example, or of (question, [passage, ...])."""
        if isinstance(value, Example):
            return value.text
        value = plain(value)
        parts = (value.get("question"), plain(value.get("passages"))) if isinstance(value, Mapping) else value
        if not isinstance(parts, list | tuple) or len(parts) != 2 or not isinstance(parts[1], list | tuple):
            raise DataError(f"{place} is {value!r:.80}. {self.fields.expected}")
        passages = [plain(p.get("passage") if isinstance(p, Mapping) else p) for p in parts[1]]
        if not isinstance(plain(parts[0]), str) or not all(isinstance(passage, str) for passage in passages):
            raise DataError(f"{place} is {value!r:.80}. {self.fields.expected}")
        return Question(
            checked_text(parts[0], place, "question"), [checked_text(text, place, "passage") for text in passages]
        )

    def example(self, value: Any, place: str = "The example") -> Example:
        """Return the example of a row with a question and passages."""
        if isinstance(value, Example):
            return value
        question = self.text(value, place)
        passages = value["passages"] if isinstance(value, Mapping) else value[1]
        weight = weight_of(value.get(WEIGHT, 1.0), place) if isinstance(value, Mapping) else 1.0
        return Example(question, self.answer(passages, question, place), weight, place)

    def answer(self, value: Any, text: Any, place: str) -> list[str]:
        """Return the answer of each passage, '' where it has none."""
        answers = [passage.get("answer") if isinstance(passage, Mapping) else None for passage in value]
        return ["" if answer is None else checked_text(answer, place, "answer") for answer in answers]

    def example_of_row(self, encoded: _Questions) -> Sequence[int]:
        """Return which question each row belongs to."""
        return [question for question, _ in encoded.place_of_row]

    def encode(self, texts: Sequence[Any]) -> _Questions:
        """Return the tokenised questions and passages."""
        return _Questions(self.tokenizer, texts, self.maxlen, self.question_maxlen)

    def columns(self, examples: Sequence[Any], encoded: _Questions) -> tuple[Any, ...]:
        """Return the columns of `Seq2Seq`, a row for each passage or piece of one."""
        targets = []
        for row, (question, passage) in enumerate(encoded.place_of_row):
            answers = self.example(examples[question]).answer
            # A passage has an answer where any of the question's answers stands in it, its own before the others.
            wanted = [answers[passage], *answers]
            spans = [encoded.pieces.find(row, answer) for answer in wanted if answer]
            found = next((span for span in spans if span is not None), None)
            if found is not None:
                ids = encoded.pieces.inputs[0][row][found[0] : found[1] + 1]
                targets.append([*ids[: self.target_maxlen - 1], self.tokenizer.sep_id])
            else:
                targets += self._target_ids(["" if self.extractive else answers[passage]])
        return self._columns(encoded.sources, targets)

    def decode(self, encoded: _Questions, batch_size: int = 32, **options: Any) -> list[str]:
        """Return the answer to each question, '' for none; `options` are those of `generate`."""
        answers: list[str] = []
        for questions in encoded.batches(batch_size):
            rows = [row for question in questions for row in encoded.rows_of_question[question]]
            vote = _Vote([encoded.place_of_row[row][0] for row in rows], self.tokenizer.sep_id)
            if self.extractive:
                vote.passages = [encoded.pieces.inputs[0][row][1:-1] for row in rows]
            choices = {"logits_processor": vote, **options}
            generated = self._generate([encoded.sources[row] for row in rows], max(len(rows), 1), **choices)
            found = dict(zip(rows, generated, strict=True))
            for question in questions:
                of_question = encoded.rows_of_question[question]
                # All passages of a question write the same answer.
                ids = [i for i in found[of_question[0]] if i != self.tokenizer.sep_id] if of_question else []
                answers.append(encoded.original_text(of_question, ids) or self._text(ids))
        return answers

    def score(self, examples: Sequence[Any], answers: Sequence[Any]) -> dict[str, float]:
        """Return accuracy, F1 of characters, and their mean as 'score'; the best of a question's answers counts."""
        accuracies, f1s = [], []
        for example, answer in zip(map(self.example, examples), answers, strict=True):
            expected = {normalised(text) for text in example.answer}
            # Where some passage has the answer, to say nothing is wrong.
            expected = (expected - {""}) or {""}
            given = normalised(answer)
            accuracies.append(given in expected)
            f1s.append(max(character_f1(text, given) for text in expected))
        accuracy, f1 = float(np.mean(accuracies)), float(np.mean(f1s))
        return {"accuracy": accuracy, "f1": f1, "score": (accuracy + f1) / 2}


class _Questions:
    """Questions tokenised with their passages: a row for each passage, or for each piece of a long one."""

    def __init__(self, tokenizer: Tokenizer, questions: Sequence[Question], maxlen: int, question_maxlen: int) -> None:
        places = [(q, p) for q, question in enumerate(questions) for p in range(len(question.passages))]
        passages = [questions[q].passages[p] for q, p in places]
        self.pieces = TokenizedTexts(tokenizer, passages, maxlen)
        self.place_of_row = [places[text] for text in self.pieces.text_of_row]
        asked = tokenizer.encode_many([q.question for q in questions], maxlen=question_maxlen + 1)[0]
        self.sources = [
            [*ids, *asked[question][1:]]
            for ids, (question, _) in zip(self.pieces.inputs[0], self.place_of_row, strict=True)
        ]
        self.rows_of_question: list[list[int]] = [[] for _ in questions]
        for row, (question, _) in enumerate(self.place_of_row):
            self.rows_of_question[question].append(row)

    def batches(self, batch_size: int) -> Iterator[list[int]]:
        """Yield questions, so many at a time that their rows come to `batch_size`, one question at least."""
        batch: list[int] = []
        count = 0
        for question, rows in enumerate(self.rows_of_question):
            if batch and count + len(rows) > batch_size:
                yield batch
                batch, count = [], 0
            batch.append(question)
            count += len(rows)
        yield batch

    def original_text(self, rows: Sequence[int], ids: Sequence[int]) -> str:
        """Return the characters that these tokens were made of in the first row that has them, '' if none has."""
        for row in rows:
            tokens = self.pieces.inputs[0][row]
            for first in range(1, len(tokens) - len(ids)):
                if ids and tokens[first : first + len(ids)] == list(ids):
                    start, end = self.pieces.characters(row, first, first + len(ids) - 1)
                    return self.pieces.texts[self.pieces.text_of_row[row]][start:end]
        return ""


class _Vote:
    """A logits processor that lets the passages of a question agree on each token.

    Arguments:
        question_of_source: for each source the number of its question.
        end_id: the token that ends an answer.

    Attributes:
        passages: the tokens of each source's passage, to allow only what stands there; None to allow all.
    """

    def __init__(self, question_of_source: Sequence[int], end_id: int) -> None:
        self._questions = np.array(question_of_source)
        self._end_id = end_id
        self._silent = np.zeros(len(question_of_source), bool)
        self.passages: Sequence[Sequence[int]] | None = None

    def __call__(self, log_probs: np.ndarray, new_tokens: np.ndarray, source_indexes: np.ndarray) -> np.ndarray:
        """Give all beams of a question that have the same tokens so far the same probabilities."""
        if new_tokens.shape[1] == 0:
            self._silent[source_indexes] = log_probs.argmax(axis=-1) == self._end_id
        groups: dict[tuple[Any, ...], list[int]] = {}
        for row, (source, tokens) in enumerate(zip(source_indexes, new_tokens.tolist(), strict=True)):
            groups.setdefault((self._questions[source], *tokens), []).append(row)
        for (_, *tokens), rows in groups.items():
            voters = [row for row in rows if not self._silent[source_indexes[row]]]
            log_probs[rows] = self._agreed(log_probs[voters], source_indexes[voters], tokens)
        return log_probs

    def _agreed(self, log_probs: np.ndarray, sources: np.ndarray, tokens: list[int]) -> np.ndarray:
        if not len(sources):
            only_end = np.full(log_probs.shape[1], -np.inf)
            only_end[self._end_id] = 0.0
            return only_end
        probs = np.exp(log_probs.astype("float64"))
        with np.errstate(divide="ignore"):
            agreed = np.log((probs**2).sum(axis=0) / (probs.sum(axis=0) + 1))
        if self.passages is not None:
            allowed = {self._end_id}.union(*(_continuations(self.passages[source], tokens) for source in sources))
            forbidden = np.ones(len(agreed), bool)
            forbidden[list(allowed)] = False
            agreed[forbidden] = -np.inf
        if not np.isfinite(agreed).any():
            # The passage is at its end, and min_new_tokens forbids to end.
            agreed[self._end_id] = 0.0
        return agreed


def _continuations(passage: Sequence[int], tokens: Sequence[int]) -> set[int]:
    """Return the tokens that come after these ones somewhere in a passage."""
    count = len(tokens)
    return {passage[i + count] for i in range(len(passage) - count) if passage[i : i + count] == tokens}
