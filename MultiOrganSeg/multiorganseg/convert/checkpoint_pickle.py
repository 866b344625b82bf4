"""The description of tensors in a PyTorch file, read without letting it call anything.

A pickle is a small program. Ours may name a dozen things, each of which is a stand-in of this file that
does nothing but note what it was given; any other name ends the reading. Before that, the program is looked
through without running it, so that the error can say which names it holds.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

LARGEST_PICKLE = 32 << 20
MOST_NUMBERS = 1 << 34
DTYPES: Mapping[str, str] = {
    "FloatStorage": "F32",
    "DoubleStorage": "F64",
    "HalfStorage": "F16",
    "BFloat16Storage": "BF16",
    "LongStorage": "I64",
    "IntStorage": "I32",
    "ShortStorage": "I16",
    "CharStorage": "I8",
    "ByteStorage": "U8",
    "BoolStorage": "BOOL",
}
"""Kind of number by the name of PyTorch's storage class."""


@dataclass(frozen=True)
class Storage:
    """A run of numbers in the file.

    Attributes:
        name: Of its entry, after "data/".
        dtype: A value of `DTYPES`.
        count: How many numbers.
    """

    name: str
    dtype: str
    count: int


@dataclass(frozen=True)
class TensorPlace:
    """A tensor that was not read yet.

    Attributes:
        storage: Where its numbers lie.
        offset: First number of the storage.
        shape: Size along each axis.
        strides: Numbers from one element to the next along each axis.
    """

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class Inert:
    """Something that the file describes and nobody needs."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        """Take what the file says about it, and forget it."""


class _Entries(dict[Any, Any]):
    """An ordered dictionary; what else the file says about it is forgotten."""

    def __setstate__(self, state: object) -> None:
        return


class _Known:
    """A name that the file may call."""

    __slots__ = ("_answer",)
    _answer: Callable[..., Any]

    def __init__(self, answer: Callable[..., Any]) -> None:
        object.__setattr__(self, "_answer", answer)

    def __call__(self, *arguments: Any) -> Any:
        return self._answer(*arguments)

    def __setattr__(self, name: str, value: object) -> None:
        message = f"it sets {name} of something that is not its own"
        raise pickle.UnpicklingError(message)

    def __setstate__(self, state: object) -> None:
        message = "it changes something that is not its own"
        raise pickle.UnpicklingError(message)


class _StorageKind(_Known):
    """The class of a storage; it is named, never called."""

    __slots__ = ("dtype",)
    dtype: str

    def __init__(self, dtype: str) -> None:
        super().__init__(_refuse_call)
        object.__setattr__(self, "dtype", dtype)


def _refuse_call(*arguments: object) -> None:
    message = "it calls a storage class"
    raise pickle.UnpicklingError(message)


def _inert(*arguments: object) -> Inert:
    return Inert()


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *rest: object) -> TensorPlace:
    if not isinstance(storage, Storage) or not _are_sizes((offset,)):
        message = "a tensor without numbers"
        raise pickle.UnpicklingError(message)
    if not (isinstance(shape, tuple) and isinstance(strides, tuple) and len(shape) == len(strides) <= 8):
        message = "a tensor whose shape is none"
        raise pickle.UnpicklingError(message)
    if not (_are_sizes(shape) and _are_sizes(strides)) or math.prod(shape) > storage.count:
        message = f"a tensor of shape {shape} in {storage.count} numbers"
        raise pickle.UnpicklingError(message)
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if math.prod(shape) and last >= storage.count:
        message = f"a tensor of shape {shape} that leaves its {storage.count} numbers"
        raise pickle.UnpicklingError(message)
    return TensorPlace(storage, offset, shape, strides)


def _parameter(tensor: Any, *rest: object) -> Any:
    return tensor


def _entries(*arguments: Any) -> _Entries:
    return _Entries(*arguments)


def _size(*arguments: Any) -> tuple[Any, ...]:
    return tuple(*arguments)


_KNOWN: Mapping[tuple[str, str], _Known] = {
    ("collections", "OrderedDict"): _Known(_entries),
    ("torch._utils", "_rebuild_tensor_v2"): _Known(_tensor),
    ("torch._utils", "_rebuild_parameter"): _Known(_parameter),
    ("torch", "Size"): _Known(_size),
    ("torch", "device"): _Known(_inert),
    ("numpy", "dtype"): _Known(_inert),
    ("numpy.core.multiarray", "scalar"): _Known(_inert),
    ("numpy._core.multiarray", "scalar"): _Known(_inert),
    ("_codecs", "encode"): _Known(_inert),
    **{("torch", name): _StorageKind(dtype) for name, dtype in DTYPES.items()},
}


def read_pickle(data: bytes) -> Any:
    """Read a pickle of PyTorch.

    Returns:
        Dictionaries, lists, tuples, texts, numbers, None, `TensorPlace` and `Inert`.

    Raises:
        ValueError: It names what it may not, or is damaged; the message says it.
        MemoryError: It asks for more than there is.
    """
    if len(data) > LARGEST_PICKLE:
        message = f"its description has {len(data)} bytes, more than the {LARGEST_PICKLE} allowed"
        raise ValueError(message)
    foreign = sorted(f"{module}.{name}" for module, name in _named(data) if (module, name) not in _KNOWN)
    if foreign:
        raise _ForeignNameError(foreign)
    try:
        return _Reader(io.BytesIO(data)).load()
    except _ForeignNameError:
        raise
    except (
        pickle.UnpicklingError,
        EOFError,
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        AttributeError,
    ) as error:
        message = f"its description is damaged: {error}"
        raise ValueError(message) from error


class _ForeignNameError(ValueError):
    def __init__(self, names: list[str]) -> None:
        super().__init__(f"it names {', '.join(names[:5])}, which could run a program; nothing was run")


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str, /) -> Any:
        try:
            return _KNOWN[module, name]
        except KeyError as error:
            raise _ForeignNameError([f"{module}.{name}"]) from error

    def persistent_load(self, pid: Any, /) -> Storage:
        if not (isinstance(pid, tuple) and len(pid) == 5 and pid[0] == "storage"):
            message = "it refers to something else than numbers"
            raise pickle.UnpicklingError(message)
        _, kind, name, _, count = pid
        if not isinstance(kind, _StorageKind) or not isinstance(name, str) or not name.isdecimal():
            message = "it refers to numbers of an unknown kind"
            raise pickle.UnpicklingError(message)
        if not _are_sizes((count,)):
            message = f"it names {count} numbers"
            raise pickle.UnpicklingError(message)
        return Storage(name, kind.dtype, count)


def _named(data: bytes) -> set[tuple[str, str]]:
    """Return the names that a pickle states as such, without running it; `find_class` meets the others."""
    names: set[tuple[str, str]] = set()
    end = 0
    try:
        for opcode, argument, position in pickletools.genops(data):
            end = position or 0
            if opcode.name in ("GLOBAL", "INST"):
                module, _, name = str(argument).partition(" ")
                names.add((module, name))
            elif opcode.name in ("EXT1", "EXT2", "EXT4"):
                names.add(("copyreg", f"extension {argument}"))
            elif "PUT" in opcode.name and isinstance(argument, int) and argument > len(data):
                message = f"it refers to {argument} values in {len(data)} bytes"
                raise ValueError(message)
    except ValueError as error:
        message = f"its description is damaged after {end} of {len(data)} bytes: {error}"
        raise ValueError(message) from error
    return names


def _are_sizes(values: tuple[Any, ...]) -> bool:
    return all(type(value) is int and 0 <= value < MOST_NUMBERS for value in values)
