"""Locks that keep programs apart; each ends with the program that holds it, however that ends."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from multiorganseg.atomic import write_text_atomically
from multiorganseg.errors import ResourceError, TrainingError
from multiorganseg.guarded import check_inside, guarded_folder, make_folders, require_plain_file

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

    False for a folder without a lock, and for one that is read-only, where no run can go on.
    """
    path = run / LOCK_FILE
    if path.is_symlink() or not path.is_file():
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
