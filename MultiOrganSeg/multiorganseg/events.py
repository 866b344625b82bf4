"""The event stream of a job: one JSON object a line, for a log file or a parent process."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, TextIO

from multiorganseg.errors import MultiOrganSegError
from multiorganseg.privacy import folders_of, without_folders
from multiorganseg.progress import Progress

EventKind = Literal["started", "progress", "metric", "warning", "gate", "paused", "finished", "failed"]


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
        """Write one event with the time in seconds since the epoch."""
        if self._sink is None:
            return
        event = {"event": kind, "time": round(time.time(), 3), **without_folders(content, self._hidden)}
        self._sink.write(json.dumps(event) + "\n")
        self._sink.flush()

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
    """
    cut_off = path.is_file() and path.stat().st_size > 0 and not path.read_bytes().endswith(b"\n")
    with path.open("a", encoding="utf-8") as sink:
        if cut_off:
            sink.write("\n")
        yield EventStream(sink, (*path.absolute().parents[:3], *folders_of(*hidden)))


def told_to(stream: EventStream, progress: Progress, prefix: str = "") -> Progress:
    """Give a progress that is also written as events; `prefix` stands before each stage for people alone."""

    def report(stage: str, fraction: float) -> None:
        progress.report(prefix + stage, fraction)
        stream.emit("progress", stage=stage, fraction=round(fraction, 4))

    return Progress(report, progress.token)


def read_events(path: Path) -> Iterator[dict[str, Any]]:
    """Read the events of a log file; a line cut off by a crash is left out."""
    for line in path.read_text(encoding="utf-8").splitlines():
        with suppress(json.JSONDecodeError):
            yield json.loads(line)
