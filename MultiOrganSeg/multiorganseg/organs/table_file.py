"""Label tables in JSON files, in the forms that people have."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from multiorganseg.errors import OrganError
from multiorganseg.organs.catalogue import Catalogue, load_catalogue
from multiorganseg.organs.labels import LabelTable

_BACKGROUND = frozenset({"", "background", "clear label", "exterior", "unlabeled", "unlabelled"})
_MAX_BYTES = 4 << 20


def read_table_file(path: Path) -> LabelTable:
    """Read a label table from a JSON file.

    It is `{"1": "spleen"}`, alone or under "labels" as in a table beside a result and in a `dataset.json` of
    the Medical Segmentation Decathlon or of nnU-Net 1, or `{"labels": {"spleen": 1}}` as in nnU-Net 2. A name
    that the catalogue knows, such as "Left kidney", stands for its organ key; another is a key by itself.

    Raises:
        OrganError: The file cannot be read, is no label table, gives a value two organs, or has regions of
            several values.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            message = f"it is larger than {_MAX_BYTES >> 20} MiB"
            raise ValueError(message)
        data = json.loads(path.read_bytes(), object_pairs_hook=_without_repeats)
        entries = data["labels"] if isinstance(data, dict) and "labels" in data else data
        rows = _rows(entries)
        if not rows:
            message = "it names no organ"
            raise ValueError(message)
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        msg = f"{path} is not a label table."
        raise OrganError(
            msg, cause=str(error), next_step='Write it as {"1": "spleen", "2": "liver"}.'
        ) from error
    catalogue = load_catalogue()
    return LabelTable({value: known_key(name, catalogue) or name for value, name in rows.items()})


def known_key(name: str, catalogue: Catalogue) -> str | None:
    """Return the key of the organ with this key or name, in capitals or small letters; None for no organ."""
    wanted = " ".join(name.casefold().replace("_", " ").split())
    for organ in catalogue.organs.values():
        if wanted in (organ.key.casefold().replace("_", " "), organ.name.casefold()):
            return organ.key
    return None


def _rows(entries: Mapping[str, Any]) -> dict[int, str]:
    """Return name by value, without background, whichever of the two is the key."""
    if all(key.strip().isdecimal() for key in entries) and not all(
        isinstance(name, (int, list)) for name in entries.values()
    ):
        pairs = [(int(key), name) for key, name in entries.items()]
    else:
        pairs = [(_value(name, value), name) for name, value in entries.items()]
    rows: dict[int, str] = {}
    for value, name in pairs:
        if not isinstance(name, str):
            message = f"the name of {value} is no text"
            raise TypeError(message)
        if value == 0 and name.strip().casefold() in _BACKGROUND:
            continue
        if value in rows:
            message = f"the value {value} is given to '{rows[value]}' and to '{name}'"
            raise ValueError(message)
        rows[value] = name.strip()
    return rows


def _value(name: str, value: Any) -> int:
    single = value[0] if isinstance(value, list) and len(value) == 1 else value
    if isinstance(single, list):
        message = f"'{name}' is a region of several values, {single}; give each value an organ of its own"
        raise TypeError(message)
    if isinstance(single, str) and not single.strip().isdecimal():
        message = f"'{name}' has the value '{single}', which is no whole number"
        raise ValueError(message)
    if not isinstance(single, (int, str)) or isinstance(single, bool):
        message = f"'{name}' has the value {single}, which is no whole number"
        raise TypeError(message)
    return int(single)


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        keys = [key for key, _ in pairs]
        message = f"'{next(key for key in keys if keys.count(key) > 1)}' stands twice"
        raise ValueError(message)
    return result
