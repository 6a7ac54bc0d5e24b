"""A task on a compressed trunk, and how many of its answers stay the same."""

from __future__ import annotations

import dataclasses
import math
import os
import re
from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from bert4albert.compression import CompressionReport, compress_depths
from bert4albert.errors import ConfigError, DataError

if TYPE_CHECKING:
    from bert4albert.tasks.task import Task


def compressed_task(task: Task, rank: int | str, texts: Any = None) -> tuple[Any, CompressionReport]:
    """Return a new task on the compressed trunk, and the report; arguments as in `Task.compress`."""
    share = _share(rank)
    if share is None:
        assert not isinstance(rank, str)
        judge = None if texts is None else _Judge(task, texts)
        return _compressed(task, rank, judge)
    if texts is None:
        raise ConfigError(f"rank={rank!r:.40} asks how many answers are kept: give the texts to be answered.")
    judge, full = _Judge(task, texts), task.backbone.config.hidden_size
    best = None
    for tried in (*takewhile(lambda r: r < full, (2**i for i in range(20))), full):
        found = _compressed(task, tried, judge)
        kept = found[1].answers_kept or 0.0
        if kept >= share:
            return found
        best = max(best or (0.0, 0), (kept, -tried))
    assert best is not None
    raise ConfigError(f"No rank keeps {rank} of the answers; the best is {-best[1]}, which keeps {best[0]:.2%}.")


class _Judge:
    """What a task answers, and how well.

    Arguments:
        task: the task as it is.
        data: texts, or examples with their answers.
    """

    def __init__(self, task: Task, data: Any) -> None:
        data = list(data) if isinstance(data, Iterator) else data
        self.examples = _examples(task, data)
        self.texts = task.texts(data) if self.examples is None else [task.text_of(example) for example in self.examples]
        self.answers = task.predict(self.texts)
        if not self.answers:
            raise DataError("There are no texts to answer: give at least one.")
        self.metrics = self._metrics(task, self.answers)

    def told(self, report: CompressionReport, task: Task) -> CompressionReport:
        """Return the report with what a compressed task answers."""
        answers = task.predict(self.texts)
        kept = sum(_same(old, new) for old, new in zip(self.answers, answers, strict=True)) / len(answers)
        metrics = self._metrics(task, answers)
        return dataclasses.replace(report, answers_kept=kept, metrics_before=self.metrics, metrics_after=metrics)

    def _metrics(self, task: Task, answers: list[Any]) -> dict[str, float]:
        return {} if self.examples is None else task.score(self.examples, answers)


def _compressed(task: Task, rank: int, judge: _Judge | None) -> tuple[Any, CompressionReport]:
    trunk, report = compress_depths(task.backbone, rank)
    new = type(task)(trunk, task.tokenizer, **task.settings())
    for old, copy in zip(_head_weights(task), _head_weights(new), strict=True):
        copy.assign(old)
    return new, report if judge is None else judge.told(report, new)


def _head_weights(task: Task) -> list[Any]:
    within = {id(weight) for weight in task.backbone.weights}
    return [weight for weight in task.model.weights if id(weight) not in within]


def _share(rank: int | str) -> float | None:
    """Return the share of answers that a rank such as '99%' asks for; None for a number."""
    if not isinstance(rank, str):
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?%", rank.strip())
    if match is None or not 0 < float(match[1]) <= 100:
        raise ConfigError(f"rank must be a whole number, or a share of answers such as '99%', not {rank!r:.40}.")
    return float(match[1]) / 100


def _examples(task: Task, data: Any) -> Sequence[Any] | None:
    """Return data as examples; None where it is texts without answers."""
    if isinstance(data, list) and all(isinstance(item, str) for item in data):
        return None
    if isinstance(data, str | os.PathLike):
        return task.read(data)
    try:
        examples = task.read(data)
        task.check(examples)
    except DataError:
        return None
    return examples


def _same(one: Any, other: Any) -> bool:
    """Whether two answers are the same; numbers may differ by 1 %."""
    both_numbers = isinstance(one, float) and isinstance(other, float)
    return math.isclose(one, other, rel_tol=0.01) if both_numbers else one == other
