"""Short commands of the training side, one after the other, without waiting for them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from multiorganseg.events import EventKind
from MultiOrganSegLib.failure import reported_failure, silent_failure
from MultiOrganSegLib.job import Job
from MultiOrganSegLib.teach.trainer import start_command


@dataclass(frozen=True)
class Command:
    """One command.

    Attributes:
        text: What it does, for people, such as "Adding CT 1".
        arguments: Of `multiorganseg-train`.
        done: Called with its warnings when it has succeeded.
        finally_: Called at its end in any case, for what only it needed.
    """

    text: str
    arguments: Sequence[str]
    done: Callable[[Sequence[str]], None]
    finally_: Callable[[], None] = lambda: None


class CommandQueue:
    """Runs commands in their order; when one fails, those behind it are dropped.

    Attributes:
        fraction: How much of the running command is done, in [0, 1]; None when it does not say.
    """

    def __init__(self) -> None:
        self._waiting: deque[Command] = deque()
        self._current: Command | None = None
        self._job: Job | None = None
        self._warnings: list[str] = []
        self._failed: dict[str, Any] | None = None
        self.fraction: float | None = None

    @property
    def text(self) -> str:
        """What is being done; empty when nothing is."""
        return self._current.text if self._current else ""

    @property
    def busy(self) -> bool:
        """Whether a command runs or waits."""
        return self._current is not None or bool(self._waiting)

    def add(self, *commands: Command) -> None:
        """Append commands; `poll` starts them."""
        self._waiting.extend(commands)

    def poll(self) -> None:
        """Start what waits and take what has ended; to be called from a timer, never waits.

        Raises:
            MultiOrganSegError: A command failed; those behind it are dropped.
        """
        if self._job is not None:
            running = self._job.running
            self._listen(self._job)
            if not running:
                self._conclude()
        if self._current is None and self._waiting:
            self._current = self._waiting.popleft()
            self._warnings, self._failed = [], None
            try:
                self._job = start_command(self._current.arguments)
            except BaseException:
                self.cancel()
                raise

    def cancel(self) -> None:
        """End what runs and drop what waits."""
        if self._job is not None:
            self._job.cancel()
        dropped = [*([self._current] if self._current else []), *self._waiting]
        self._job, self._current, self.fraction = None, None, None
        self._waiting.clear()
        for command in dropped:
            command.finally_()

    def _listen(self, job: Job) -> None:
        for event in job.poll():
            kind, fraction = event["event"], event.get("fraction")
            if kind == EventKind.PROGRESS and isinstance(fraction, int | float):
                self.fraction = min(max(float(fraction), 0.0), 1.0)
            elif kind == EventKind.WARNING:
                self._warnings.append(str(event.get("message", "")))
            elif kind == EventKind.FAILED:
                self._failed = event

    def _conclude(self) -> None:
        job, command = self._job, self._current
        if job is None or command is None:
            return
        log, code = job.log, job.exit_code
        job.close()
        if code:
            self.cancel()
            raise reported_failure(self._failed) if self._failed else silent_failure(code, log)
        self._job, self._current, self.fraction = None, None, None
        try:
            command.done(self._warnings)
        finally:
            command.finally_()
