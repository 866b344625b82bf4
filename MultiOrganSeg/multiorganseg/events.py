"""The event stream of a job: one JSON object a line, for a log file or a parent process.

Every line has the fields "event", an `EventKind`, and "time" in seconds since the epoch. A "failed" event has
"kind", a class of `multiorganseg.errors`, and "problem", "cause" and "next_step". A "metric" has "name" and
"values", numbers by organ key.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from enum import Enum
from pathlib import Path
from typing import Any, TextIO

from multiorganseg import errors
from multiorganseg.earlier import event_of_now
from multiorganseg.errors import MultiOrganSegError, ResourceError
from multiorganseg.guarded import open_to_append
from multiorganseg.privacy import folders_of, without_folders
from multiorganseg.progress import Progress
from multiorganseg.unforeseen import as_typed


class EventKind(str, Enum):
    """What an event says.

    Attributes:
        STARTED: The job, or a run that goes on, has begun.
        PROGRESS: How far it is.
        METRIC: Something was measured.
        WARNING: Something that the user should know.
        ACCEPTANCE: The verdicts of an acceptance check.
        DEVICE: Which device was found.
        PAUSED: It has ended on request, and can go on.
        FINISHED: It has ended well.
        FAILED: It has ended without a result.
        CANCELLED: It was ended on request; nothing was written.
    """

    STARTED = "started"
    PROGRESS = "progress"
    METRIC = "metric"
    WARNING = "warning"
    ACCEPTANCE = "acceptance"
    DEVICE = "device"
    PAUSED = "paused"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"


ENDS = frozenset({EventKind.PAUSED, EventKind.FINISHED, EventKind.FAILED})
"""Kinds after which a training says nothing before its next start."""

_LONGEST_LINE = 2**20
_LONGEST_CHUNK = 128 * 1024
_NO_VALUES = frozenset({"event", "time", "name", "iteration", "iterations", "stage"})


class EventStream:
    """Writes events as they happen; every line is flushed, so that a reader sees it at once.

    Args:
        sink: An open text stream; None drops all events.
        hidden: Folders that texts leave away before the names of files, since they may name people.
        fields: What every event says beside its own content.
    """

    def __init__(self, sink: TextIO | None = None, hidden: Iterable[Path] = (), **fields: Any) -> None:
        self._sink = sink
        self._hidden = tuple(hidden)
        self._fields = fields

    def emit(self, kind: EventKind, /, **content: Any) -> None:
        """Write one event with the time in seconds since the epoch.

        Raises:
            ResourceError: The disk is full, or nobody reads any more.
        """
        if self._sink is None:
            return
        event = {
            "event": EventKind(kind).value,
            "time": round(time.time(), 3),
            **self._fields,
            **without_folders(content, self._hidden),
        }
        try:
            self._sink.write(json.dumps(event) + "\n")
            self._sink.flush()
        except OSError as error:
            msg = "The events cannot be written."
            raise ResourceError(
                msg, cause=str(error), next_step="Make room on the disk, and repeat the command."
            ) from error

    def fail(self, error: Exception, **more: Any) -> None:
        """Write the `failed` event of an error with its kind, cause and next step, and with more fields."""
        kind = _kind(as_typed(error))
        if isinstance(error, MultiOrganSegError):
            said = {"problem": error.problem, "cause": error.cause, "next_step": error.next_step}
        else:
            said = {"problem": type(error).__name__, "cause": str(error), "next_step": ""}
        self.emit(EventKind.FAILED, kind=kind, **said, **more)


@contextmanager
def event_log(path: Path, *hidden: Path) -> Iterator[EventStream]:
    """Append events to a log file; a line that a crash cut off is ended first, so that it spoils no other.

    Texts leave away the run, the project and the `hidden` folders, as `EventStream` does.

    Raises:
        ResourceError: The file cannot be written, or is a link.
    """
    sink = open_to_append(path)
    try:
        if _is_cut_off(path):
            sink.write("\n")
        yield EventStream(sink, (*path.absolute().parents[:3], *folders_of(*hidden)))
    finally:
        with suppress(OSError):  # `emit` flushed every line, and raised where it could not
            sink.close()


def with_events(stream: EventStream, progress: Progress, prefix: str = "") -> Progress:
    """Return a progress that is also written as events; people alone see `prefix` before stages."""

    def report(stage: str, fraction: float) -> None:
        progress.report(prefix + stage, fraction)
        stream.emit(EventKind.PROGRESS, stage=stage, fraction=round(fraction, 4))

    return Progress(report, progress.token)


def parse_event(line: bytes) -> dict[str, Any] | None:
    """Read one line; None when it is no event, such as text of people or a line that was cut off."""
    from multiorganseg.bundles.json_text import parse_json_object

    with suppress(ValueError):
        event = parse_json_object(line)
        if isinstance(event.get("event"), str):
            return event_of_now(event)
    return None


def metric_values(event: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the numbers of a metric by organ key, and their "mean"; None where nothing was measured.

    Logs of earlier versions have them among the event's own fields.
    """
    values = event.get("values")
    if not isinstance(values, Mapping):
        values = {key: value for key, value in event.items() if key not in _NO_VALUES}
    return {
        key: value
        for key, value in values.items()
        if value is None or (isinstance(value, int | float) and not isinstance(value, bool))
    }


def failure(event: Mapping[str, Any]) -> MultiOrganSegError:
    """Return the error of a `failed` event; what it does not say stays empty.

    It is a plain `MultiOrganSegError` where the event names no kind, as in logs of earlier versions.
    """
    kind = getattr(errors, str(event.get("kind")), None)
    if not (isinstance(kind, type) and issubclass(kind, MultiOrganSegError)) or kind is errors.Cancelled:
        kind = MultiOrganSegError
    problem, cause, next_step = (str(event.get(key, "")) for key in ("problem", "cause", "next_step"))
    return kind(problem, cause=cause, next_step=next_step)


class EventTail:
    """Returns the events of a log as another process writes them; a log that became shorter is read anew.

    Args:
        path: The log; it need not exist yet.
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
                if source.seek(0, os.SEEK_END) < self._place:
                    self._place, self._rest = 0, b""
                source.seek(self._place)
                chunk = source.read(_LONGEST_CHUNK)
        except OSError:
            return []
        self._place += len(chunk)
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        return [event for line in lines if (event := parse_event(line)) is not None]


def read_events(path: Path) -> Iterator[dict[str, Any]]:
    """Read the events of a log file; lines that are none, such as one cut off by a crash, are left out.

    Raises:
        ResourceError: The file cannot be read, or is none.
    """
    try:
        if not path.is_file():
            msg = f"{path} is no log of events."
            raise ResourceError(msg, next_step="Check the path.")
        with path.open("rb") as source:
            while line := source.readline(_LONGEST_LINE):
                if event := parse_event(line):
                    yield event
    except OSError as error:
        msg = f"Cannot read {path}."
        raise ResourceError(msg, cause=str(error), next_step="Check the path and its permissions.") from error


def _kind(error: MultiOrganSegError) -> str:
    """Name the nearest class of `multiorganseg.errors`, which every reader knows."""
    return next(kind.__name__ for kind in type(error).__mro__ if kind.__module__ == errors.__name__)


def _is_cut_off(path: Path) -> bool:
    with path.open("rb") as written:
        if not written.seek(0, os.SEEK_END):
            return False
        written.seek(-1, os.SEEK_END)
        return written.read(1) != b"\n"
