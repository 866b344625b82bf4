"""The child process of the training side: for short commands, and for trainings that outlive Slicer."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import slicer
from slicer.i18n import tr as _

from multiorganseg.children import module_command
from multiorganseg.errors import DependencyError, ResourceError
from multiorganseg.needs import TEACH, TRAIN
from MultiOrganSegLib.child import MODULE_FOLDER, child_environment, python_executable
from MultiOrganSegLib.dependencies import missing_packages
from MultiOrganSegLib.failure import missing_dependency
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
    _require(TEACH)
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
