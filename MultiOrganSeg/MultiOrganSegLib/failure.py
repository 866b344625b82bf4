"""Why a run failed, as typed errors with cause and next step."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from multiorganseg.errors import DependencyError, MultiOrganSegError, ResourceError
from multiorganseg.events import failure

_KILL = 9
_LAST_LINES = 3


def reported_failure(event: Mapping[str, Any]) -> MultiOrganSegError:
    """The error of a child's `failed` event, with a problem and a next step where it names none."""
    problem, cause = str(event.get("problem", "")), str(event.get("cause", ""))
    if problem in ("ModuleNotFoundError", "ImportError"):
        return missing_dependency([cause])
    if problem == "MemoryError":
        return _lack_of_memory(cause or problem)
    otherwise = {"problem": _stopped(), "next_step": _report()}
    return failure({**event, **{key: event.get(key) or text for key, text in otherwise.items()}})


def silent_failure(exit_code: int | None, log: str) -> MultiOrganSegError:
    """The error for a child that ended without a result and without telling why."""
    code = exit_code or 0
    number = -code if code < 0 else code - 128 if code > 128 and sys.platform != "win32" else 0
    if number == _KILL:
        return _lack_of_memory(
            _("The process was ended (signal {number}), often for lack of memory.").format(number=number)
        )
    if number:
        cause = _("The process was ended (signal {number}).").format(number=number)
        return MultiOrganSegError(_stopped(), cause=cause, next_step=_report())
    last = " ".join(log.split("\n")[-_LAST_LINES - 1 :]).strip()
    cause = _("The process ended with exit code {code} and no result. {last}").format(code=code, last=last)
    return MultiOrganSegError(_stopped(), cause=cause.strip(), next_step=_report())


def no_room(folder: Path, cause: str) -> ResourceError:
    """The error for a temporary folder that cannot take the volume."""
    return ResourceError(
        _("The volume cannot be written to the temporary folder {folder}.").format(folder=folder),
        cause=cause,
        next_step=_(
            "Free some space there, or choose another temporary folder in the menu "
            "Edit / Application Settings / General, and try again."
        ),
    )


def missing_dependency(packages: Sequence[str]) -> DependencyError:
    """The error for packages that are not installed; scripts get a call that installs them."""
    return DependencyError(
        _("Python packages that segmentation needs are missing."),
        cause=_("Not installed: {packages}.").format(packages=", ".join(packages)),
        next_step=_(
            "Install them by the button of this module, or call "
            "MultiOrganSegLib.dependencies.ensure_dependencies()."
        ),
    )


def cannot_start(error: OSError) -> ResourceError:
    """The error for a child process that cannot be started."""
    return ResourceError(
        _("The segmentation process cannot be started."),
        cause=str(error),
        next_step=_("Restart Slicer; if that does not help, install the extension again."),
    )


def _lack_of_memory(cause: str) -> ResourceError:
    return ResourceError(
        _stopped(),
        cause=cause,
        next_step=_("Close other programs or crop the volume, and try again."),
    )


def _stopped() -> str:
    return _("The segmentation stopped before it was done.")


def _report() -> str:
    return _("Try again; if it happens again, report it with the log.")
