"""Values of JSON, TOML and checkpoints as dataclasses, of the types and ranges that these declare.

A field's annotation says what may stand there, such as `Annotated[int, Limits(ge=1)]`; `msgspec` compares. A
`description` there is what an error says instead of "a whole number >= 1".
"""

from __future__ import annotations

import dataclasses
import re
import reprlib
import types
from collections.abc import Callable, Hashable, Mapping
from enum import Enum
from functools import cache
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from multiorganseg import needs
from multiorganseg.errors import MultiOrganSegError, TrainingError

_Kind = TypeVar("_Kind")
_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "array": "a list",
    "object": "a table of fields",
    "null": "nothing",
}


class Limits:
    """What `msgspec.Meta` makes of a type; a class of our own, so that modules load without `msgspec`."""

    def __init__(self, **limits: Any) -> None:
        self.limits = limits


Finite = Annotated[float, Limits(ge=-1e300, le=1e300)]
Share = Annotated[float, Limits(ge=0, le=1)]
NotNegative = Annotated[float, Limits(ge=0, le=1e300)]
Positive = Annotated[float, Limits(gt=0, le=1e300)]
Count = Annotated[int, Limits(ge=0, le=2**53)]
AtLeastOne = Annotated[int, Limits(ge=1, le=2**53)]
AtLeastTwo = Annotated[int, Limits(ge=2, le=2**53)]


class SchemaError(ValueError):
    """Values do not fit.

    Args:
        problems: One text for each field that is missing, unknown or wrong, with its path in quotes.
    """

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("; ".join(problems))


def line(longest: int) -> Limits:
    """Let a text have 1 to `longest` characters."""
    wanted = f"one line of at most {longest} characters"
    return Limits(min_length=1, max_length=longest, description=wanted)


def one_of(*names: str) -> Limits:
    """Let a text be one of these."""
    return Limits(
        pattern=rf"^(?:{'|'.join(map(re.escape, names))})\Z", description=f"one of {', '.join(names)}"
    )


def read_as(kind: type[_Kind], data: Any) -> _Kind:
    """Build a dataclass from nested tables and lists.

    Args:
        kind: The dataclass. A class among its fields that has `from_json` reads itself.
        data: Its fields by name.

    Raises:
        SchemaError: Fields are unknown, missing, of a wrong type or out of range; all are listed.
        DependencyError: `msgspec` is not installed.
    """
    value, problems = _fields(kind, data, "")
    if problems:
        raise SchemaError(problems)
    return value


def problems_of(built: Any) -> list[str]:
    """List what does not fit in a dataclass that was built otherwise, as `SchemaError.problems`."""
    data = dataclasses.asdict(built)
    kind: Any = type(built)
    return [problem for name, hint in _hints(kind).items() for problem in _value(hint, data[name], name)[1]]


def argument_problems(function: Callable[..., Any], arguments: Mapping[str, Any]) -> list[str]:
    """List which keyword arguments do not fit what a function declares, as `SchemaError.problems`.

    Args:
        function: Its annotations may hold `Limits`.
        arguments: By name; those that it does not declare are left to its call.
    """
    hints = _hints(function)
    declared = {name: value for name, value in arguments.items() if name in hints}
    return [problem for name, value in declared.items() for problem in _value(hints[name], value, name)[1]]


def typed(kind: type[_Kind], data: Any, what: str, next_step: str = "Correct the file.") -> _Kind:
    """Build a dataclass as `read_as` does.

    Args:
        kind: The dataclass.
        data: Its fields by name.
        what: How errors call it, such as "The recipe".
        next_step: What the user can do about it.

    Raises:
        TrainingError: Fields are unknown, missing, of a wrong type or out of range; all are listed.
    """
    try:
        return read_as(kind, data)
    except SchemaError as error:
        msg = f"{what} has wrong, unknown or missing fields."
        raise TrainingError(msg, cause=f"{error}.", next_step=next_step) from error


@cache
def _hints(kind: Hashable) -> Mapping[str, Any]:
    needs.require(["msgspec"])
    return {name: _as_msgspec(hint) for name, hint in get_type_hints(kind, include_extras=True).items()}


def _as_msgspec(hint: Any) -> Any:
    import msgspec

    if isinstance(hint, Limits):
        return msgspec.Meta(**hint.limits)
    origin, inner = get_origin(hint), tuple(map(_as_msgspec, get_args(hint)))
    if origin is None or origin is Literal:
        return hint
    return (Union if origin is types.UnionType else origin)[inner]


def _fields(kind: Any, data: Any, where: str) -> tuple[Any, list[str]]:
    if not isinstance(data, Mapping):
        return None, [f"'{where.rstrip('.') or 'all'}' must be a table of fields, not {reprlib.repr(data)}"]
    hints = _hints(kind)
    missing = dataclasses.MISSING
    needed = [
        f.name for f in dataclasses.fields(kind) if f.default is missing and f.default_factory is missing
    ]
    problems = [f"it lacks '{where}{name}'" for name in needed if name not in data]
    strangers = [f"'{where}{name}'" for name in data if name not in hints]
    if strangers:
        known = f"known{' in ' + where.rstrip('.') if where else ''} are {', '.join(hints)}"
        problems.append(f"it has the unknown field {', '.join(strangers)} ({known})")
    values = {}
    for name in hints:
        if name in data:
            values[name], found = _value(hints[name], data[name], where + name)
            problems += found
    return (None, problems) if problems else (kind(**values), [])


def _value(hint: Any, value: Any, where: str) -> tuple[Any, list[str]]:
    plain = hint.__origin__ if get_origin(hint) is Annotated else hint
    if get_origin(plain) in (Union, types.UnionType) and value is not None:
        others = [kind for kind in get_args(plain) if kind is not type(None)]
        plain = others[0] if len(others) == 1 else plain
    origin, inner = get_origin(plain), get_args(plain)
    if hasattr(plain, "from_json"):
        try:
            return plain.from_json(value), []
        except SchemaError as error:
            return None, [f"'{where}': {problem}" for problem in error.problems]
        except MultiOrganSegError as error:
            return None, [f"'{where}': {error}"]
    if dataclasses.is_dataclass(plain):
        return _fields(plain, value, f"{where}.")
    if isinstance(value, Mapping) and isinstance(origin, type) and issubclass(origin, Mapping):
        return _items(inner, value, where)
    import msgspec

    if origin is tuple and dataclasses.is_dataclass(inner[0]) and isinstance(value, list | tuple):
        items, problems = _items((int, inner[0]), dict(enumerate(value)), where)
        return tuple(items.values()), problems
    try:
        return msgspec.convert(value, hint), []
    except (msgspec.ValidationError, UnicodeError) as error:
        place = re.search(r" - at `\$(.*)`$", str(error))
        wanted = _wanted(hint, plain, str(error))
        return None, [f"'{where}{place[1] if place else ''}' must be {wanted}, not {reprlib.repr(value)}"]


def _items(kinds: tuple[Any, ...], items: Mapping[Any, Any], where: str) -> tuple[dict[Any, Any], list[str]]:
    built, problems = {}, []
    for key, value in items.items():
        name, wrong = _value(kinds[0], key, f"a key of {where}")
        built[name], found = _value(kinds[1], value, f"{where}.{key}")
        problems += wrong + found
    return built, problems


def _wanted(hint: Any, plain: Any, text: str) -> str:
    for limits in getattr(hint, "__metadata__", ()):
        if limits.description:
            return str(limits.description)
    if isinstance(plain, type) and issubclass(plain, Enum):
        return f"one of {', '.join(member.value for member in plain)}"
    found = re.match(r"Expected (.*?)(?:, got .*?)?(?: - at .*)?$", text)
    return re.sub(r"`(.*?)`", lambda name: _words(name[1]), found[1]) if found else f"valid ({text})"


def _words(kinds: str) -> str:
    return " or ".join(_WORDS.get(kind, kind) for kind in kinds.split(" | "))
