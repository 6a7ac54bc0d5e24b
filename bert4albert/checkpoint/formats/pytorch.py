"""`pytorch_model.bin`: a pickle inside a zip, read without PyTorch and without running anything in it.

The pickle is followed by a machine that knows only the few operations torch.save writes for a table of
tensors. It has no way to import or call anything: a name stands for itself, and rebuilding a tensor notes
where its numbers lie.
"""

from __future__ import annotations

import math
import os
import pickletools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bert4albert.checkpoint.formats.arrays import Arrays
from bert4albert.checkpoint.formats.tensor_file import DamagedError, TensorFile, TensorInfo, item_size, read_start
from bert4albert.checkpoint.formats.zipped import Zipped
from bert4albert.errors import CheckpointError

_DTYPES = {
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}
_ZIP_MARK = b"PK\x03\x04"
_LEGACY_MARK = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # the number with which torch.save began before the zip
_MOST_PICKLE_BYTES = 3 * 2**20
_MOST_OPERATIONS = 2**19  # some thirty for a tensor
_MOST_STACKED = 2**14  # torch.save sets a thousand items at once


@dataclass(frozen=True)
class _Tensor(TensorInfo):
    storage: str = ""
    length: int = 0
    offset: int = 0
    strides: tuple[int, ...] = ()


def open_pytorch(path: str | os.PathLike[str]) -> TensorFile:
    """Open a file that torch.save wrote.

    Arguments:
        path: the file: a zip archive, or the older form, which is left to PyTorch's own safe loader.

    Returns:
        The open file. Raises `CheckpointError` if it is missing, damaged, or holds anything but tensors.
    """
    path = Path(path)
    start = read_start(path, len(_LEGACY_MARK))
    if start.startswith(_ZIP_MARK):
        return PyTorchArchive(path)
    if start.startswith(_LEGACY_MARK):
        return _load_with_torch(path)
    raise CheckpointError(f"{path} is not a file that torch.save wrote; copy or download it again.")


class PyTorchArchive(TensorFile):
    """The zip form of torch.save.

    Arguments:
        path: the file.

    Raises `CheckpointError` if it is damaged, or its pickle holds anything but named tensors.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._archive = Zipped(path, "PyTorch")
        pickles = [name for name in self._archive.sizes if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise CheckpointError(f"{path} has no data.pkl; it is not a file that torch.save wrote.")
        self._root = pickles[0].removesuffix("data.pkl")
        if self._content(f"{self._root}byteorder", 16) not in (b"", b"little"):
            raise CheckpointError(f"{path} was written on a big-endian machine, which is not supported.")
        try:
            self.tensors = self._places = _named_tensors(self._content(pickles[0], _MOST_PICKLE_BYTES))
        except (DamagedError, ValueError, IndexError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"{path} is not a plain table of tensors ({error}); nothing in it was run. "
                "Save model.state_dict(), or use safetensors."
            ) from error
        for name, tensor in self._places.items():
            if self._archive.sizes.get(self._member(tensor)) != tensor.length * item_size(tensor.dtype):
                raise CheckpointError(f"{path}: the numbers of {name} are missing or cut short; download it again.")
        self._archive.require_plausible({name: tensor.num_bytes for name, tensor in self._places.items()})

    def read_bytes(self, name: str) -> bytes | memoryview:
        """Return the bytes of one tensor, its checksum verified."""
        tensor = self._places[name]
        size = item_size(tensor.dtype)
        data = self._content(self._member(tensor), tensor.length * size)
        if tensor.strides == _row_strides(tensor.shape):
            return memoryview(data)[tensor.offset * size : tensor.offset * size + tensor.num_bytes]
        items = np.frombuffer(data, f"V{size}")[tensor.offset :]
        strides = [size * stride for stride in tensor.strides]
        return np.lib.stride_tricks.as_strided(items, tensor.shape, strides).tobytes()

    def _member(self, tensor: _Tensor) -> str:
        return f"{self._root}data/{tensor.storage}"

    def _content(self, member: str, most: int) -> bytes:
        size = self._archive.sizes.get(member)
        if size is None:
            return b""
        if size > most:
            raise CheckpointError(f"{self.path}: {member} has {size} bytes, more than any model needs.")
        with self._archive.open(member) as file:
            return file.read()


@dataclass(frozen=True)
class _Name:
    """A global of the pickle, never looked up."""

    module: str
    name: str


_ORDERED_DICT = _Name("collections", "OrderedDict")
_REBUILD_TENSOR = _Name("torch._utils", "_rebuild_tensor_v2")
_REBUILD_PARAMETER = _Name("torch._utils", "_rebuild_parameter")
_KNOWN = {_ORDERED_DICT, _REBUILD_TENSOR, _REBUILD_PARAMETER, *(_Name("torch", name) for name in _DTYPES)}
_VALUES = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_LITERALS = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE"}
_MARK = _Name("", "mark")


@dataclass
class _Machine:
    """What a pickle of tensors needs of a pickle machine: a stack and a memo."""

    stack: list[Any] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)

    def step(self, operation: str, argument: Any) -> None:
        """Follow one operation; anything that is not needed for tensors is refused."""
        if operation in _VALUES:
            self.stack.append(_VALUES[operation])
        elif operation in _LITERALS:
            self.stack.append(argument)
        elif operation in ("BINPUT", "LONG_BINPUT"):
            self.memo[argument] = self.stack[-1]
        elif operation in ("BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[argument])
        elif operation == "MARK":
            self.stack.append(_MARK)
        elif operation in ("EMPTY_DICT", "EMPTY_LIST"):
            self.stack.append({} if operation == "EMPTY_DICT" else [])
        elif operation in ("TUPLE1", "TUPLE2", "TUPLE3"):
            self.stack.append(tuple(self._pop(int(operation[-1]))))
        elif operation == "TUPLE":
            self.stack.append(tuple(self._pop_to_mark()))
        elif operation in ("SETITEM", "SETITEMS"):
            self._set_items(self._pop(2) if operation == "SETITEM" else self._pop_to_mark())
        elif operation == "GLOBAL":
            self.stack.append(_known_name(argument))
        elif operation == "BINPERSID":
            self.stack.append(_storage(self.stack.pop()))
        elif operation == "REDUCE":
            function, arguments = self._pop(2)
            self.stack.append(_rebuilt(function, arguments))
        elif operation == "BUILD":
            self.stack.pop()  # the attributes of the table: version numbers of PyTorch's modules
        elif operation not in ("PROTO", "STOP"):
            raise DamagedError(f"its pickle has the operation {operation}")

    def _pop(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise DamagedError("its pickle takes more than it has")
        values = self.stack[-count:]
        del self.stack[-count:]
        return values

    def _pop_to_mark(self) -> list[Any]:
        place = len(self.stack) - 1
        while self.stack[place] is not _MARK:  # runs into an IndexError where there is no mark
            place -= 1
        values = self.stack[place + 1 :]
        del self.stack[place:]
        return values

    def _set_items(self, items: list[Any]) -> None:
        table = self.stack[-1]
        if not isinstance(table, dict) or len(items) % 2:
            raise DamagedError("its pickle sets items of something that is not a table")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, str) or key in table:
                raise DamagedError("a key of its table is not a name, or is there twice")
            table[key] = value


def _named_tensors(pickled: bytes) -> dict[str, _Tensor]:
    machine = _Machine()
    for count, (operation, argument, _) in enumerate(pickletools.genops(pickled)):
        machine.step(operation.name, argument)
        if count > _MOST_OPERATIONS or len(machine.stack) > _MOST_STACKED:
            raise DamagedError("its pickle is longer than that of any model")
    table = machine.stack.pop()
    if not isinstance(table, dict) or machine.stack:
        raise DamagedError("its pickle is not a table")
    for name, value in table.items():
        if not isinstance(value, _Tensor):
            raise DamagedError(f"{name!r:.80} is a {type(value).__name__}, not a tensor")
    return table


def _known_name(argument: str) -> _Name:
    name = _Name(*argument.split(" ", 1))
    if name not in _KNOWN:
        raise DamagedError(f"its pickle asks for {name.module}.{name.name}".replace("\n", " ")[:200])
    return name


def _storage(identity: Any) -> tuple[str, str, int]:
    """Return key, dtype and length of the storage that a pickle's persistent id names."""
    if not isinstance(identity, tuple) or len(identity) != 5 or identity[0] != "storage":
        raise DamagedError("its pickle names something that is not a tensor's storage")
    _, kind, key, _, length = identity
    if not isinstance(kind, _Name) or kind.name not in _DTYPES or not isinstance(key, str) or type(length) is not int:
        raise DamagedError("its pickle names a storage that is not one")
    return key, _DTYPES[kind.name], length


def _rebuilt(function: Any, arguments: Any) -> Any:
    if function == _ORDERED_DICT and arguments == ():
        return {}
    if not isinstance(arguments, tuple) or len(arguments) < 3:
        raise DamagedError("its pickle calls something without arguments")
    if function == _REBUILD_PARAMETER and isinstance(arguments[0], _Tensor):
        return arguments[0]
    if function == _REBUILD_TENSOR and len(arguments) >= 6:
        return _tensor(*arguments[:4])
    raise DamagedError("its pickle calls something that does not make a tensor")


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any) -> _Tensor:
    if not isinstance(storage, tuple) or len(storage) != 3:
        raise DamagedError("a tensor has no storage")
    key, dtype, length = storage
    if type(offset) is not int or not _are_sizes(shape) or not _are_sizes(strides) or len(shape) != len(strides):
        raise DamagedError("a tensor's shape is not a shape")
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if offset < 0 or math.prod(shape) > length or (math.prod(shape) and last >= length):
        raise DamagedError("a tensor lies outside its storage")
    return _Tensor(dtype, shape, key, length, offset, strides)


def _are_sizes(values: Any) -> bool:
    return isinstance(values, tuple) and all(type(v) is int and 0 <= v < 2**48 for v in values) and len(values) < 9


def _row_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))


def _load_with_torch(path: Path) -> TensorFile:
    try:
        import torch
    except ImportError:
        raise CheckpointError(
            f"{path} has the form that torch.save wrote before PyTorch 1.6, which only PyTorch reads: install torch, "
            "or save it again with a newer one."
        ) from None
    try:
        table = torch.load(path, map_location="cpu", weights_only=True)
        tensors = {name: (t.float() if t.dtype == torch.bfloat16 else t).numpy() for name, t in table.items()}
    except Exception as error:  # PyTorch's loader raises whatever a damaged file leads it to
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{path} is not a table of tensors that PyTorch loads safely ({reason:.200}).") from error
    return Arrays(tensors, path)
