"""Following an event log that another process writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_MOST_BYTES = 128 * 1024


class EventTail:
    """Gives the events of a file as they come; a file that became shorter is read from its start.

    Args:
        path: An `events.jsonl`; it need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._place = 0
        self._rest = b""

    def poll(self) -> list[dict[str, Any]]:
        """Return events since the last call, at most those of 128 kB: a long log comes in several calls.

        A line without an end waits for the rest of it; a line that is no event is left out.
        """
        try:
            with self._path.open("rb") as source:
                if source.seek(0, 2) < self._place:
                    self._place, self._rest = 0, b""
                source.seek(self._place)
                chunk = source.read(_MOST_BYTES)
        except OSError:
            return []
        self._place += len(chunk)
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        return [event for line in lines if (event := _event(line)) is not None]


def _event(line: bytes) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "event" in event else None
