"""Named signals for stand-ins that are no Qt objects; connected by signature text, as in PythonQt."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Signals:
    """Connect, disconnect and emit; a signature that was not declared is refused."""

    def __init__(self, owner: str, *signatures: str) -> None:
        self._owner = owner
        self._slots: dict[str, list[Callable[..., Any]]] = {signature: [] for signature in signatures}

    def connect(self, signature: str, slot: Callable[..., Any]) -> bool:
        """Call `slot` whenever the signal is emitted.

        Raises:
            ValueError: The owner has no such signal.
        """
        if not callable(slot):
            message = f"{slot!r} cannot be connected to {signature}: it is not callable"
            raise TypeError(message)
        self._of(signature).append(slot)
        return True

    def disconnect(self, signature: str, slot: Callable[..., Any]) -> bool:
        """Stop calling `slot`; whether it was connected."""
        slots = self._of(signature)
        if slot not in slots:
            return False
        slots.remove(slot)
        return True

    def emit(self, signature: str, *arguments: Any) -> None:
        """Call every connected slot."""
        for slot in list(self._of(signature)):
            slot(*arguments)

    def clear(self) -> None:
        """Forget all connections."""
        for slots in self._slots.values():
            slots.clear()

    def _of(self, signature: str) -> list[Callable[..., Any]]:
        if signature not in self._slots:
            message = f"{self._owner} has no signal {signature}"
            raise ValueError(message)
        return self._slots[signature]
