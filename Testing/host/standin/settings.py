"""Application settings in memory, for the host without Qt: the part of `QSettings` that is used."""

from __future__ import annotations

from typing import Any


class Settings:
    """Keys with values that live as long as the host."""

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}

    def value(self, key: str, default: Any = None) -> Any:
        """The value of a key, or the default."""
        return self._values.get(key, default)

    def setValue(self, key: str, value: Any) -> None:
        """Keep a value."""
        self._values[key] = value

    def contains(self, key: str) -> bool:
        """Whether the key has a value."""
        return key in self._values

    def remove(self, key: str) -> None:
        """Forget a key and all keys below it."""
        for name in [name for name in self._values if name == key or name.startswith(f"{key}/")]:
            del self._values[name]

    def clear(self) -> None:
        """Forget everything."""
        self._values.clear()

    def sync(self) -> None:
        """Nothing to write: the values are in memory."""
