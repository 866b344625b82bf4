"""The command and the environment of the child process that runs the engine."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import slicer

from multiorganseg.children import module_command, module_environment
from MultiOrganSegLib.failure import cannot_start
from MultiOrganSegLib.folder import make_private_folder
from MultiOrganSegLib.job import Job

IDLE_SECONDS = 900.0
"""So long without a request, and the resident process ends."""

MODULE_FOLDER = Path(__file__).resolve().parents[1]


def resident_command() -> list[str]:
    """The command of the resident process, to be run in a private folder."""
    server = os.environ.get("MULTIORGANSEG_SERVER")
    arguments = ["resident", "--idle", str(IDLE_SECONDS), *(["--server", server] if server else [])]
    return module_command("multiorganseg", arguments, python_executable())


def start_engine(arguments: Sequence[str]) -> Job:
    """Start a command of the engine that tells events; its job ends with Slicer.

    Args:
        arguments: Of `multiorganseg`; paths in it are absolute.

    Raises:
        ResourceError: The process cannot be started.
    """
    command = module_command(
        "multiorganseg", [*arguments, "--events", "-", "--stop-with-parent"], python_executable()
    )
    try:
        folder = make_private_folder(Path(slicer.app.temporaryPath))
        job = Job(command, folder, child_environment())
        job.start()
    except OSError as error:
        raise cannot_start(error) from error
    return job


def python_executable() -> str:
    """Slicer's own Python where there is one, else that of this process."""
    return shutil.which("PythonSlicer") or sys.executable


def child_environment(*folders: Path) -> dict[str, str]:
    """Environment in which the child finds the engine and further folders' modules; see `module_environment`.

    Slicer's own Python gets the environment that Slicer was started in, and the settings of this package.
    """
    if shutil.which("PythonSlicer"):
        environment = dict(slicer.util.startupEnvironment())
        environment |= {
            name: value for name, value in os.environ.items() if name.startswith("MULTIORGANSEG_")
        }
        return module_environment(folders, environment)
    return module_environment(folders)
