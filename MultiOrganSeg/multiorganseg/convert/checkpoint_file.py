"""A file of PyTorch: a zip archive of one description and the numbers it speaks of."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multiorganseg.convert.checkpoint_pickle import Inert, TensorPlace, read_pickle

MOST_ENTRIES = 50_000
DEEPEST = 50
UNUSED = frozenset(
    {
        "optimizer_state",
        "grad_scaler_state",
        "logging",
        "_best_ema",
        "optimizer",
        "lr_scheduler",
        "scheduler",
        "scaler",
    }
)
"""Entries at the top that only a training needs; their tensors are not read."""
REFERENCE = "tensor"
"""In the tree, `{"tensor": number}` stands for a tensor."""

_TYPES: Mapping[str, str] = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U8": "u1",
    "BOOL": "?",
}
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError, OSError)


def read_checkpoint_file(path: Path) -> tuple[Any, dict[int, NDArray[Any]]]:
    """Read a file that `torch.save` wrote, without PyTorch and without running anything of it.

    Returns:
        The contents as JSON values, in which `{"tensor": n}` stands for a tensor, and the floating-point
        tensors by n, as float32; a tensor that has several names is given once. Counters, and what belongs to
        a training alone, are left out: None stands for them.

    Raises:
        ValueError: It is another kind of file, damaged, or names what it may not; the message says it.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = _checked_entries(archive)
            stem = _stem(entries)
            order = entries.get(f"{stem}byteorder")
            if order is not None and archive.read(order).strip() != b"little":
                message = "its numbers are stored in the byte order of another computer"
                raise ValueError(message)
            tree = read_pickle(archive.read(entries[f"{stem}data.pkl"]))
            collector = _Collector(archive, entries, stem)
            return collector.plain(_without_unused(tree), 0), collector.tensors
    except _DAMAGED as error:
        message = f"it is damaged, or no file of PyTorch: {error}"
        raise ValueError(message) from error
    except RecursionError as error:
        message = "its description is nested too deeply"
        raise ValueError(message) from error


def _checked_entries(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    entries = archive.infolist()
    if len(entries) > MOST_ENTRIES:
        message = f"it has {len(entries)} entries"
        raise ValueError(message)
    names = {entry.filename: entry for entry in entries}
    if len(names) < len(entries):
        message = "two of its entries have one name"
        raise ValueError(message)
    if any(name.endswith("constants.pkl") or "/code/" in name for name in names):
        message = "it is TorchScript, a program with weights; it would have to be run"
        raise ValueError(message)
    if any(entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1 for entry in entries):
        message = "its entries are compressed or encrypted, which PyTorch does not do"
        raise ValueError(message)
    return names


def _stem(names: Iterable[str]) -> str:
    stems = [name[: -len("data.pkl")] for name in names if name.endswith("/data.pkl")]
    if len(stems) != 1 or stems[0].count("/") != 1:
        message = "it has no description of its tensors (data.pkl)"
        raise ValueError(message)
    return stems[0]


def _without_unused(tree: Any) -> Any:
    if not isinstance(tree, dict):
        message = f"it holds a {type(tree).__name__}, not a dictionary"
        raise ValueError(message)
    return {key: None if key in UNUSED else value for key, value in tree.items()}


class _Collector:
    """Turns the description into JSON values and reads the tensors that it meets."""

    def __init__(self, archive: zipfile.ZipFile, entries: Mapping[str, zipfile.ZipInfo], stem: str) -> None:
        self._archive, self._entries, self._stem = archive, entries, stem
        self._numbers: dict[TensorPlace, int] = {}
        self.tensors: dict[int, NDArray[Any]] = {}

    def plain(self, value: Any, depth: int) -> Any:
        if depth > DEEPEST:
            message = "its description is nested too deeply"
            raise ValueError(message)
        if isinstance(value, TensorPlace):
            return self._reference(value)
        if isinstance(value, dict):
            return {
                _text(key): self.plain(item, depth + 1)
                for key, item in value.items()
                if not isinstance(key, Inert)
            }
        if isinstance(value, (list, tuple)):
            return [self.plain(item, depth + 1) for item in value]
        if isinstance(value, float) and not math.isfinite(value):
            return None
        if isinstance(value, int) and abs(value) >= 1 << 63:
            message = "it holds a number of more than 64 bits"
            raise ValueError(message)
        return value if isinstance(value, (str, int, float, bool)) else None

    def _reference(self, place: TensorPlace) -> dict[str, int] | None:
        if place.storage.dtype not in ("F64", "F32", "F16", "BF16"):
            return None
        if place not in self._numbers:
            self._numbers[place] = len(self._numbers)
            self.tensors[self._numbers[place]] = self._read(place)
        return {REFERENCE: self._numbers[place]}

    def _read(self, place: TensorPlace) -> NDArray[Any]:
        storage = place.storage
        entry = self._entries.get(f"{self._stem}data/{storage.name}")
        kind = np.dtype(_TYPES[storage.dtype])
        if entry is None or entry.file_size != storage.count * kind.itemsize:
            message = f"the numbers of a tensor are missing or cut off (data/{storage.name})"
            raise ValueError(message)
        flat = np.frombuffer(self._archive.read(entry), kind)
        strides = [stride * kind.itemsize for stride in place.strides]
        view = np.lib.stride_tricks.as_strided(flat[place.offset :], place.shape, strides, writeable=False)
        if storage.dtype == "BF16":
            wide = np.ascontiguousarray(view).astype("<u4") << 16
            return wide.view("<f4").reshape(place.shape)
        with np.errstate(over="ignore"):
            return np.ascontiguousarray(view, "<f4").reshape(place.shape)


def _text(key: Any) -> str:
    if not isinstance(key, (str, int)):
        message = f"a dictionary has the key {key!r}"
        raise ValueError(message)
    return str(key)
