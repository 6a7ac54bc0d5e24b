"""What all fuzzers share: absurd values, changes of bytes and of JSON, and the rule that every case must keep.

The rule: an error of ours, one line of at most 2,000 characters, or a load that is equal to what an independent reader
reads; within seconds and little memory; and nothing of a file is ever run.
"""

import json
import random
import time
import tracemalloc
from collections import Counter

from bert4albert import Bert4AlbertError

ABSURD = [
    None, True, -1, 0, 1, 3, 2.5, 10**4, 2**31, 2**63, 10**400, 1e308, "12", "", [], [[]], {}, {"a": 1},
    "gelu", "x" * 500, [0] * 500, float("inf"), float("nan"), json.loads("[" * 700 + "]" * 700),
    "\x1b[31m\x9b\n", [0, 10**9], {"attention": [0, 10**9]}, 8_000_000_000, "\ud800", "../x", "/dev/zero",
]  # fmt: skip
MOST_BYTES = 64 * 2**20
MOST_SECONDS = 2.0
LONGEST_MESSAGE = 2000


def changed_bytes(chance, content, end=None):
    """Cut, flip or splice; `end` confines the change to the start of the file."""
    content, end = bytearray(content), min(len(content), end or len(content))
    how = chance.choice(["cut", "flip", "flip", "splice"]) if content else "splice"
    if how == "cut":
        return bytes(content[: chance.randrange(end)])
    if how == "flip":
        for _ in range(chance.choice([1, 1, 2, 8])):
            content[chance.randrange(end)] ^= 1 << chance.randrange(8)
        return bytes(content)
    start, length = chance.randrange(end + 1), chance.choice([1, 4, 40])
    new = chance.choice([b"", b"\xff" * length, chance.randbytes(length), content[:length], b"\n" * length])
    content[start : start + length] = new
    return bytes(content)


def changed_json(chance, values):
    """Put absurd values, lost keys and strange keys somewhere into JSON values."""
    values = json.loads(json.dumps(values))
    for _ in range(chance.choice([1, 1, 1, 3])):
        parent, key = chance.choice([*_places(values)] or [(None, None)])
        how = chance.choice(["absurd", "absurd", "absurd", "drop", "rename", "repeat"])
        if parent is None:
            return absurd(chance)
        if how == "absurd":
            parent[key] = absurd(chance)
        elif how == "drop":
            del parent[key]
        elif isinstance(parent, list):
            parent.insert(key, parent[key])
        elif how == "rename":
            parent[f"{key}s"] = parent.pop(key)
        else:
            parent["\x1b[2J" * 9] = parent[key]
    return values


def absurd(chance):
    """One of the absurd values: a copy, since what is put into a file may be changed there in its turn."""
    value = chance.choice(ABSURD)
    return json.loads(json.dumps(value)) if isinstance(value, list | dict) else value


def _places(values, levels=20):
    items = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    for key, value in items:
        yield values, key
        if levels:  # Not to the ground of what is nested hundreds of levels deep.
            yield from _places(value, levels - 1)


class Cases:
    """Cases for one kind of files, in a folder of its own.

    A kind has `intact`, its files by name, and the methods named in `changes`: each takes those files and returns
    changed ones, with what else `check` needs to know. `load` is the door; `check` compares what came through it.
    """

    def __init__(self, kind, folder, seed=0):
        self.kind, self.folder, self.chance = kind, folder, random.Random(f"{kind} {seed}")
        self.trap = folder / "it ran"
        self.intact, self.changes = {}, []

    def write(self, files):
        for name in self.intact:
            (self.folder / name).unlink(missing_ok=True)
        for name, content in files.items():
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_bytes(content)

    def run(self):
        """Run one case and say what became of it; anything but our errors and equal values fails."""
        change = self.chance.choice(self.changes)
        files, known = change(dict(self.intact))
        self.write(files)
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        start = time.process_time()
        try:
            loaded = self.load()
        except Bert4AlbertError as error:
            message = str(error)
            assert message
            assert len(message) <= LONGEST_MESSAGE
            assert message.isprintable()
            return change.__name__, "refused"
        finally:
            assert time.process_time() - start < MOST_SECONDS * self.slowness
            largest = max(map(len, self.intact.values()))
            assert tracemalloc.get_traced_memory()[1] - before < MOST_BYTES + 2 * largest
            assert not self.trap.exists()
        self.check(loaded, files, known)
        return change.__name__, "loaded exactly"

    slowness = 1.0

    def load(self):
        raise NotImplementedError

    def check(self, loaded, files, known):
        raise NotImplementedError


def run_cases(cases, count):
    """Run cases and return what became of them."""
    outcomes = Counter()
    cases.write(cases.intact)
    cases.load()  # what is loaded once for all does not count
    tracemalloc.start()
    try:
        for number in range(count):
            try:
                outcomes[cases.run()] += 1
            except Exception as error:
                error.add_note(f"{cases.kind}, case {number}; the files are those in {cases.folder}")
                raise
    finally:
        tracemalloc.stop()
    return outcomes
