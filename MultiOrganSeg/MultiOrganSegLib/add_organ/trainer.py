"""Child processes of the training side: short commands in their order, and trainings that outlive Slicer."""

from __future__ import annotations

import os
import subprocess
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from multiorganseg.children import module_command
from multiorganseg.errors import DependencyError, ResourceError
from multiorganseg.events import EventKind
from multiorganseg.needs import ADD_ORGAN, TRAIN
from MultiOrganSegLib.child import MODULE_FOLDER, child_environment, python_executable
from MultiOrganSegLib.dependencies import missing_packages
from MultiOrganSegLib.failure import missing_dependency, reported_failure, silent_failure
from MultiOrganSegLib.folder import make_private_folder
from MultiOrganSegLib.job import Job

PACKAGE = "multiorganseg_training"


def training_folder() -> Path:
    """Folder that holds the training package: beside the module in the extension, at the checkout's root.

    Raises:
        DependencyError: It is not there.
    """
    for parent in (MODULE_FOLDER, MODULE_FOLDER.parent):
        if (parent / "Training" / PACKAGE / "__main__.py").is_file():
            return parent / "Training"
    raise DependencyError(
        _("The part of MultiOrganSeg that trains is not there."),
        cause=_("There is no folder Training beside {folder}.").format(folder=MODULE_FOLDER),
        next_step=_("Install the extension again."),
    )


def trainer_command(arguments: Sequence[str]) -> list[str]:
    """The whole command of a child process."""
    return module_command(PACKAGE, arguments, python_executable())


def trainer_environment() -> dict[str, str]:
    """Environment in which a child finds the engine and the training package.

    Raises:
        DependencyError: See `training_folder`.
    """
    return {**child_environment(training_folder()), "NO_COLOR": "1"}


def start_command(arguments: Sequence[str]) -> Job:
    """Start a short command; its job ends with Slicer.

    Raises:
        DependencyError: The training package or a Python package is not there.
        ResourceError: The process cannot be started.
    """
    _require(ADD_ORGAN)
    environment = trainer_environment()
    try:
        folder = make_private_folder(Path(slicer.app.temporaryPath))
        job = Job(trainer_command(["--events", *arguments]), folder, environment)
        job.start()
    except OSError as error:
        raise _cannot_start(error) from error
    return job


def start_detached(arguments: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    """Start a training that goes on when Slicer closes; its working folder is that of its own package.

    Args:
        arguments: Of `multiorganseg-train`; paths in it are absolute.
        log: Gets what it writes.

    Raises:
        DependencyError: The training package or a Python package is not there.
        ResourceError: The log cannot be written, or the process cannot be started.
    """
    _require(TRAIN)
    environment = trainer_environment()
    flags = 0
    for name in ("CREATE_NO_WINDOW", "CREATE_NEW_PROCESS_GROUP"):
        flags |= getattr(subprocess, name, 0)
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as sink:
            return subprocess.Popen(
                trainer_command(["--events", *arguments]),
                cwd=training_folder(),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=os.name == "posix",
                creationflags=flags,
            )
    except OSError as error:
        raise _cannot_start(error) from error


def _require(entry: str) -> None:
    if missing := missing_packages(entry):
        raise missing_dependency(missing)


def _cannot_start(error: OSError) -> ResourceError:
    return ResourceError(
        _("The training process cannot be started."),
        cause=str(error),
        next_step=_("Check that the disk has free space, and restart Slicer."),
    )


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

    Args:
        start: Starts a command.

    Attributes:
        fraction: How much of the running command is done, in [0, 1]; None when it does not say.
        stage: What it does now, in its own words; empty when it does not say.
    """

    def __init__(self, start: Callable[[Sequence[str]], Job] | None = None) -> None:
        self._start = start or start_command
        self._waiting: deque[Command] = deque()
        self._current: Command | None = None
        self._job: Job | None = None
        self._warnings: list[str] = []
        self._failed: dict[str, Any] | None = None
        self.fraction: float | None = None
        self.stage = ""

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
                self._job = self._start(self._current.arguments)
            except BaseException:
                self.cancel()
                raise

    def cancel(self) -> None:
        """End what runs and drop what waits."""
        if self._job is not None:
            self._job.cancel()
        dropped = [*([self._current] if self._current else []), *self._waiting]
        self._job, self._current, self.fraction, self.stage = None, None, None, ""
        self._waiting.clear()
        for command in dropped:
            command.finally_()

    def _listen(self, job: Job) -> None:
        for event in job.poll():
            kind, fraction = event["event"], event.get("fraction")
            if kind == EventKind.PROGRESS and isinstance(fraction, int | float):
                self.fraction = min(max(float(fraction), 0.0), 1.0)
                self.stage = str(event.get("stage", ""))
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
        self._job, self._current, self.fraction, self.stage = None, None, None, ""
        try:
            command.done(self._warnings)
        finally:
            command.finally_()
