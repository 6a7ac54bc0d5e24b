"""The HTTP side of `bert4albert serve`: /predict, /health, and a page about both at /docs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from bert4albert import __version__
from bert4albert.errors import Bert4AlbertError, printable
from bert4albert.server.joining import BusyError, Joiner


@dataclass(frozen=True)
class Limits:
    """What a server takes.

    Attributes:
        window: seconds that a request waits for others to join it; 0 for none.
        batch_size: texts of similar length that are computed at once.
        queue: texts that may wait.
        characters: characters that a text may have.
        texts: texts that a request may have.
        size: bytes that a request may have.
    """

    window: float = 0.003
    batch_size: int = 8
    queue: int = 1024
    characters: int = 10_000
    texts: int = 256
    size: int = 10_000_000


class Question(BaseModel):
    """What `/predict` is asked."""

    texts: Annotated[
        list[str | tuple[str, str]],
        Field(min_length=1, description="texts, or pairs of texts", examples=[["便宜，好用", "再也不买了"]]),
    ]
    probabilities: Annotated[bool, Field(description="give the probability of each label too")] = False


class Answers(BaseModel):
    """What `/predict` answers."""

    answers: Annotated[list[Any], Field(description="one for each text, as the task's predict gives it")]
    probabilities: Annotated[
        list[dict[str, float]] | None, Field(description="for each text, the probability of each label")
    ] = None


class Health(BaseModel):
    """What `/health` answers."""

    status: str
    task: str
    labels: list[Any]
    waiting: int
    version: str


def make_app(task: Any, name: str, limits: Limits) -> FastAPI:
    """Return the application.

    Arguments:
        task: a task, or what `serving.load` gave.
        name: the name of the task's class.
        limits: what it takes.
    """
    joiners: dict[bool, Joiner] = {}

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        size = limits.batch_size
        for probabilities, answer in (False, _answers), (True, _with_probabilities):
            joiners[probabilities] = Joiner(partial(answer, task, size), limits.window, size, limits.queue)
        for joiner in joiners.values():
            joiner.start()
        yield
        for joiner in joiners.values():
            await joiner.stop()

    app = FastAPI(title=f"bert4albert: {name}", version=__version__, lifespan=lifespan)
    app.add_middleware(SizeLimit, most=limits.size)
    app.add_exception_handler(RequestValidationError, _misunderstood)

    @app.post("/predict")
    async def predict(question: Question) -> Answers:
        """Answer texts, in their order."""
        _check(question.texts, limits)
        if question.probabilities and not hasattr(type(task), "predict_proba"):
            raise HTTPException(422, f"A {name} has no probabilities: leave them out.")
        try:
            found = await joiners[question.probabilities].ask(question.texts)
        except BusyError as error:
            raise HTTPException(503, str(error), headers={"Retry-After": "1"}) from None
        except Bert4AlbertError as error:
            raise HTTPException(422, str(error)) from None
        if not question.probabilities:
            return Answers(answers=found)
        return Answers(answers=[answer for answer, _ in found], probabilities=[row for _, row in found])

    @app.get("/health")
    async def health() -> Health:
        """Say that the server runs, and what it serves."""
        labels = list(getattr(task, "labels", None) or [])
        waiting = sum(joiner.waiting for joiner in joiners.values())
        return Health(status="ok", task=name, labels=labels, waiting=waiting, version=__version__)

    return app


class SizeLimit:
    """Lets the application read no more bytes of a request than it may have, whatever the request says of itself.

    Arguments:
        app: the application.
        most: bytes.
    """

    def __init__(self, app: Any, most: int) -> None:
        self.app, self.most = app, most

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass a request on."""
        size = 0

        async def counted() -> Any:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > self.most:
                raise HTTPException(413, f"The request has more than {self.most:,} bytes, which this server takes.")
            return message

        await self.app(scope, counted, send)


async def _misunderstood(_: Request, error: Exception) -> JSONResponse:
    """Say in words where a request is of another form, without its content, which may be large or no JSON again."""
    assert isinstance(error, RequestValidationError)
    found = [f"{'.'.join(map(str, entry['loc']))}: {entry['msg']}"[:200] for entry in error.errors()[:3]]
    return JSONResponse({"detail": printable("; ".join(found)).encode(errors="replace").decode()}, 422)


def _answers(task: Any, batch_size: int, texts: Any) -> list[Any]:
    return list(task.predict(texts, batch_size=batch_size))


def _with_probabilities(task: Any, batch_size: int, texts: Any) -> list[tuple[Any, dict[str, float]]]:
    answers, probabilities = (
        task.predict(texts, batch_size=batch_size),
        task.predict_proba(texts, batch_size=batch_size),
    )
    named = [dict(zip(map(str, task.labels), map(float, row), strict=True)) for row in probabilities]
    return list(zip(answers, named, strict=True))


def _check(texts: list[Any], limits: Limits) -> None:
    """Raise 413 for what is too long, in words."""
    if len(texts) > limits.texts:
        raise HTTPException(413, f"{len(texts)} texts in one request; this server takes {limits.texts}: send fewer.")
    for number, text in enumerate(texts):
        length = len(text) if isinstance(text, str) else sum(map(len, text))
        if length > limits.characters:
            raise HTTPException(
                413,
                f"Text {number} has {length:,} characters; this server takes {limits.characters:,}: cut it, or start "
                "the server with a larger --max-characters.",
            )
    if len({isinstance(text, str) for text in texts}) > 1:
        raise HTTPException(422, "Some texts are pairs and others are not: send them in two requests.")
