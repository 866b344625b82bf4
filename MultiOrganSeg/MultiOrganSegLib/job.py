"""A child process that reports its progress as events, and ends with all its children."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import threading
import time
import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from multiorganseg.events import parse_event
from MultiOrganSegLib.folder import remove_folder

_PATIENCE_SECONDS = 5.0


def end_process_tree(process: subprocess.Popen[bytes]) -> None:
    """End a child, its children and theirs at once, and wait until they are gone.

    On POSIX the child must lead a process group of its own: that reaches those whose parent has ended.
    """
    import psutil

    if process.poll() is not None:
        return
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(process.pid)
        family = [root, *root.children(recursive=True)]
        for member in family:
            with suppress(psutil.NoSuchProcess):
                member.kill()
        end_process_group(process)
        psutil.wait_procs(family[1:], timeout=_PATIENCE_SECONDS)
    with suppress(subprocess.TimeoutExpired):
        process.wait(_PATIENCE_SECONDS)


def end_process_group(process: subprocess.Popen[bytes]) -> None:
    """End what is left of the group that a child leads; to be called before or just after it is reaped."""
    if os.name == "posix":
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)


LARGEST_LOG_BYTES = 200_000


class JobLog:
    """Lines from several threads; of long logs the last `LARGEST_LOG_BYTES` are kept."""

    def __init__(self) -> None:
        self._lines: deque[bytes] = deque()
        self._size = 0
        self._lock = threading.Lock()

    def add(self, line: bytes) -> None:
        """Append a line; its end is normalised."""
        kept = line.rstrip(b"\r\n")[-LARGEST_LOG_BYTES:] + b"\n"
        with self._lock:
            self._lines.append(kept)
            self._size += len(kept)
            while self._size > LARGEST_LOG_BYTES and len(self._lines) > 1:
                self._size -= len(self._lines.popleft())

    @property
    def text(self) -> str:
        """All lines; bytes that are no UTF-8 are replaced."""
        with self._lock:
            return b"".join(self._lines).decode("utf-8", "replace")


_DRAIN_SECONDS = 2.0
_FOR_READERS_SECONDS = 0.001
"""Slicer runs Python's other threads only while its own thread is in Python and waits there."""


class Job:
    """A child process with the engine's event stream on its standard output, in a private folder.

    The child's standard input is held open: a child that watches it ends when this process does. Process
    tree and folder are gone after `cancel` or `close`, when the job is garbage-collected, and when the
    interpreter exits.

    Args:
        command: Program and arguments; it runs in `folder`.
        folder: The child's own folder, removed at the end with all that is in it.
        environment: Of the child; that of this process when None.
    """

    def __init__(
        self, command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.folder = Path(folder)
        self._command = [str(part) for part in command]
        self._environment = None if environment is None else dict(environment)
        self._child = _Child(self.folder)
        self._events: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._log = JobLog()
        self._readers: list[threading.Thread] = []
        self._exited: float | None = None
        self._end = weakref.finalize(self, self._child.end)

    def start(self) -> None:
        """Start the child.

        Raises:
            OSError: It cannot be started; the folder is removed.
        """
        try:
            process = subprocess.Popen(
                self._command,
                cwd=self.folder,
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=os.name == "posix",
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
        except OSError:
            self.close()
            raise
        self._child.process = process
        assert process.stdin
        with suppress(BrokenPipeError):
            process.stdin.write(b"\n")
            process.stdin.flush()
        self._readers = [
            threading.Thread(
                target=_read_events, args=(process.stdout, self._events, self._log), daemon=True
            ),
            threading.Thread(target=_read_log, args=(process.stderr, self._log), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def send(self, line: bytes) -> None:
        """Write to the child's standard input; a child that has ended is noticed by `running`."""
        process = self._child.process
        assert process
        assert process.stdin
        with suppress(OSError):
            process.stdin.write(line)
            process.stdin.flush()

    def poll(self) -> list[dict[str, Any]]:
        """Return the events since the last call, at once."""
        time.sleep(_FOR_READERS_SECONDS)
        events = []
        with suppress(queue.Empty):
            while True:
                events.append(self._events.get_nowait())
        return events

    @property
    def pid(self) -> int | None:
        """Process number of the child; None before `start`."""
        return self._child.process.pid if self._child.process else None

    @property
    def running(self) -> bool:
        """Whether the child lives or has written events that are not read yet."""
        process = self._child.process
        if process is None or process.poll() is None:
            return process is not None
        if self._exited is None:
            self._exited = time.monotonic()
            end_process_group(process)
        reading = any(reader.is_alive() for reader in self._readers)
        return reading and time.monotonic() - self._exited < _DRAIN_SECONDS

    @property
    def exit_code(self) -> int | None:
        """What the child returned, the negative signal number when one ended it; None while it lives."""
        return self._child.process.poll() if self._child.process else None

    @property
    def log(self) -> str:
        """The last 200 kB of what the child wrote beside its events."""
        return self._log.text

    def cancel(self) -> None:
        """End the child and all its children, and remove the folder; a second call does nothing."""
        self._end()

    def close(self) -> None:
        """Remove the folder; a child that still lives is ended."""
        self._end()


class _Child:
    """What must not outlive the job; it knows no job, so that the job can be collected."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None

    def end(self) -> None:
        if self.process:
            end_process_tree(self.process)
            if self.process.stdin:
                with suppress(OSError):
                    self.process.stdin.close()
        remove_folder(self.folder)


def _read_events(stream: IO[bytes], events: queue.SimpleQueue[dict[str, Any]], log: JobLog) -> None:
    with stream:
        for line in stream:
            event = parse_event(line)
            if event is None:
                log.add(line)
            else:
                events.put(event)


def _read_log(stream: IO[bytes], log: JobLog) -> None:
    with stream:
        for line in stream:
            log.add(line)
