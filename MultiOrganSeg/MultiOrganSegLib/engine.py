"""The engine's resident process: started when it is needed first, shared by runs and corrections."""

from __future__ import annotations

import itertools
import shutil
import time
import weakref
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import slicer
from slicer.i18n import tr as _

from multiorganseg.errors import MultiOrganSegError, ResourceError
from multiorganseg.events import EventKind
from multiorganseg.resident.requests import (
    Ask,
    CancelRequest,
    CloseRequest,
    OpenRequest,
    format_request,
)
from MultiOrganSegLib import child
from MultiOrganSegLib.failure import cannot_start, no_room, reported_failure, silent_failure
from MultiOrganSegLib.folder import make_private_folder, remove_folder
from MultiOrganSegLib.job import Job
from MultiOrganSegLib.mrml import volume_from_node

if TYPE_CHECKING:
    from multiorganseg.volumes import Volume

_SPARE_BYTES = 64 * 2**20
_MARGIN_SECONDS = 60.0
_ENDS = frozenset({EventKind.FINISHED, EventKind.FAILED, EventKind.CANCELLED})

_shared: weakref.ref[Engine] | None = None


def shared_engine() -> Engine:
    """The engine of this application; its process ends with the last one who holds it."""
    global _shared
    engine = _shared() if _shared else None
    if engine is None:
        engine = Engine()
        _shared = weakref.ref(engine)
    return engine


class Answer:
    """What a request brings, event by event.

    Attributes:
        name: Id of the request.
        ended: Whether the last event has come, or the process has ended.
        end: The "finished" event; empty before, and after a failure.
        error: Why there is none; None after a cancel.
        cancelled: Whether it was cancelled.
        crashed: Whether the process ended without an answer; sessions are lost then.
    """

    def __init__(self, engine: Engine, name: str) -> None:
        self.name = name
        self.ended = False
        self.end: dict[str, Any] = {}
        self.error: MultiOrganSegError | None = None
        self.cancelled = False
        self.crashed = False
        self._engine = engine
        self._events: deque[dict[str, Any]] = deque()

    def poll(self) -> list[dict[str, Any]]:
        """Return the events since the last call, at once."""
        self._engine.poll()
        events = list(self._events)
        self._events.clear()
        return events

    def cancel(self) -> None:
        """Stop the work, or drop it from the queue; nothing when it has ended."""
        if not self.ended:
            self.ended = self.cancelled = True
            self._engine.cancel(self.name)

    def take(self, event: dict[str, Any]) -> None:
        """An event has come."""
        if self.ended:
            return
        self._events.append(event)
        kind = event["event"]
        if kind == EventKind.FINISHED:
            self.end = event
        elif kind == EventKind.FAILED:
            self.error = reported_failure(event)
        elif kind == EventKind.CANCELLED:
            self.cancelled = True
        self.ended = kind in _ENDS

    def crash(self, error: MultiOrganSegError) -> None:
        """The process has ended."""
        if not self.ended:
            self.ended, self.error, self.crashed = True, error, True


class Engine:
    """Asks the resident process, and starts it anew where it ended for lack of requests, or by a crash."""

    def __init__(self) -> None:
        self._log = ""
        self._job: Job | None = None
        self._place: Path | None = None
        self._waiting: dict[str, Answer] = {}
        self._sessions: set[str] = set()
        self._volumes: dict[str, tuple[Any, ...]] = {}
        self._numbers = itertools.count(1)
        self._used = 0.0

    @property
    def folder(self) -> Path:
        """The private folder of the process, made where there is none yet.

        Raises:
            ResourceError: It cannot be made.
        """
        if self._place is None:
            temporary = Path(slicer.app.temporaryPath)
            try:
                self._place = make_private_folder(temporary)
            except OSError as error:
                raise no_room(temporary, str(error)) from error
        return self._place

    @property
    def pid(self) -> int | None:
        """Number of the process; None while there is none."""
        return self._job.pid if self._job else None

    @property
    def log(self) -> str:
        """What the process wrote beside its events; that of the last one, when none runs."""
        return self._job.log if self._job else self._log

    def is_open(self, session: str) -> bool:
        """Whether the process that runs now was asked to open a session."""
        self._expire()
        return session in self._sessions

    def new_name(self, kind: str, suffix: str) -> str:
        """Return a file name that was not used before."""
        return f"{kind}-{next(self._numbers)}{suffix}"

    def ask(self, ask: Ask) -> Answer:
        """Send a request; `Answer.poll` brings what it says.

        A process that has ended unnoticed is not replaced here: the request is about what that one held. Its
        answer tells of the crash.

        Raises:
            ResourceError: The process cannot be started.
        """
        job = self._job or self._start()
        answer = Answer(self, str(next(self._numbers)))
        self._waiting[answer.name] = answer
        if isinstance(ask, OpenRequest):
            self._sessions.add(ask.session)
        elif isinstance(ask, CloseRequest):
            self._sessions.discard(ask.session)
        job.send(format_request(answer.name, ask))
        self._used = time.monotonic()
        return answer

    def cancel(self, name: str) -> None:
        """Stop a request. Where nobody else needs the process, it ends, and with it all that it holds."""
        if self._job is None:
            return
        if self._sessions or any(not answer.ended for answer in self._waiting.values()):
            self._job.send(format_request("cancel", CancelRequest(name)))
        else:
            self.end()

    def poll(self) -> None:
        """Take what the process says."""
        if self._job is None:
            return
        running = self._job.running
        events = self._job.poll()
        for event in events:
            self._take(event)
        if not running and not events:  # what it said last is looked at before its files go
            job = self._job
            error = silent_failure(job.exit_code, job.log)
            self._let_go()
            for answer in tuple(self._waiting.values()):
                answer.crash(error)
            self._waiting.clear()

    def write_volume(self, node: slicer.vtkMRMLScalarVolumeNode) -> str:
        """Write a volume into the folder, unless it is there as it is now; the one before is removed.

        Returns:
            The file's name.

        Raises:
            ResourceError: The folder cannot take it.
            VolumeError: The volume cannot be segmented.
        """
        volume = volume_from_node(node)
        state = (node.GetID(), node.GetImageData().GetMTime(), volume.affine.tobytes(), node.GetName())
        self._expire()
        for name, known in self._volumes.items():
            if known == state:
                return name
        name = self.new_name("volume", ".nrrd")
        try:
            self._write(volume, self.folder / name)
        except BaseException:
            if self._job is None:
                self._let_go()
            raise
        if not self._waiting:
            for former in self._volumes:
                (self.folder / former).unlink(missing_ok=True)
            self._volumes.clear()
        self._volumes[name] = state
        return name

    def end(self) -> None:
        """End the process and remove its folder; who waits is told that it was cancelled."""
        self._let_go()
        for answer in self._waiting.values():
            answer.take({"event": EventKind.CANCELLED.value})
        self._waiting.clear()

    def _write(self, volume: Volume, path: Path) -> None:
        from multiorganseg.volumes import write_volume

        try:
            free = shutil.disk_usage(path.parent).free
            if volume.voxels.nbytes + _SPARE_BYTES > free:
                raise OSError(_megabytes(volume.voxels.nbytes, free))
            write_volume(volume, path, compress=False)
        except (ResourceError, OSError) as error:
            path.unlink(missing_ok=True)
            raise no_room(path.parent.parent, getattr(error, "cause", "") or str(error)) from error

    def _take(self, event: dict[str, Any]) -> None:
        self._used = time.monotonic()
        answer = self._waiting.get(str(event.get("id")))
        if answer is not None:
            answer.take({key: self._named(value) for key, value in event.items()})
            if event["event"] in _ENDS:
                del self._waiting[answer.name]

    def _named(self, value: Any) -> Any:
        """Say the volume's name where the process says its file's."""
        if isinstance(value, str):
            for name, (*_state, told) in self._volumes.items():
                value = value.replace(name, told)
        return value

    def _expire(self) -> None:
        """End a process that is about to end by itself, so that no request meets it on its way out."""
        self.poll()
        unused = time.monotonic() - self._used
        if self._job is not None and not self._waiting and unused > child.IDLE_SECONDS - _MARGIN_SECONDS:
            self._let_go()

    def _start(self) -> Job:
        job = Job(child.resident_command(), self.folder, child.child_environment())
        try:
            job.start()
        except OSError as error:
            self._let_go()
            raise cannot_start(error) from error
        self._job = job
        return job

    def _let_go(self) -> None:
        if self._job is not None:
            self._job.cancel()
            self._log = self._job.log
        elif self._place is not None:
            remove_folder(self._place)
        self._job, self._place = None, None
        self._sessions.clear()
        self._volumes.clear()


def _megabytes(needed: int, free: int) -> str:
    return _("It takes {needed} MB, and {free} MB are free.").format(
        needed=round(needed / 1e6), free=round(free / 1e6)
    )


def remove_file(path: Path) -> None:
    """Remove a file that may be gone, or that the process still holds open on Windows."""
    with suppress(OSError):
        path.unlink()
