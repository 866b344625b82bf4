"""Runs of a project: names of their files, their locks, the request to pause one, and how each stands."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from pathlib import Path
from typing import Any

from multiorganseg.atomic import write_text_atomically
from multiorganseg.bundles.folders import visible_folders
from multiorganseg.bundles.json_text import read_json_object
from multiorganseg.earlier import existing
from multiorganseg.errors import MultiOrganSegError, ResourceError, TrainingError
from multiorganseg.events import ENDS, EventKind, read_events
from multiorganseg.guarded import (
    check_inside,
    guarded_folder,
    make_empty_file,
    make_folders,
    require_plain_file,
)
from multiorganseg.progress import Progress

RUNS_FOLDER = "runs"
EVENTS_FILE = "events.jsonl"
ACCEPTANCE_FILE = "acceptance.json"
STOP_FILE = "stop"
LOCK_FILE = ".lock"
HOLDER_FILE = ".lock-holder"
_LONGEST_HOLDER = 300
RUN_SECONDS = 2.0
"""How long a run waits for its lock: longer than `is_running` holds it."""


@contextmanager
def folder_lock(folder: Path, what: str, seconds: float, next_step: str) -> Iterator[None]:
    """Hold the lock of a folder for the length of the block, and guard the folder (`guarded_folder`).

    It is not reentrant. A text beside the lock says who holds it; only the error's wording depends on it.

    Args:
        folder: Must exist.
        what: Name of the folder's content, to begin the error with.
        seconds: How long to wait for another program.
        next_step: What to do when it does not end.

    Raises:
        TrainingError: Another program holds the lock all that time.
        ResourceError: The folder cannot be written, or was renamed or deleted meanwhile.
    """
    from filelock import FileLock, Timeout

    check_inside(folder / LOCK_FILE)
    _require_lockable(folder)
    lock = FileLock(folder / LOCK_FILE)
    try:
        lock.acquire(timeout=seconds)
    except Timeout as error:
        msg = f"{what} is in use by another program."
        raise TrainingError(msg, cause=_holder(folder), next_step=next_step) from error
    except OSError as error:
        raise _no_lock(folder, str(error)) from error
    try:
        with guarded_folder(folder):
            with suppress(ResourceError):
                write_text_atomically(folder / HOLDER_FILE, _myself())
            yield
    finally:
        with suppress(OSError):
            (folder / HOLDER_FILE).unlink()
        lock.release()


@contextmanager
def run_lock(run: Path) -> Iterator[None]:
    """Hold the lock of a run's folder, which is made where it is missing, for as long as the run goes on.

    Raises:
        TrainingError: The run goes on in another program.
        ResourceError: The folder cannot be written.
    """
    try:
        make_folders(run)
    except OSError as error:
        msg = f"Cannot write {run}."
        raise ResourceError(msg, cause=str(error), next_step="Choose another folder for the run.") from error
    step = "Wait for it, pause it, or give this run another folder."
    with folder_lock(run, f"The run {run.name}", RUN_SECONDS, step):
        yield


def is_running(run: Path) -> bool:
    """Whether a program holds the lock of a run's folder; never waits.

    False for a folder without a lock, and for one that is read-only, where no run can go on; also where the
    package filelock is not installed yet, with which nothing can be trained.
    """
    path = run / LOCK_FILE
    if path.is_symlink() or not path.is_file():
        return False
    try:
        from filelock import FileLock, Timeout
    except ModuleNotFoundError:
        return False
    try:
        with FileLock(path).acquire(timeout=0):
            return False
    except Timeout:
        return True
    except OSError:
        return False


def _require_lockable(folder: Path) -> None:
    """Refuse a link in place of the lock, which locking would empty."""
    try:
        require_plain_file(folder / LOCK_FILE)
    except ResourceError as error:
        raise _no_lock(folder, error.cause) from error


def _no_lock(folder: Path, cause: str) -> ResourceError:
    msg = f"Cannot lock {folder}."
    return ResourceError(
        msg, cause=cause, next_step="Choose a folder with write permission and enough free space."
    )


def _myself() -> str:
    program = Path(sys.argv[0])
    name = program.parent.name if program.stem == "__main__" else program.name
    return f"{name or 'python'}, process {os.getpid()} on {platform.node()}"


def _holder(folder: Path) -> str:
    try:
        require_plain_file(folder / HOLDER_FILE)
        with (folder / HOLDER_FILE).open(encoding="utf-8") as said:
            text = said.read(_LONGEST_HOLDER).strip()
    except (ResourceError, OSError, UnicodeDecodeError):
        text = ""
    return f"It is held by {text}." if text else "It does not say by which."


class Paused(MultiOrganSegError):
    """A run was asked to pause and has kept a checkpoint; ends a program as success does."""

    exit_code = 0

    def __init__(self, iteration: int, iterations: int) -> None:
        where = (
            f"after {iteration} of {iterations} iterations" if iterations else "before the first iteration"
        )
        super().__init__(f"Paused {where}.", next_step="The same command goes on from here.")


def request_pause(run: Path) -> None:
    """Ask a run to pause after its iteration.

    Raises:
        ResourceError: The folder cannot be written.
    """
    make_empty_file(run / STOP_FILE)


def withdraw_pause(run: Path, before: float) -> None:
    """Forget a request that was made before this start; a later one is meant for it.

    Args:
        run: Its folder.
        before: Start, in seconds since the epoch; see `process_start`.

    Raises:
        ResourceError: It cannot be deleted.
    """
    check_inside(run / STOP_FILE)
    try:
        if (run / STOP_FILE).lstat().st_mtime < before:
            (run / STOP_FILE).unlink()
    except FileNotFoundError:
        return
    except OSError as error:
        msg = f"Cannot delete {run / STOP_FILE}."
        raise ResourceError(msg, cause=str(error), next_step="Delete it, and start again.") from error


def process_start() -> float:
    """Return when this process began, in seconds since the epoch: requests to it count from then."""
    import psutil

    created = psutil.Process().create_time()
    if sys.platform != "linux":
        return created
    uptime = time.clock_gettime(time.CLOCK_BOOTTIME)
    since_boot = created - psutil.boot_time()  # psutil adds whole seconds: up to one too few
    return time.time() - (uptime - since_boot)


def pausing(run: Path, progress: Progress) -> Progress:
    """Return a progress that raises `Paused` where a pause is requested before the first iteration."""

    def report(stage: str, fraction: float) -> None:
        progress.report(stage, fraction)
        if is_pause_requested(run):
            raise Paused(0, 0)

    return Progress(report, progress.token)


def is_pause_requested(run: Path) -> bool:
    """Whether a pause is requested."""
    with suppress(OSError):
        return (run / STOP_FILE).exists()
    return False


def stop_if_paused(run: Path, iteration: int, iterations: int) -> None:
    """End the training where a pause is requested; the last iteration is followed by the end anyway.

    Raises:
        Paused: It is; the caller saves a checkpoint.
    """
    if iteration < iterations and is_pause_requested(run):
        raise Paused(iteration, iterations)


class RunState(str, Enum):
    """How a run stands.

    Attributes:
        RUNNING: A program holds its lock.
        STOPPING: It does, and was asked to pause.
        PAUSED: It ended on request.
        FINISHED: It came to its end.
        FAILED: It ended with an error.
        INTERRUPTED: It ended without a word.
    """

    RUNNING = "running"
    STOPPING = "stopping"
    PAUSED = "paused"
    FINISHED = "finished"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


ALIVE = frozenset({RunState.RUNNING, RunState.STOPPING})
RESUMABLE = frozenset({RunState.PAUSED, RunState.FAILED, RunState.INTERRUPTED})


def run_state(run: Path, ended: str, *, running: bool) -> RunState:
    """Return how a run stands.

    Args:
        run: Its folder.
        ended: Kind of the last event that ended it; empty when none did since its start.
        running: Whether a program works on it; see `is_running`.
    """
    if running:
        return RunState.STOPPING if is_pause_requested(run) else RunState.RUNNING
    return RunState(ended) if ended in ENDS else RunState.INTERRUPTED


_SILENT = {
    "problem": "The training ended without a word.",
    "cause": "It was killed, or the computer was switched off.",
    "next_step": "Start it again; it goes on from its last checkpoint.",
}


_PUBLIC = {RunState.STOPPING: RunState.RUNNING.value, RunState.INTERRUPTED: RunState.FAILED.value}
"""What the JSON of `multiorganseg-train project status` says instead."""


def run_states(folder: Path) -> list[dict[str, Any]]:
    """Describe each run of a project by name; see `project_state`.

    Args:
        folder: Of the project.
    """
    runs = visible_folders(folder / RUNS_FOLDER)
    return [_state(run) for run in runs if (run / EVENTS_FILE).is_file() or (run / LOCK_FILE).is_file()]


def _state(run: Path) -> dict[str, Any]:
    log = run / EVENTS_FILE
    ended, end = "", dict(_SILENT)
    last: dict[str, dict[str, Any]] = {}
    for event in read_events(log) if log.is_file() else ():
        kind = event.pop("event")
        if kind == EventKind.STARTED:
            ended, end = "", dict(_SILENT)
        if kind in ENDS:
            ended, end = kind, event
        last[kind] = event
    state = run_state(run, ended, running=is_running(run))
    has_failed = state in (RunState.FAILED, RunState.INTERRUPTED)
    return {
        "name": run.name,
        "folder": str(run.absolute()),
        "events": str(log.absolute()),
        "state": _PUBLIC.get(state, state.value),
        "pause_requested": state is RunState.STOPPING,
        "started": last.get(EventKind.STARTED),
        "progress": last.get(EventKind.PROGRESS),
        "metric": last.get(EventKind.METRIC),
        "failure": {key: str(end.get(key, "")) for key in _SILENT} if has_failed else None,
        "accepted": _is_accepted(run),
    }


def _is_accepted(run: Path) -> bool | None:
    try:
        return bool(read_json_object(existing(run / ACCEPTANCE_FILE))["passed"])
    except (OSError, ValueError, KeyError):
        return None
