"""What joining requests gains: one server with it and one without, under the same load.

    python benchmarks/serving.py [--sizes tiny base] [--requests 1000] [--connections 50]

For each size an untrained classifier is exported as ONNX. The server, `bert4albert serve`, and the load, this file with
`--load`, are processes of their own. Each request is one text of 8 to 128 tokens, the same ones for both servers, and
every answer is compared with that of `serving.load`. The servers take turns. Then single requests come one after
another, and wait for nobody but the joining window. The bars: nothing lost, nothing wrong, 1.5 times the throughput.
"""

import argparse
import asyncio
import json
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bert4albert.command_line import CommandParser, start_keras

SIZES = {
    "toy": {"hidden_size": 48, "num_attention_heads": 4, "num_hidden_layers": 2, "intermediate_size": 80},
    "tiny": {},
    "base": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072},
}
SERVERS = {"joining": [], "no joining": ["--no-joining"]}
CHARACTERS = "的一是不了在有人我他这大来上个们到说国和也子时道那"


async def _ask(port: int, requests: list[str], connections: int) -> tuple[float, list[float], list]:
    """Return the seconds of all requests, those of each, and the answers.

    Speaks HTTP by hand: a client of a library takes more of the cores than the server has left for it.
    """
    waiting = list(enumerate(requests))[::-1]
    seconds, answers = [0.0] * len(requests), [""] * len(requests)

    async def connection() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while waiting:
            number, text = waiting.pop()
            body = json.dumps({"texts": [text]}).encode()
            head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
            began = time.perf_counter()
            writer.write(f"{head}\r\n\r\n".encode() + body)
            answer = (await reader.readuntil(b"\r\n\r\n")).lower()
            size = int(answer.split(b"content-length:")[1].split(b"\r\n")[0])
            found = json.loads(await reader.readexactly(size))
            seconds[number] = time.perf_counter() - began
            answers[number] = found["answers"][0] if "answers" in found else str(found)
        writer.close()

    began = time.perf_counter()
    await asyncio.gather(*(connection() for _ in range(connections)))
    return time.perf_counter() - began, seconds, answers


def load(port: int) -> None:
    """Be the load: read texts and connections from standard input, write what was measured to standard output."""
    question = json.load(sys.stdin)
    json.dump(asyncio.run(_ask(port, question["texts"], question["connections"])), sys.stdout)


class Server:
    """`bert4albert serve` in a process of its own."""

    def __init__(self, folder: Path, options: list[str]) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        command = [sys.executable, "-m", "bert4albert", "serve", str(folder), "--port", str(self.port), *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.process.stdout.readline()
        time.sleep(1)

    def measure(self, texts: list[str], connections: int) -> tuple[float, list[float], list]:
        """Return what the load has measured."""
        command = [sys.executable, __file__, "--load", str(self.port)]
        question = json.dumps({"texts": texts, "connections": connections})
        return json.loads(subprocess.run(command, input=question, capture_output=True, text=True, check=True).stdout)

    def end(self) -> None:
        """Tell it to end, and wait until it has."""
        self.process.terminate()
        self.process.wait()


def export(size: str, folder: Path) -> None:
    start_keras()
    from bert4albert import Tokenizer, build_model
    from bert4albert.tasks import TextClassifier

    config = build_model("albert_tiny_zh").config.to_dict() | {"sharing": "shared"} | SIZES[size]
    labels = ["bad", "good"]
    task = TextClassifier(build_model(config), Tokenizer("albert_tiny_zh"), labels, pooling="mean", maxlen=128)
    task.export(folder, min_agreement=0.9)


def compare(size: str, arguments: argparse.Namespace) -> None:
    from bert4albert import serving

    draw = random.Random(0)
    lengths = [draw.randint(8, 128) - 2 for _ in range(arguments.requests)]  # beside [CLS] and [SEP]
    texts = ["".join(draw.choices(CHARACTERS, k=length)) for length in lengths]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "exported"
        export(size, folder)
        expected = serving.load(folder).predict(texts)
        servers = {name: Server(folder, options) for name, options in SERVERS.items()}
        try:
            rates: dict[str, list[float]] = {name: [] for name in servers}
            for turn in range(arguments.turns + 1):
                for name, server in servers.items():
                    seconds, each, answers = server.measure(texts, arguments.connections)
                    wrong = sum(one != other for one, other in zip(answers, expected, strict=True))
                    if turn:  # the first warms up
                        rates[name].append(len(texts) / seconds)
                    middle, high = statistics.median(each), sorted(each)[int(0.99 * len(each))]
                    print(
                        f"{size}, {name}: {len(answers)} answers, {wrong} wrong, {len(texts) / seconds:.1f} a second; "
                        f"median {1000 * middle:.1f} ms, 99 % within {1000 * high:.1f} ms",
                        flush=True,
                    )
            if rates["joining"]:
                gain = statistics.median(rates["joining"]) / statistics.median(rates["no joining"])
                print(f"{size}: joining gives {gain:.2f} times the throughput")
            for name, server in servers.items():
                alone = server.measure(texts[: arguments.alone], 1)[1]
                print(f"{size}, {name}, one request at a time: median {1000 * statistics.median(alone):.1f} ms")
        finally:
            for server in servers.values():
                server.end()


def main() -> None:
    parser = CommandParser(description=__doc__)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["tiny", "base"], help="of the model")
    parser.add_argument("--requests", type=int, default=1000, help="in a turn")
    parser.add_argument("--connections", type=int, default=50, help="that are open at once")
    parser.add_argument("--turns", type=int, default=3, help="of each server, after one that warms up")
    parser.add_argument("--alone", type=int, default=100, help="requests that come one after another")
    parser.add_argument("--load", type=int, metavar="PORT", help="used by this program itself: be the load")
    arguments = parser.parse_args()
    if arguments.load is not None:
        load(arguments.load)
        return
    for size in arguments.sizes:
        compare(size, arguments)


if __name__ == "__main__":
    main()
