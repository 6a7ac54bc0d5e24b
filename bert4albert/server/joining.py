"""Requests of a few milliseconds become one batch, since a model answers many texts at once faster than one by one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from bert4albert.errors import Bert4AlbertError

Answer = Callable[[Sequence[Any]], list[Any]]


class BusyError(Bert4AlbertError, RuntimeError):
    """More texts are waiting than the queue holds."""


@dataclass(eq=False)
class _Waiting:
    """The texts of one request, and who waits for their answers."""

    texts: Sequence[Any]
    answers: asyncio.Future[list[Any]]


class Joiner:
    """Answers requests in the order in which they came, several at once.

    One thread computes. What comes while it does waits for its end and is taken together with what is about as long;
    what comes while it is idle waits at most the window for company.

    Arguments:
        answer: texts -> answers, as the `predict` of a task; sorts texts by length itself.
        window: seconds that a lone request waits at most; 0 for every request on its own.
        most: texts that are taken together; few, so that answers are sent while the next ones are computed.
        queue: texts that may wait.
    """

    def __init__(self, answer: Answer, window: float = 0.003, most: int = 8, queue: int = 1024) -> None:
        self._answer = answer
        self._window, self._most, self._queue = window, most, queue
        self._waiting: list[_Waiting] = []
        self._count = 0
        self._unanswered = 0
        self._arrived = asyncio.Event()
        self._full = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="answers")
        self._task: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """How many texts wait."""
        return self._count

    def start(self) -> None:
        """Begin to answer, inside a running event loop."""
        self._task = asyncio.create_task(self._work())

    async def stop(self) -> None:
        """Answer what waits, then end."""
        while self._unanswered:
            await asyncio.sleep(0.01)
        if self._task is not None:
            self._task.cancel()
        self._thread.shutdown(wait=True)

    async def ask(self, texts: Sequence[Any]) -> list[Any]:
        """Return the answers to the texts of one request.

        Arguments:
            texts: the texts.

        Returns:
            One answer for each. Raises `BusyError` where too many texts wait already, or what `answer` raises.
        """
        if self._count + len(texts) > self._queue:
            raise BusyError(
                f"{self._count} texts are waiting and the queue holds {self._queue}: try again in a moment."
            )
        entry = _Waiting(texts, asyncio.get_running_loop().create_future())
        self._waiting.append(entry)
        self._count += len(texts)
        self._unanswered += 1
        self._arrived.set()
        if self._count >= self._most:
            self._full.set()
        try:
            return await entry.answers
        finally:
            self._unanswered -= 1

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        idle = True
        while True:
            if not self._waiting:
                idle = True
                self._arrived.clear()
                await self._arrived.wait()
            if idle and self._window and not self._full.is_set():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._full.wait(), self._window)
            batch = self._take()
            results = await loop.run_in_executor(self._thread, self._answer_all, [entry.texts for entry in batch])
            idle = False
            for entry, result in zip(batch, results, strict=True):
                if entry.answers.done():  # whoever asked is gone
                    continue
                if isinstance(result, Exception):
                    entry.answers.set_exception(result)
                else:
                    entry.answers.set_result(result)

    def _take(self) -> list[_Waiting]:
        """Return the requests to answer next: the one that came first, and those of its kind most like it in length."""
        first = self._waiting[0]
        batch, size = [first], len(first.texts)
        for entry in sorted(self._waiting[1:], key=lambda entry: abs(_length(entry) - _length(first))):
            if self._window > 0 and size + len(entry.texts) <= self._most and _kind(entry) == _kind(first):
                batch.append(entry)
                size += len(entry.texts)
        taken = set(map(id, batch))
        self._waiting = [entry for entry in self._waiting if id(entry) not in taken]
        self._count -= size
        if self._count < self._most:
            self._full.clear()
        return batch

    def _answer_all(self, requests: Sequence[Sequence[Any]]) -> list[list[Any] | Exception]:
        try:
            answers = iter(self._answer([text for texts in requests for text in texts]))
            return [[next(answers) for _ in texts] for texts in requests]
        except Exception as error:
            if len(requests) == 1:
                return [error]
        # One of them is to blame; the others get their answers.
        return [self._answer_all([texts])[0] for texts in requests]


def _length(entry: _Waiting) -> int:
    """Return the characters of the longest text of a request, up to which the others of its batch are filled."""
    return max(len(text) if isinstance(text, str) else sum(map(len, text)) for text in entry.texts)


def _kind(entry: _Waiting) -> bool:
    """Whether a request is of pairs of texts, which do not mix with single ones."""
    return not isinstance(entry.texts[0], str)
