"""The header of a safetensors file, checked before any tensor is touched.

Format: https://huggingface.co/docs/safetensors: eight bytes with the length N of the header (unsigned, little
endian), N bytes of JSON, then the tensors without gaps.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from multiorganseg.bundles.json_text import parse_json_object

_MAX_HEADER = 4 * 1024 * 1024
_MAX_TENSORS = 20_000
_ITEM_BYTES: Mapping[str, int] = {"F16": 2, "BF16": 2, "F32": 4}


@dataclass(frozen=True)
class TensorEntry:
    """One tensor of the file.

    Attributes:
        dtype: "F16", "BF16" or "F32".
        shape: Size along each axis.
        start: First byte after the header.
        end: Byte after the last.
    """

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def read_header(path: Path) -> dict[str, TensorEntry]:
    """Parse and check the header.

    Returns:
        The tensors by name, in the file's order.

    Raises:
        ValueError: The header lies about the file, or a tensor is not of a floating type that is allowed.
        OSError: The file cannot be read.
    """
    total = path.stat().st_size
    with path.open("rb") as stream:
        prefix = stream.read(8)
        if len(prefix) < 8:
            message = "the file is shorter than its prefix"
            raise ValueError(message)
        (length,) = struct.unpack("<Q", prefix)
        if length > min(_MAX_HEADER, total - 8):
            message = f"the header names {length} bytes of {total}"
            raise ValueError(message)
        text = stream.read(length)
    if not text.startswith(b"{"):
        message = "the header does not begin with '{'"
        raise ValueError(message)
    header = parse_json_object(text)
    about = header.pop("__metadata__", {})
    if not isinstance(about, dict) or not all(isinstance(value, str) for value in about.values()):
        message = "its metadata is not text by text"
        raise ValueError(message)
    if not 0 < len(header) <= _MAX_TENSORS:
        message = f"{len(header)} tensors"
        raise ValueError(message)
    tensors = {name: _entry(name, value) for name, value in header.items()}
    _check_cover(tensors, total - 8 - length)
    return tensors


def _entry(name: str, value: Any) -> TensorEntry:
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        message = f"the entry of {name} is not valid"
        raise ValueError(message)
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _ITEM_BYTES:
        message = f"{name} has the type {dtype}; allowed are {', '.join(_ITEM_BYTES)}"
        raise ValueError(message)
    if not (_are_sizes(shape) and _are_sizes(offsets) and len(offsets) == 2 and len(shape) <= 8):
        message = f"the shape or place of {name} is not valid"
        raise ValueError(message)
    start, end = offsets
    if end - start != math.prod(shape) * _ITEM_BYTES[dtype]:
        message = f"{name} has {end - start} bytes, which do not fit its shape {shape} of {dtype}"
        raise ValueError(message)
    return TensorEntry(dtype, tuple(shape), start, end)


def _are_sizes(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(item, int) and not isinstance(item, bool) and 0 <= item < 2**48 for item in value
    )


def _check_cover(tensors: Mapping[str, TensorEntry], available: int) -> None:
    position = 0
    for name, entry in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].end)):
        if entry.start != position:
            message = f"{name} starts at byte {entry.start} instead of {position}"
            raise ValueError(message)
        position = entry.end
    if position != available:
        message = f"the tensors need {position} bytes, the file has {available}"
        raise ValueError(message)
