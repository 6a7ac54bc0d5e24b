"""Files, strings and lists: the small functions of bert4keras' `snippets`."""

from __future__ import annotations

import builtins
import json
import os
import re
import threading
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np


def to_array(*args: Any) -> Any:
    """Return what is given as arrays: one array, or a list of several."""
    arrays = [np.array(item) for item in args]
    return arrays[0] if len(arrays) == 1 else arrays


def is_string(s: Any) -> bool:
    """Return whether this is a string."""
    return isinstance(s, str)


def strQ2B(ustring: str) -> str:  # noqa: N802  (its name in bert4keras)
    """Return a string with full-width characters replaced by half-width ones."""
    codes = (ord(character) for character in ustring)
    return "".join(chr(32 if c == 12288 else c - 65248 if 65281 <= c <= 65374 else c) for c in codes)


def string_matching(s: str, keywords: Iterable[str]) -> bool:
    """Return whether a string matches any of these patterns."""
    return any(re.search(keyword, s) for keyword in keywords)


def convert_to_unicode(text: Any, encoding: str = "utf-8", errors: str = "ignore") -> str:
    """Return bytes as a string, and a string as it is."""
    return text.decode(encoding, errors=errors) if isinstance(text, bytes) else text


convert_to_str = convert_to_unicode


def lowercase_and_normalize(text: str) -> str:
    """Return a text in lower case, without accents."""
    decomposed = unicodedata.normalize("NFD", text.lower())
    return "".join(character for character in decomposed if unicodedata.category(character) != "Mn")


class open:  # noqa: N801  (its name in bert4keras)
    """Python's `open`, whose lines can also be had by their numbers.

    Arguments:
        name, mode, encoding, errors: as for Python's.
        indexable: True to find all lines at once; or the path of a file that keeps where they are.
    """

    def __init__(
        self,
        name: Any,
        mode: str = "r",
        encoding: str | None = None,
        errors: str | None = None,
        indexable: bool | str = False,
    ) -> None:
        self.file: Any = builtins.open(name, mode, encoding=encoding, errors=errors)  # noqa: SIM115
        if indexable:
            self._find_lines(indexable)

    def _find_lines(self, index: bool | str) -> None:
        if isinstance(index, str) and os.path.exists(index):
            with builtins.open(index) as kept:
                self.offsets = json.load(kept)
            return
        self.offsets = []
        while True:
            offset = self.file.tell()
            if not self.file.readline():
                break
            self.offsets.append(offset)
        self.file.seek(0)
        if isinstance(index, str):
            with builtins.open(index, "w") as kept:
                json.dump(self.offsets, kept)

    def __getitem__(self, key: int) -> Any:
        self.file.seek(self.offsets[key])
        return self.file.readline()

    def __len__(self) -> int:
        return len(self.offsets)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.file)

    def __next__(self) -> Any:
        return next(self.file)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["file"], name)

    def __enter__(self) -> open:
        return self

    def __exit__(self, *_: Any) -> None:
        self.file.close()


def truncate_sequences(maxlen: int, indices: Any, *sequences: Any) -> list[list[Any]]:
    """Take items out of the longest list, at its index, until all together have at most `maxlen`; return the lists."""
    lists = [sequence for sequence in sequences if sequence]
    indices = indices if isinstance(indices, (list, tuple)) else [indices] * len(lists)
    while sum(map(len, lists)) > maxlen:
        longest = int(np.argmax([len(items) for items in lists]))
        lists[longest].pop(indices[longest])
    return lists


def text_segmentate(text: str, maxlen: int, seps: str = "\n", strips: str | None = None) -> list[str]:
    """Return a text in pieces of at most `maxlen` characters where that is possible.

    Arguments:
        text: the text.
        maxlen: the most characters of a piece.
        seps: where to cut, the best separator first.
        strips: what to take off both ends.
    """
    text = text.strip().strip(strips)
    if not seps or len(text) <= maxlen:
        return [text]
    pieces = text.split(seps[0])
    texts, text = [], ""
    for index, piece in enumerate(pieces):
        if text and piece and len(text) + len(piece) > maxlen - 1:
            texts += text_segmentate(text, maxlen, seps[1:], strips)
            text = ""
        text += piece if index + 1 == len(pieces) else piece + seps[0]
    return texts + text_segmentate(text, maxlen, seps[1:], strips) if text else texts


def longest_common_substring(source: Sequence[Any], target: Sequence[Any]) -> tuple[int, tuple[int, int, int, int]]:
    """Return the length of the longest piece that both have, and (start, end) of it in both; the first one found."""
    best, span = 0, (0, 0, 0, 0)
    before = [0] * (len(target) + 1)
    for i, of_source in enumerate(source, 1):
        now = [0] * (len(target) + 1)
        for j, of_target in enumerate(target, 1):
            if of_source == of_target:
                now[j] = before[j - 1] + 1
                if now[j] > best:
                    best = now[j]
                    span = (i - best, i, j - best, j)
        before = now
    return best, span


def longest_common_subsequence(source: Sequence[Any], target: Sequence[Any]) -> tuple[int, list[tuple[int, int]]]:
    """Return the length of the longest sequence that both have in order, and the pairs of its places in both."""
    lengths = np.zeros((len(source) + 1, len(target) + 1), int)
    for i, of_source in enumerate(source, 1):
        for j, of_target in enumerate(target, 1):
            same = of_source == of_target
            lengths[i, j] = lengths[i - 1, j - 1] + 1 if same else max(lengths[i, j - 1], lengths[i - 1, j])
    pairs: list[tuple[int, int]] = []
    i, j = len(source) - 1, len(target) - 1
    while len(pairs) < lengths[-1, -1]:
        if source[i] == target[j]:
            pairs.append((i, j))
            i, j = i - 1, j - 1
        elif lengths[i + 1, j] > lengths[i, j + 1]:
            j -= 1
        else:
            i -= 1
    return int(lengths[-1, -1]), pairs[::-1]


def is_one_of(x: Any, ys: Iterable[Any]) -> bool:
    """Return whether `x` is one of these objects, not only equal to one."""
    return any(x is y for y in ys)


def parallel_apply(
    func: Callable[[Any], Any],
    iterable: Iterable[Any],
    workers: int,
    max_queue_size: int = 0,
    callback: Callable[[Any], Any] | None = None,
    dummy: bool = False,
    random_seeds: Any = True,
    unordered: bool = True,
) -> list[Any] | None:
    """Apply a function to each item in several processes, or threads if `dummy`.

    Arguments:
        func, iterable: the function and the items.
        workers: how many processes.
        max_queue_size: how many items may wait for a process or for the caller; 0 for any number.
        callback: what to do with each result; None to return them.
        dummy: threads in place of processes.
        random_seeds: True for a new seed of NumPy in each process, a list of seeds, or False.
        unordered: results as they come; False for the order of the items.

    Returns:
        The results, or None with a callback.
    """
    results = parallel_apply_generator(func, iterable, workers, max_queue_size, dummy, random_seeds)
    if callback is not None:
        for _, result in results:
            callback(result)
        return None
    pairs = list(results) if unordered else sorted(results, key=lambda pair: pair[0])
    return [result for _, result in pairs]


def parallel_apply_generator(
    func: Callable[[Any], Any],
    iterable: Iterable[Any],
    workers: int,
    max_queue_size: int = 0,
    dummy: bool = False,
    random_seeds: Any = True,
) -> Iterator[tuple[int, Any]]:
    """Yield (number, result) of each item as the results come; arguments as for `parallel_apply`."""
    import multiprocessing
    from multiprocessing.pool import ThreadPool

    # Forked, so that functions defined in a script need not be found again.
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    new_seeds = [] if dummy else [None] * workers  # threads share one generator, which is left as the script seeded it
    for seed in new_seeds if random_seeds is True else random_seeds or []:
        queue.put(seed)
    pool: Any = (ThreadPool if dummy else context.Pool)(workers, _seed_worker, (queue, None if dummy else func))
    # A pool reads ahead without end, and iterables may be longer than memory.
    room, stopped = threading.Semaphore(max_queue_size + workers if max_queue_size else 2**40), threading.Event()

    def items() -> Iterator[tuple[int, Any]]:
        for pair in enumerate(iterable):
            room.acquire()
            if stopped.is_set():
                return
            yield pair

    with pool:
        task = (lambda pair: (pair[0], func(pair[1]))) if dummy else _apply_in_worker
        try:
            for result in pool.imap_unordered(task, items()):
                room.release()
                yield result
        finally:
            stopped.set()
            room.release()


_WORKER: dict[str, Any] = {}


def _seed_worker(queue: Any, func: Callable[[Any], Any] | None) -> None:
    if func is not None:
        _WORKER["func"] = func
    if not queue.empty():
        np.random.seed(queue.get())


def _apply_in_worker(pair: tuple[int, Any]) -> tuple[int, Any]:
    return pair[0], _WORKER["func"](pair[1])
