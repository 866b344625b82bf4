"""Strict reading and deterministic writing of JSON."""

from __future__ import annotations

import json
import math
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_MAX_BYTES = 4 * 1024 * 1024


def read_json_object(path: Path) -> dict[str, Any]:
    """Read a JSON object of at most 4 MiB; repeated keys, NaN, infinity and lone surrogates are refused.

    Raises:
        ValueError: The file is something else.
        OSError: The file cannot be read.
    """
    return parse_json_object(read_small_file(path))


def read_small_file(path: Path, most: int = _MAX_BYTES) -> bytes:
    """Read a file of settings; devices, pipes and large files are refused before they are read.

    Raises:
        ValueError: It is none, or larger than `most` bytes.
        OSError: The file cannot be read.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode) or found.st_size > most:
        message = f"it is no file of at most {most} bytes"
        raise ValueError(message)
    with path.open("rb") as source:
        return source.read(most)


def parse_json_object(data: bytes) -> dict[str, Any]:
    """Parse UTF-8 bytes, with a byte order mark or without, as `read_json_object` does.

    Raises:
        ValueError: The bytes are no JSON object.
    """
    try:
        value = _DECODER.decode(data.decode("utf-8-sig"))
        if b"\\u" in data:  # nothing else makes lone surrogates
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except RecursionError as error:
        message = "nested too deeply"
        raise ValueError(message) from error
    if not isinstance(value, dict):
        message = "not a JSON object"
        raise ValueError(message)
    return value


def format_json(data: Mapping[str, Any]) -> str:
    """Write JSON with two spaces of indent and a final newline, keys in the given order.

    Raises:
        ValueError: A number is NaN or infinite.
        TypeError: A value is no JSON value.
    """
    return json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def sorted_keys(value: Any) -> Any:
    """Copy a JSON value with the keys of every object in alphabetical order."""
    if isinstance(value, Mapping):
        return {key: sorted_keys(value[key]) for key in sorted(value)}
    if isinstance(value, (list, tuple)):
        return [sorted_keys(item) for item in value]
    return value


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            message = f"the key '{key}' stands twice"
            raise ValueError(message)
        result[key] = value
    return result


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _refuse_constant(text)


def _refuse_constant(name: str) -> float:
    message = f"{name} is no JSON number"
    raise ValueError(message)


_DECODER = json.JSONDecoder(
    object_pairs_hook=_without_repeats, parse_constant=_refuse_constant, parse_float=_finite
)
