"""A corpus as integers on disk: tokenised once, in parallel, and then read through memory maps."""

from __future__ import annotations

import itertools
import json
import os
import zlib
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from bert4albert.checkpoint.formats.arrays import HEADER_FAILURES
from bert4albert.errors import DataError
from bert4albert.files import write_atomically
from bert4albert.plain_files import open_regular, read_json
from bert4albert.pretraining.corpus import Corpus, Document, Paths
from bert4albert.pretraining.progress import ProgressLine
from bert4albert.text import Tokenizer

_INDEX = "index.json"
_MOST_INDEX_BYTES = 2**24
_PARTS = ("tokens", "sentences", "documents")
# Characters in a shard: small enough to hold a few in memory, large enough to need few files.
_SHARD_SIZE = 4_000_000


class Shards:
    r"""A tokenised corpus on disk.

    Arguments:
        folder: what `tokenize_corpus` wrote.

    Attributes:
        num_documents: of all shards together.
        num_sentences: of all shards together.
        num_tokens: of all shards together.

    Raises `DataError` if the folder is not a whole tokenised corpus.

    Examples:
        >>> from pathlib import Path
        >>> from bert4albert import Tokenizer
        >>> from bert4albert.pretraining import Shards, tokenize_corpus
        >>> _ = Path("corpus.txt").write_text("今天很好。\n明天更好。\n\n后天也好。\n", encoding="utf-8")
        >>> tokenizer = Tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"今明后天好。"])
        >>> _ = tokenize_corpus("corpus.txt", tokenizer, "shards", workers=1)
        >>> shards = Shards("shards")
        >>> shards.tokens(0)[:5].tolist()
        [5, 8, 1, 9, 10]
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        index = _read_index(self.folder)
        if index is None or not index["complete"]:
            raise DataError(f"{self.folder} is not a whole tokenised corpus: run tokenize_corpus on it (again).")
        self.sizes: list[dict[str, Any]] = index["shards"]
        self.num_documents = sum(size["documents"] for size in self.sizes)
        self.num_sentences = sum(size["sentences"] for size in self.sizes)
        self.num_tokens = sum(size["tokens"] for size in self.sizes)

    def __len__(self) -> int:
        return len(self.sizes)

    def tokens(self, shard: int) -> np.ndarray:
        """Return the token ids of a shard, an integer memory map [tokens]."""
        return self._map(shard, "tokens")

    def sentence_ends(self, shard: int) -> np.ndarray:
        """Return where each sentence of a shard ends in its tokens, int64 [sentences]."""
        return self._map(shard, "sentences")

    def document_ends(self, shard: int) -> np.ndarray:
        """Return where each document of a shard ends in its sentences, int64 [documents]."""
        return self._map(shard, "documents")

    def _map(self, shard: int, part: str) -> np.ndarray:
        path = _part_path(self.folder, shard, part)
        try:
            with open_regular(path):
                array = np.load(path, mmap_mode="r")
        except (OSError, ValueError, EOFError, *HEADER_FAILURES) as error:
            raise self._damaged(path, str(error)) from None
        size = self.sizes[shard]
        if array.shape != (size[part],) or array.dtype.kind not in "iu":
            raise self._damaged(path, f"it is not {size[part]:,} whole numbers")
        # Shards of earlier versions have none.
        if "checksums" in size and _checksum(array) != size["checksums"].get(part):
            raise self._damaged(path, "its checksum is another one")
        return array

    def _damaged(self, path: Path, why: str) -> DataError:
        return DataError(f"{path} cannot be read ({why}): delete {self.folder} and tokenise again.")


def tokenize_corpus(
    files: Paths,
    tokenizer: Tokenizer,
    folder: str | os.PathLike[str],
    workers: int | None = None,
    shard_size: int = _SHARD_SIZE,
) -> Shards:
    r"""Tokenise a corpus into shards; a run that was interrupted goes on after its last whole shard.

    Arguments:
        files: paths of the corpus, as `Corpus` reads it.
        tokenizer: the tokenizer.
        folder: where the shards go; one that already holds this corpus is only opened.
        workers: processes; None for one a core, 1 for none beside this one. More than one needs the usual
            `if __name__ == "__main__":` in a script of your own.
        shard_size: characters in a shard; memory is bounded by about `workers` + 2 of them.

    Returns:
        The open `Shards`. Raises `DataError` for a corpus without text, or a folder with another one's shards.

    Examples:
        >>> from pathlib import Path
        >>> from bert4albert import Tokenizer
        >>> from bert4albert.pretraining import tokenize_corpus
        >>> _ = Path("corpus.txt").write_text("今天很好。\n明天更好。\n\n后天也好。\n", encoding="utf-8")
        >>> tokenizer = Tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"今明后天好。"])
        >>> shards = tokenize_corpus("corpus.txt", tokenizer, "shards", workers=1)
        >>> shards.num_documents, shards.num_sentences, shards.num_tokens
        (2, 3, 15)
    """
    corpus, folder = Corpus(files), Path(folder)
    recipe = {"corpus": _fingerprint(corpus), "vocabulary": tokenizer.digest, "shard_size": shard_size}
    index = _read_index(folder)
    if index is not None and index["recipe"] != recipe:
        raise DataError(
            f"{folder} holds shards of another corpus or vocabulary (or its files have changed since): "
            "give another folder, or delete this one."
        )
    if index is None or not index["complete"]:
        folder.mkdir(parents=True, exist_ok=True)
        _write_shards(corpus, tokenizer, folder, recipe, index["shards"] if index else [], workers, shard_size)
    return Shards(folder)


def _write_shards(
    corpus: Corpus,
    tokenizer: Tokenizer,
    folder: Path,
    recipe: dict[str, Any],
    sizes: list[dict[str, Any]],
    workers: int | None,
    shard_size: int,
) -> None:
    workers = workers or os.cpu_count() or 1
    progress = ProgressLine("Tokenising")
    blocks = itertools.islice(enumerate(_blocks(corpus, shard_size)), len(sizes), None)
    for size in _in_parallel(blocks, tokenizer, folder, workers):
        sizes.append(size)
        _write_index(folder, recipe, sizes, complete=False)
        progress.show(corpus.fraction_read, f"{sum(size['tokens'] for size in sizes):,} tokens")
    if not any(size["tokens"] for size in sizes):
        raise DataError(f"The corpus ({', '.join(map(str, corpus.paths))}) holds no text: there is nothing to learn.")
    _write_index(folder, recipe, sizes, complete=True)
    progress.show(1.0, f"{sum(size['tokens'] for size in sizes):,} tokens", last=True)


def _blocks(corpus: Corpus, shard_size: int) -> Iterator[list[Document]]:
    block, characters = list[Document](), 0
    for document in corpus:
        block.append(document)
        characters += sum(map(len, document))
        if characters >= shard_size:
            yield block
            block, characters = [], 0
    if block:
        yield block


def _in_parallel(
    blocks: Iterator[tuple[int, list[Document]]], tokenizer: Tokenizer, folder: Path, workers: int
) -> Iterator[dict[str, Any]]:
    """Yield the sizes of the shards in order; never more blocks in memory than workers and one to come."""
    if workers == 1:
        for shard, block in blocks:
            yield _write_shard(shard, block, tokenizer, folder)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        waiting: list[Future[dict[str, Any]]] = []
        try:
            for shard, block in blocks:
                waiting.append(pool.submit(_write_shard, shard, block, tokenizer, folder))
                if len(waiting) > workers:
                    yield waiting.pop(0).result()
            for future in waiting:
                yield future.result()
        except BrokenProcessPool:
            raise DataError(
                "A tokenising process ended early: call this under `if __name__ == '__main__':`, "
                "or with workers=1; it goes on where it stopped."
            ) from None


def _write_shard(shard: int, block: list[Document], tokenizer: Tokenizer, folder: Path) -> dict[str, Any]:
    token_type = np.uint16 if tokenizer.vocab_size <= 1 << 16 else np.uint32
    rows, _ = tokenizer.encode_many(sentence for document in block for sentence in document)
    # Encoding adds [CLS] and [SEP]; a sentence of dropped characters alone has nothing between them.
    lengths = np.array([len(row) - 2 for row in rows], np.int64)
    documents = np.repeat(np.arange(len(block)), [len(document) for document in block])[lengths > 0]
    arrays = {
        "tokens": np.fromiter(itertools.chain.from_iterable(row[1:-1] for row in rows), token_type, lengths.sum()),
        "sentences": np.cumsum(lengths[lengths > 0]),
        "documents": np.searchsorted(documents, np.unique(documents), side="right").astype(np.int64),
    }
    for part, array in arrays.items():
        write_atomically(_part_path(folder, shard, part), partial(np.save, arr=array))
    checksums = {part: _checksum(array) for part, array in arrays.items()}
    return {part: len(array) for part, array in arrays.items()} | {"checksums": checksums}


def _checksum(array: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(array).data)


def _part_path(folder: Path, shard: int, part: str) -> Path:
    return folder / f"{shard:05d}.{part}.npy"


def _read_index(folder: Path) -> dict[str, Any] | None:
    path = folder / _INDEX
    try:
        index = read_json(path, _MOST_INDEX_BYTES)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is damaged ({error}): delete {folder} and tokenise again.") from None
    if not ({"recipe", "complete", "shards"} <= index.keys() and _are_sizes(index["shards"])):
        raise DataError(f"{path} is damaged (it is no index of shards): delete {folder} and tokenise again.")
    return index


def _are_sizes(shards: Any) -> bool:
    return isinstance(shards, list) and all(
        isinstance(size, dict)
        and all(type(size.get(part)) is int and size[part] >= 0 for part in _PARTS)
        and isinstance(size.get("checksums", {}), dict)
        for size in shards
    )


def _write_index(folder: Path, recipe: dict[str, Any], sizes: list[dict[str, Any]], complete: bool) -> None:
    content = json.dumps({"recipe": recipe, "complete": complete, "shards": sizes}, indent=1) + "\n"
    write_atomically(folder / _INDEX, lambda file: file.write(content.encode()))


def _fingerprint(corpus: Corpus) -> list[list[Any]]:
    stats = [(path, path.stat()) for path in corpus.paths]
    return [[path.name, stat.st_size, stat.st_mtime_ns] for path, stat in stats]
