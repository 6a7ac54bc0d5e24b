"""TensorFlow checkpoints (PREFIX.index and PREFIX.data-*), read and written without TensorFlow.

Doing it here costs no import of several seconds on the other backends, moves one tensor at a time,
checks every checksum, and answers a damaged file with an error where TensorFlow's reader may abort.
Format: tensorflow/core/protobuf/tensor_bundle.proto, in a LevelDB table (leveldb/doc/table_format.md).
"""

from __future__ import annotations

import os
import struct
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import google_crc32c
import numpy as np

from bert4albert.checkpoint.formats.tensor_file import DamagedError, TensorFile, TensorInfo, read_slice, read_whole
from bert4albert.errors import CheckpointError

_MAGIC = 0xDB4775248B80FB57
_FOOTER_BYTES = 48
_BLOCK_TRAILER_BYTES = 5
_DTYPES = {
    1: "float32",
    2: "float64",
    3: "int32",
    4: "uint8",
    5: "int16",
    6: "int8",
    7: "string",
    9: "int64",
    10: "bool",
    14: "bfloat16",
    19: "float16",
}
# More than the deepest model with two optimizer slots a weight; they bound what a damaged index can ask for.
_MOST_INDEX_BYTES = 16 * 2**20
_MOST_TENSORS = 2**16
_MOST_NAME_BYTES = 512
_OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"


@dataclass(frozen=True)
class _Entry(TensorInfo):
    shard: int = 0
    offset: int = 0
    size: int = 0
    checksum: int = 0


class TFBundle(TensorFile):
    """A TensorFlow checkpoint.

    Arguments:
        prefix: the path without `.index`, as TensorFlow names a checkpoint.

    Raises `CheckpointError` for a missing or damaged file, and for a TF2 object checkpoint.
    """

    def __init__(self, prefix: str | os.PathLike[str]) -> None:
        self.path = self._prefix = Path(prefix)
        index = self._prefix.with_name(self._prefix.name + ".index")
        data = read_whole(index, _MOST_INDEX_BYTES)
        try:
            entries = _unique(_table(data))
            self._num_shards = _header(entries.pop(b"", b""))
            tensors = {name.decode(): _entry(value) for name, value in entries.items()}
        except (DamagedError, UnicodeDecodeError, struct.error, IndexError) as error:
            raise CheckpointError(
                f"{index} is not a readable TensorFlow checkpoint index ({error}); copy or download it again."
            ) from error
        if _OBJECT_GRAPH in tensors:
            raise CheckpointError(
                f"{self.path} is a TF2 object checkpoint, whose tensor names do not say which weight is which; "
                "load it with the program that wrote it and save the weights by name "
                "(the original TF1 checkpoint, or Hugging Face safetensors)."
            )
        self.tensors = tensors
        self._check_claims(tensors.values())

    def read_bytes(self, name: str) -> bytes:
        """Return the bytes of one tensor, its checksum verified."""
        entry = self.tensors[name]
        assert isinstance(entry, _Entry)
        if entry.dtype == "string" or entry.size != entry.num_bytes:
            raise CheckpointError(
                f"{self.path}: the tensor {name} has {entry.size} bytes, which is not {entry.dtype} of shape "
                f"{entry.shape}; the index is damaged, or the tensor is not a weight."
            )
        shard = self._shard(entry.shard)
        data = read_slice(shard, entry.offset, entry.size, name)
        if _masked(google_crc32c.value(data)) != entry.checksum:
            raise CheckpointError(f"{shard}: the tensor {name} fails its checksum; the file is damaged, copy it again.")
        return data

    def _shard(self, number: int) -> Path:
        return self._prefix.with_name(f"{self._prefix.name}.data-{number:05d}-of-{self._num_shards:05d}")

    def _check_claims(self, entries: Iterable[_Entry]) -> None:
        """Refuse an index whose tensors have more bytes than the data files, before a model of that size is built."""
        claimed = Counter[int]()
        for entry in entries:
            claimed[entry.shard] += max(entry.size, 0 if entry.dtype == "string" else entry.num_bytes)
        for number, size in claimed.items():
            shard = self._shard(number)
            if not shard.is_file():
                raise CheckpointError(f"{shard}, which belongs to {self.path}, is missing; copy it too.")
            if size > shard.stat().st_size:
                raise CheckpointError(
                    f"{shard} is cut short: it has {shard.stat().st_size:,} bytes, and the tensors that the index "
                    f"places in it {size:,}; copy or download it again."
                )


def write_tf_bundle(
    index: Path, data: Path, shapes: Mapping[str, tuple[int, ...]], dtype: str, read: Callable[[str], np.ndarray]
) -> None:
    """Write a checkpoint of one data file, one tensor at a time.

    Arguments:
        index: the file of names to write; for a checkpoint PREFIX it is PREFIX.index.
        data: the file of numbers to write, PREFIX.data-00000-of-00001.
        shapes: name -> shape.
        dtype: 'float32' or 'float64', for all of them.
        read: returns the tensor of a name.
    """
    number = next(key for key, value in _DTYPES.items() if value == dtype)
    entries = {b"": _message({1: 1, 3: _message({1: 1})})}
    with open(data, "wb") as file:
        for name in sorted(shapes, key=str.encode):
            content = np.ascontiguousarray(read(name), np.dtype(dtype).newbyteorder("<")).tobytes()
            shape = b"".join(_field(2, _message({1: size})) for size in shapes[name])
            checksum = struct.pack("<BI", 6 << 3 | 5, _masked(google_crc32c.value(content)))
            numbers = _message({1: number, 2: shape, 4: file.tell(), 5: len(content)})
            entries[name.encode()] = numbers + checksum
            file.write(content)
    index.write_bytes(_written_table(entries))


def _written_table(entries: Mapping[bytes, bytes]) -> bytes:
    """Return a LevelDB table of sorted keys: all entries in one block, an empty block, the index, the footer."""
    table = bytearray()

    def add(block: Mapping[bytes, bytes]) -> bytes:
        content, restarts = bytearray(), []
        for key, value in block.items():
            restarts.append(len(content))
            content += _varint_of(0) + _varint_of(len(key)) + _varint_of(len(value)) + key + value
        restarts = restarts or [0]
        content += struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts)) + b"\0"
        handle = _varint_of(len(table)) + _varint_of(len(content) - 1)
        table.extend(content + struct.pack("<I", _masked(google_crc32c.value(bytes(content)))))
        return handle

    handle, meta = add(entries), add({})
    footer = meta + add({max(entries): handle})
    return bytes(table + footer.ljust(_FOOTER_BYTES - 8, b"\0") + struct.pack("<Q", _MAGIC))


def _message(fields: Mapping[int, int | bytes]) -> bytes:
    """Return a protocol buffer message; zero, its default, is left out."""
    return b"".join(_field(number, value) for number, value in fields.items() if value or value == b"")


def _field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return _varint_of(number << 3) + _varint_of(value)
    return _varint_of(number << 3 | 2) + _varint_of(len(value)) + value


def _varint_of(value: int) -> bytes:
    digits = bytearray()
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*digits, value])


def _unique(entries: Iterator[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    for name, value in entries:
        if name in found:
            raise DamagedError(f"it has {name!r:.80} twice")
        if len(found) > _MOST_TENSORS:
            raise DamagedError(f"it has more than {_MOST_TENSORS} tensors")
        found[name] = value
    return found


def _table(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield every key and value of a LevelDB table."""
    footer = data[-_FOOTER_BYTES:]
    if len(footer) < _FOOTER_BYTES or struct.unpack("<Q", footer[-8:])[0] != _MAGIC:
        raise DamagedError("its last bytes are not those of an index")
    position = _varint(footer, _varint(footer, 0)[1])[1]
    offset, position = _varint(footer, position)
    size, _ = _varint(footer, position)
    seen = 0
    for _, handle in _block(data, offset, size):
        start, position = _varint(handle, 0)
        length, _ = _varint(handle, position)
        seen += length
        if seen > len(data):
            raise DamagedError("its blocks lie over each other")
        yield from _block(data, start, length)


def _block(data: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield the entries of one block, whose keys are stored as what differs from the key before."""
    end = offset + size
    if end + _BLOCK_TRAILER_BYTES > len(data) or size < 4:
        raise DamagedError("a block lies outside the file")
    kind, checksum = struct.unpack_from("<BI", data, end)
    if _masked(google_crc32c.value(data[offset : end + 1])) != checksum:
        raise DamagedError("a block fails its checksum")
    if kind != 0:
        raise DamagedError("it is compressed, which checkpoints are not")
    restarts = struct.unpack_from("<I", data, end - 4)[0]
    position, stop, key = offset, end - 4 * (restarts + 1), b""
    if stop < offset:
        raise DamagedError("a block has more restart points than bytes")
    while position < stop:
        shared, position = _varint(data, position)
        added, position = _varint(data, position)
        length, position = _varint(data, position)
        if shared > len(key) or position + added + length > stop:
            raise DamagedError("an entry lies outside its block")
        if shared + added > _MOST_NAME_BYTES:
            raise DamagedError("a name is too long")
        key = key[:shared] + data[position : position + added]
        position += added
        yield key, data[position : position + length]
        position += length


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise DamagedError("a number has too many bytes")


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield (field number, value) of a protocol buffer message."""
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        value: int | bytes
        if tag & 7 == 0:
            value, position = _varint(message, position)
        elif tag & 7 == 2:
            length, position = _varint(message, position)
            if position + length > len(message):
                raise DamagedError("a field lies outside its message")
            value, position = message[position : position + length], position + length
        elif tag & 7 == 5:
            value, position = struct.unpack_from("<I", message, position)[0], position + 4
        else:
            raise DamagedError("a field has a type that is not used there")
        yield tag >> 3, value


def _header(message: bytes) -> int:
    fields = dict(_fields(message))
    shards = fields.get(1, 0)
    if fields.get(2, 0) != 0:
        raise DamagedError("it was written on a big-endian machine")
    if not isinstance(shards, int) or not 1 <= shards < 100_000:
        raise DamagedError("its header does not say how many data files there are")
    return shards


def _entry(message: bytes) -> _Entry:
    numbers = {1: 0, 3: 0, 4: 0, 5: 0, 6: 0}
    shape: tuple[int, ...] = ()
    for field, value in _fields(message):
        if field == 2 and isinstance(value, bytes):
            shape = tuple(_dimension(v) for f, v in _fields(value) if f == 2)
        elif field == 7:
            raise DamagedError("it holds tensors in slices (a partitioned variable), which is not supported")
        elif field in numbers and isinstance(value, int):
            numbers[field] = value
    if numbers[1] not in _DTYPES:
        raise DamagedError(f"a tensor has the unknown dtype number {numbers[1]}")
    return _Entry(_DTYPES[numbers[1]], shape, numbers[3], numbers[4], numbers[5], numbers[6])


def _dimension(message: int | bytes) -> int:
    if not isinstance(message, bytes):
        raise DamagedError("a shape is not a shape")
    size = dict(_fields(message)).get(1, 0)
    if not isinstance(size, int) or size >= 1 << 40:
        raise DamagedError("a dimension is not a size")
    return size


def _masked(checksum: int) -> int:
    """LevelDB's masked form, in which checksums are stored."""
    return ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF
