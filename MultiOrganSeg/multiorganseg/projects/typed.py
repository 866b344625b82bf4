"""Values of JSON, TOML and checkpoints as dataclasses: of the types that these declare, or an error."""

from __future__ import annotations

import dataclasses
import math
import reprlib
import types
from collections.abc import Mapping
from enum import Enum
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from multiorganseg.errors import TrainingError

_Kind = TypeVar("_Kind")
_LARGEST = 2**63


def typed(kind: type[_Kind], data: Mapping[str, Any], what: str, where: str = "") -> _Kind:
    """Build a dataclass from nested tables and lists.

    Args:
        kind: The dataclass; its fields may be dataclasses, tuples, lists, mappings, enumerations, unions.
        data: Its fields by name.
        what: How errors call it, such as "The recipe".
        where: Path of `data` in it, ending in ".".

    Raises:
        TrainingError: A field is unknown, missing or of a wrong type.
    """
    hints = get_type_hints(kind)
    if not isinstance(data, Mapping):
        msg = f"{what} is no table of fields."
        raise TrainingError(msg, next_step=f"It must have: {', '.join(hints)}.")
    unknown = sorted(str(name) for name in data if name not in hints)
    if unknown:
        msg = f"{what} has unknown fields: {', '.join(where + name for name in unknown)}."
        raise TrainingError(msg, next_step=f"Known here are: {', '.join(hints)}.")
    values = {name: _convert(hints[name], value, what, where + name) for name, value in data.items()}
    try:
        return kind(**values)
    except TypeError as error:
        msg = f"{what} lacks a field."
        raise TrainingError(
            msg, cause=f"{where or 'top level'}: {error}", next_step="Add the field."
        ) from error


def _convert(hint: Any, value: Any, what: str, where: str) -> Any:
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin in (Union, types.UnionType):
        return _one_of(inner, value, what, where)
    if dataclasses.is_dataclass(hint):
        if isinstance(value, Mapping):
            return typed(hint, value, what, f"{where}.")  # type: ignore[arg-type]
    elif origin is tuple:
        kinds = [inner[0]] * len(value) if inner[-1] is Ellipsis and _is_list(value) else list(inner)
        if _is_list(value) and len(value) == len(kinds):
            return tuple(_convert(kind, item, what, where) for kind, item in zip(kinds, value, strict=True))
    elif origin is list:
        if _is_list(value):
            return [_convert(inner[0], item, what, where) for item in value]
    elif isinstance(origin, type) and issubclass(origin, Mapping):
        if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
            return {key: _convert(inner[1], item, what, f"{where}.{key}") for key, item in value.items()}
    elif _is_plain(hint, value):
        return hint(value)
    msg = f"{what} has a wrong type in the field {where}: {reprlib.repr(value)}."
    raise TrainingError(msg, next_step=f"It must be {hint}.")


def _one_of(kinds: tuple[Any, ...], value: Any, what: str, where: str) -> Any:
    if value is None and type(None) in kinds:
        return None
    others = [kind for kind in kinds if kind is not type(None)]
    for kind in others[:-1]:
        try:
            return _convert(kind, value, what, where)
        except TrainingError:
            continue
    return _convert(others[-1], value, what, where)


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple))


def _is_plain(hint: Any, value: Any) -> bool:
    if isinstance(hint, type) and issubclass(hint, Enum):
        return isinstance(value, str) and value in {member.value for member in hint}
    if hint in (int, float):
        fitting = isinstance(value, int) or (hint is float and isinstance(value, float))
        return fitting and not isinstance(value, bool) and _is_in_range(value)
    return isinstance(value, hint)


def _is_in_range(value: float) -> bool:
    return not math.isnan(value) if isinstance(value, float) else abs(value) < _LARGEST
