"""Any error of one case as a typed one, so that the other cases go on."""

from __future__ import annotations

import traceback
from pathlib import Path

from multiorganseg.errors import DependencyError, MultiOrganSegError, ResourceError

ISSUES = "https://github.com/multiorganseg/SlicerMultiOrganSeg/issues"
_OURS = Path(__file__).resolve().parents[1]
_PACKAGES = ("multiorganseg", "multiorganseg_training", "MultiOrganSegLib")
_PLACES = 3


class UnforeseenError(MultiOrganSegError):
    """Something failed in a way that the program does not know."""


def as_typed(error: Exception) -> MultiOrganSegError:
    """Return an error as one for the user; typed errors stay as they are.

    The result holds no reference to the error, whose frames would keep a case's voxels in memory.
    """
    if isinstance(error, MultiOrganSegError):
        return error
    if isinstance(error, MemoryError):
        return ResourceError(
            "There is not enough memory.",
            cause=str(error) or f"It ran out at {_places(error)}.",
            next_step="Close other programs, crop the volume, or use a computer with more memory.",
        )
    if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] in _PACKAGES:
        return DependencyError(
            "A file of MultiOrganSeg is missing.",
            cause=str(error),
            next_step="Install MultiOrganSeg again; it cannot be mended by installing a package.",
        )
    if isinstance(error, ModuleNotFoundError):
        return DependencyError(
            "A Python package is missing.",
            cause=str(error),
            next_step=f"Install it: pip install {error.name or 'PACKAGE'}",
        )
    if isinstance(error, OSError):
        return ResourceError(
            "A file could not be read or written.",
            cause=str(error),
            next_step="Check that the disk has free space and that you may read and write there.",
        )
    return UnforeseenError(
        "An error that the program does not know.",
        cause=f"{type(error).__name__}: {error} (at {_places(error)})",
        next_step=f"Report it with these lines, and without patient data, at {ISSUES}",
    )


def _places(error: Exception) -> str:
    """The innermost places, ours by their path in the package, others by the file's name."""
    frames = traceback.extract_tb(error.__traceback__)[-_PLACES:]
    return " < ".join(f"{_short(frame.filename)}:{frame.lineno}" for frame in reversed(frames)) or "?"


def _short(name: str) -> str:
    path = Path(name)
    return path.relative_to(_OURS).as_posix() if path.is_relative_to(_OURS) else path.name
