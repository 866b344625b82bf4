"""Typed errors: each says what went wrong, why, and what the user can do next."""

from __future__ import annotations


class MultiOrganSegError(Exception):
    """Base of all errors that are meant for the user.

    Args:
        problem: What went wrong, in one sentence.
        cause: Why, as far as it is known.
        next_step: What the user can do about it.
    """

    exit_code = 1

    def __init__(self, problem: str, *, cause: str = "", next_step: str = "") -> None:
        self.problem = problem
        self.cause = cause
        self.next_step = next_step
        super().__init__(" ".join(part for part in (problem, cause, next_step) if part))


class OptionError(MultiOrganSegError):
    """An option has a value that does not exist."""

    exit_code = 2


class VolumeError(MultiOrganSegError):
    """A volume cannot be read, or its geometry or voxels cannot be segmented."""

    exit_code = 3


class BundleError(MultiOrganSegError):
    """A bundle is missing, damaged, unsafe or not supported."""

    exit_code = 4


class OrganError(MultiOrganSegError):
    """An organ key or a label table is unknown or inconsistent."""

    exit_code = 5


class ResourceError(MultiOrganSegError):
    """Memory, disk or device does not suffice for what was asked."""

    exit_code = 6


class DependencyError(MultiOrganSegError):
    """An optional package that this operation needs is not installed."""

    exit_code = 7


class TrainingError(MultiOrganSegError):
    """A recipe, a project or a training run is not valid."""

    exit_code = 8


class ServerError(MultiOrganSegError):
    """An archive of images cannot be reached, refuses, or does not give or take what was asked."""

    exit_code = 9


class Cancelled(MultiOrganSegError):
    """The user cancelled; nothing was written."""

    exit_code = 130

    def __init__(self) -> None:
        super().__init__("Cancelled.")
