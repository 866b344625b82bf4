"""The request to pause a run: a file in its folder, which any program may make."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import psutil

from multiorganseg.errors import MultiOrganSegError, ResourceError
from multiorganseg.guarded import check_inside, make_empty_file
from multiorganseg.progress import Progress

STOP_FILE = "stop"


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
    """Give when this process began, in seconds since the epoch: requests to it count from then."""
    return psutil.Process().create_time()


def heeding_pause(run: Path, progress: Progress) -> Progress:
    """Give a progress that raises `Paused` where a pause is requested before the first iteration."""

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


def heed_pause(run: Path, iteration: int, iterations: int) -> None:
    """End the training where a pause is requested; the last iteration is followed by the end anyway.

    Raises:
        Paused: It is; the caller saves a checkpoint.
    """
    if iteration < iterations and is_pause_requested(run):
        raise Paused(iteration, iterations)
