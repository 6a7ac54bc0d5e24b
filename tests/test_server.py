"""bert4albert serve: joined requests get their own answers, limits are told in words, SIGTERM loses nothing."""

import asyncio
import json
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
from support.models import TINY, eagerly, untidy

from bert4albert import Tokenizer, build_model
from bert4albert.cli import main
from bert4albert.serving import load
from bert4albert.tasks import TextClassifier

pytest.importorskip("fastapi")
pytest.importorskip("onnxruntime")
httpx = pytest.importorskip("httpx")

pytestmark = [pytest.mark.once, pytest.mark.eager]

TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"今天气真好不坏，。", *"abcdefgh"]
TEXTS = ["今天天气真好", "不坏，真好。" * 5, "a b c", "坏", "好" * 30]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    task = TextClassifier(build_model(TINY), Tokenizer(TOKENS), ["坏", "好", "不"], maxlen=32)
    untidy(task.model)
    with eagerly():
        task.export(tmp_path_factory.mktemp("export") / "out", texts=TEXTS)
    task.save(tmp_path_factory.mktemp("task"))
    return tmp_path_factory.getbasetemp() / "export0" / "out"


@pytest.fixture(scope="module")
def expected(folder):
    return dict(zip(TEXTS, load(folder).predict(TEXTS), strict=True))


class Server:
    """The command in a process of its own."""

    def __init__(self, folder, *options):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        command = [sys.executable, "-m", "bert4albert", "serve", folder, "--port", self.port, *options]
        self.process = subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.url = f"http://127.0.0.1:{self.port}"
        for _ in range(600):
            try:
                httpx.get(f"{self.url}/health")
                return
            except httpx.TransportError:
                assert self.process.poll() is None, self.process.communicate()[1]
                time.sleep(0.1)
        raise AssertionError("the server did not start")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.communicate(timeout=60)

    def ask(self, texts, **more):
        return httpx.post(f"{self.url}/predict", json={"texts": texts, **more}, timeout=60)


def ask_many(server, requests, connections, texts):
    """Ask from so many connections at once; return the answer of each request, in order."""

    async def run():
        limits = httpx.Limits(max_connections=connections)
        async with httpx.AsyncClient(limits=limits, timeout=60) as client:
            questions = [{"texts": [texts[i % len(texts)]]} for i in range(requests)]
            posts = [client.post(f"{server.url}/predict", json=question) for question in questions]
            return await asyncio.gather(*posts)

    return asyncio.run(run())


def test_many_connections_at_once_lose_nothing(folder, expected):
    with Server(folder) as server:
        responses = ask_many(server, 100, 50, TEXTS)
        for index, response in enumerate(responses):
            assert response.status_code == 200, response.text
            assert response.json()["answers"] == [expected[TEXTS[index % len(TEXTS)]]]


def test_answers_probabilities_health_and_limits(folder, expected):
    with Server(folder, "--max-characters", 40, "--max-texts", 6, "--queue", 8, "--no-joining") as server:
        health = httpx.get(f"{server.url}/health").json()
        assert (health["status"], health["task"], health["labels"]) == ("ok", "TextClassifier", ["坏", "好", "不"])
        assert "/predict" in httpx.get(f"{server.url}/openapi.json").json()["paths"]
        assert server.ask(TEXTS).json()["answers"] == [*expected.values()]
        assert server.ask([["今天", "好"]]).json()["answers"] == load(folder).predict([("今天", "好")])
        found = server.ask(TEXTS[:2], probabilities=True).json()
        assert [max(row, key=row.get) for row in found["probabilities"]] == found["answers"]
        for question, status, words in [
            (["好" * 41], 413, "41 characters; this server takes 40"),
            (TEXTS * 2, 413, "10 texts in one request"),
            (["a", ["a", "b"]], 422, "pairs"),
        ]:
            response = server.ask(question)
            assert response.status_code == status
            assert words in response.json()["detail"]
        assert server.ask([]).status_code == 422


def test_sigterm_finishes_what_is_held(folder, expected):
    # Long and wide enough for all requests to be held, and for the signal to come while they are.
    with Server(folder, "--window", 2000, "--batch-size", 99) as server:
        found = []
        threads = [threading.Thread(target=lambda: found.append(server.ask(TEXTS)), daemon=True) for _ in range(12)]
        for thread in threads:
            thread.start()
        while httpx.get(f"{server.url}/health").json()["waiting"] < 12 * len(TEXTS):
            assert not found
            time.sleep(0.001)
        server.process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join(60)
        assert [response.status_code for response in found] == [200] * 12
        assert all(response.json()["answers"] == [*expected.values()] for response in found)
        # uvicorn passes the signal on to itself when all is done.
        assert server.process.wait(60) in (0, -signal.SIGTERM)


HOSTILE = {
    "no JSON": (b"texts=a", (422,), "JSON"),
    "no text": (b"\xff\xfe\x00", (400, 422), ""),
    "nothing": (b"", (422,), "required"),
    "a list": (b"[]", (422,), "body"),
    "a number": (b'{"texts": 3}', (422,), "texts"),
    "a text": ('{"texts": "今天"}'.encode(), (422,), "texts: Input should be a valid list"),
    "texts that are none": (b'{"texts": [1, null, {}]}', (422,), "texts.0"),
    "three of a pair": (b'{"texts": [["a", "b", "c"]]}', (422,), "texts.0"),
    "no number": (b'{"texts": NaN}', (422,), "texts"),
    "an endless number": (b'{"texts": [1e999]}', (422,), "texts.0"),
    "half a character": (b'{"texts": ["a\\ud83d"]}', (422,), "half of a character"),
    "deep": (b'{"texts": ' + b"[" * 50_000 + b"]" * 50_000 + b"}", (400, 422), ""),
    "probabilities that are none": (b'{"texts": ["a"], "probabilities": "often"}', (422,), "probabilities"),
    "huge": (b'{"texts": ["' + b"a" * 300_000 + b'"]}', (413,), "more than 200,000 bytes"),
    "empty": (b'{"texts": []}', (422,), "texts"),
}


@pytest.fixture(scope="module")
def client(folder):
    from fastapi.testclient import TestClient

    from bert4albert.server.app import Limits, make_app

    app = make_app(load(folder), "TextClassifier", Limits(window=0, size=200_000))
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.mark.parametrize("name", HOSTILE)
def test_what_cannot_be_answered_is_told_in_words(client, name):
    content, statuses, words = HOSTILE[name]
    response = client.post("/predict", content=content, headers={"Content-Type": "application/json"})
    assert response.status_code in statuses, response.text
    assert isinstance(response.json()["detail"], str)
    assert words in response.json()["detail"]
    assert len(response.content) < 1000


def test_a_request_that_hides_its_size_is_cut_off(client):
    parts = (b"a" * 50_000 for _ in range(9))
    response = client.post("/predict", content=parts, headers={"Content-Type": "application/json"})
    assert response.status_code == 413


def test_control_characters_and_strange_texts_are_answered(client, folder):
    texts = ["\0", "\x1b[31m今天", "\r\n\t", "\u202e坏", "\ufffe", "😀" * 50, ""]
    response = client.post("/predict", json={"texts": texts, "probabilities": True})
    assert response.status_code == 200
    assert response.json()["answers"] == load(folder).predict(texts)


def test_what_is_held_is_answered_before_the_joiner_ends():
    from bert4albert.server.joining import Joiner

    def answer(texts):
        time.sleep(0.1)
        return list(texts)

    async def run():
        joiner = Joiner(answer, window=0)
        joiner.start()
        asked = [asyncio.create_task(joiner.ask([text])) for text in "ab"]
        await asyncio.sleep(0.02)  # The first is being computed, the second waits.
        await joiner.stop()
        return [task.result() for task in asked]

    assert asyncio.run(run()) == [["a"], ["b"]]


def test_a_full_queue_and_a_bad_text_are_the_askers_alone():
    from bert4albert.errors import DataError
    from bert4albert.server.joining import BusyError, Joiner

    batches = []

    def answer(texts):
        batches.append(list(texts))
        time.sleep(0.05)
        if "bad" in texts:
            raise DataError("a bad text")
        return [text.upper() for text in texts]

    async def run():
        joiner = Joiner(answer, window=0.02, queue=6)
        joiner.start()
        asked = [["a"], ["b", "c"], ["bad"], ["d"], ["e", "f"]]
        results = await asyncio.gather(*map(joiner.ask, asked), return_exceptions=True)
        await joiner.stop()
        return results

    results = asyncio.run(run())
    assert results[:2] == [["A"], ["B", "C"]]
    assert isinstance(results[2], DataError)
    assert results[3] == ["D"]
    assert isinstance(results[4], BusyError)
    assert sorted(batches[0]) == ["a", "b", "bad", "c", "d"]


def test_those_are_joined_that_are_as_long_as_the_one_that_came_first():
    from bert4albert.server.joining import Joiner

    batches = []

    async def run():
        joiner = Joiner(lambda texts: batches.append(list(texts)) or list(texts), window=0.02, most=2)
        joiner.start()
        await asyncio.gather(*map(joiner.ask, [["aaa"], ["b"], ["cccc"], ["dd"]]))
        await joiner.stop()

    asyncio.run(run())
    assert batches == [["aaa", "cccc"], ["b", "dd"]]


def test_a_lone_request_waits_at_most_the_window():
    from bert4albert.server.joining import Joiner

    async def run():
        joiner = Joiner(lambda texts: list(texts), window=0.05)
        joiner.start()
        started = time.perf_counter()
        await joiner.ask(["a"])
        waited = time.perf_counter() - started
        await joiner.stop()
        return waited

    assert 0.04 < asyncio.run(run()) < 1


def test_a_task_folder_is_served_as_well(folder, expected):
    from bert4albert.server.serve_command import open_folder

    task, name = open_folder(folder.parents[1] / "task0")
    assert name == "TextClassifier"
    assert task.predict(TEXTS) == [*expected.values()]


def test_a_folder_of_neither_is_told_in_one_line(tmp_path, capsys):
    (tmp_path / "other.json").write_text(json.dumps({}))
    assert main(["serve", str(tmp_path)]) == 1
    assert "holds neither an export" in capsys.readouterr().err
