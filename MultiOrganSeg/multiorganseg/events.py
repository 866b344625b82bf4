"""The event stream of a job: one JSON object a line, for a log file or a parent process."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, TextIO

from multiorganseg.bundles.json_text import parse_json_object
from multiorganseg.errors import MultiOrganSegError, ResourceError
from multiorganseg.guarded import open_to_append
from multiorganseg.privacy import folders_of, without_folders
from multiorganseg.progress import Progress

EventKind = Literal["started", "progress", "metric", "warning", "gate", "paused", "finished", "failed"]

_LONGEST_LINE = 2**20


class EventStream:
    """Writes events as they happen; every line is flushed, so that a reader sees it at once.

    Args:
        sink: An open text stream; None drops all events.
        hidden: Folders that texts leave away before the names of files, since they may name people.
    """

    def __init__(self, sink: TextIO | None = None, hidden: Iterable[Path] = ()) -> None:
        self._sink = sink
        self._hidden = tuple(hidden)

    def emit(self, kind: EventKind, **content: Any) -> None:
        """Write one event with the time in seconds since the epoch.

        Raises:
            ResourceError: The disk is full, or nobody reads any more.
        """
        if self._sink is None:
            return
        event = {"event": kind, "time": round(time.time(), 3), **without_folders(content, self._hidden)}
        try:
            self._sink.write(json.dumps(event) + "\n")
            self._sink.flush()
        except OSError as error:
            msg = "The events cannot be written."
            raise ResourceError(
                msg, cause=str(error), next_step="Make room on the disk, and repeat the command."
            ) from error

    def fail(self, error: Exception) -> None:
        """Write the `failed` event of an error with its cause and next step."""
        if isinstance(error, MultiOrganSegError):
            self.emit("failed", problem=error.problem, cause=error.cause, next_step=error.next_step)
        else:
            self.emit("failed", problem=type(error).__name__, cause=str(error), next_step="")


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


def told_to(stream: EventStream, progress: Progress, prefix: str = "") -> Progress:
    """Return a progress that is also written as events; people alone see `prefix` before stages."""

    def report(stage: str, fraction: float) -> None:
        progress.report(prefix + stage, fraction)
        stream.emit("progress", stage=stage, fraction=round(fraction, 4))

    return Progress(report, progress.token)


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
                with suppress(ValueError):
                    event = parse_json_object(line)
                    if isinstance(event.get("event"), str):
                        yield event
    except OSError as error:
        msg = f"Cannot read {path}."
        raise ResourceError(msg, cause=str(error), next_step="Check the path and its permissions.") from error


def _is_cut_off(path: Path) -> bool:
    with path.open("rb") as written:
        if not written.seek(0, os.SEEK_END):
            return False
        written.seek(-1, os.SEEK_END)
        return written.read(1) != b"\n"
