"""A configuration of MONAI read as data: references are followed, nothing is evaluated."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from multiorganseg.convert.read_checkpoint import refused

DEEPEST = 20
_EXPRESSION = "$"
_MACRO = "%"


class MonaiConfig:
    """The contents of an `inference.json`.

    Args:
        data: The JSON object.
        path: For messages.
    """

    def __init__(self, data: Mapping[str, Any], path: Path) -> None:
        self._data, self.path = data, path

    def part(self, *names: str) -> Any:
        """Return a part by its path of keys, with references followed.

        Raises:
            BundleError: It is not there, or holds an expression, which would have to be evaluated.
        """
        value: Any = self._data
        for name in names:
            if not isinstance(value, Mapping) or name not in value:
                raise refused(self.path, f"It has no {'.'.join(names)}.")
            value = value[name]
        return self.plain(value, names)

    def transforms(self, part: str) -> list[Any]:
        """Return the transforms of a part as they stand there, without following references.

        Raises:
            BundleError: There are none.
        """
        said = self._data.get(part)
        if isinstance(said, Mapping) and isinstance(said.get("transforms"), list):
            return list(said["transforms"])
        raise refused(self.path, f"It has no {part} with transforms.")

    def plain(self, value: Any, names: tuple[str, ...]) -> Any:
        """Follow the references in a value; `names` is its path, for messages.

        Raises:
            BundleError: As `part`.
        """
        return self._plain(value, names, 0)

    def _plain(self, value: Any, names: tuple[str, ...], depth: int) -> Any:
        if depth > DEEPEST:
            raise refused(self.path, f"{'.'.join(names)} refers to itself, or is nested too deeply.")
        if isinstance(value, Mapping):
            return {key: self._plain(item, (*names, str(key)), depth + 1) for key, item in value.items()}
        if isinstance(value, list):
            return [self._plain(item, names, depth + 1) for item in value]
        if isinstance(value, str) and value.startswith((_EXPRESSION, _MACRO)):
            raise refused(
                self.path,
                f"{'.'.join(names)} is a program: {value[:80]}. It would have to be run.",
                "Write its value into the file instead of the expression.",
            )
        if isinstance(value, str) and value.startswith("@"):
            target: Any = self._data
            for name in re.split(r"#|::", value[1:]):
                if not isinstance(target, Mapping) or name not in target:
                    raise refused(self.path, f"{'.'.join(names)} refers to {value}, which is not there.")
                target = target[name]
            return self._plain(target, names, depth + 1)
        return value


def component(value: Any) -> tuple[str, dict[str, Any]]:
    """Return the class that a part names, without its package when that is MONAI's, and its arguments.

    Raises:
        ValueError: It names none.
    """
    if not isinstance(value, Mapping) or not isinstance(value.get("_target_"), str):
        message = f"{value!r} names no class"
        raise ValueError(message)
    name = value["_target_"]
    if name.startswith("monai."):
        name = name.rpartition(".")[2]
    arguments = {key: item for key, item in value.items() if not (key.startswith("_") and key.endswith("_"))}
    return name, arguments
