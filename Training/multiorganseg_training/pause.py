"""The request to pause a run: a file in its folder, which any program may make."""

from __future__ import annotations

from pathlib import Path

from multiorganseg.errors import MultiOrganSegError

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
    """Ask a run to pause after its iteration."""
    (run / STOP_FILE).touch()


def withdraw_pause(run: Path) -> None:
    """Forget a request, as each start of a run does."""
    (run / STOP_FILE).unlink(missing_ok=True)


def heed_pause(run: Path, iteration: int, iterations: int) -> None:
    """End the training where a pause is requested; the last iteration is followed by the end anyway.

    Raises:
        Paused: It is; the caller saves a checkpoint.
    """
    if iteration < iterations and (run / STOP_FILE).exists():
        raise Paused(iteration, iterations)
