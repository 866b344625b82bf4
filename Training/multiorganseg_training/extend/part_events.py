"""The events of one of several trainings, told as those of the whole."""

from __future__ import annotations

from typing import Any

from multiorganseg.events import EventKind, EventStream


class PartEvents(EventStream):
    """Counts iterations over all trainings and names the one in progress; its start and end are not told.

    Args:
        whole: Receives the events.
        number: Of this training, from 0.
        count: How many trainings there are.
        iterations: Of each.
    """

    def __init__(self, whole: EventStream, number: int, count: int, iterations: int) -> None:
        super().__init__()
        self._whole = whole
        self._number = number
        self._count = count
        self._iterations = iterations

    @property
    def stage(self) -> str:
        """The training's name, for people."""
        last = self._number == self._count - 1
        return "training" if last else f"training without fold {self._number + 1} of {self._count - 1}"

    def emit(self, kind: EventKind, **content: Any) -> None:
        """Write one event."""
        if kind in ("started", "finished"):
            return
        if kind in ("progress", "metric"):
            content["iteration"] += self._number * self._iterations
        if kind == "progress":
            left = (self._count - 1 - self._number) * self._iterations
            content["iterations"] = self._count * self._iterations
            content["eta_seconds"] += round(left * content["seconds_per_iteration"])
            content["stage"] = self.stage
        self._whole.emit(kind, **content)
