"""The lock of a project, which every program holds while it changes it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from multiorganseg_training.locks import folder_lock
from multiorganseg_training.project.project_json import require_project

PROJECT_SECONDS = 10.0


@contextmanager
def project_lock(folder: Path) -> Iterator[None]:
    """Hold a project's lock while it is read, changed and saved; not reentrant.

    Whoever only reads needs no lock: `project.json` is replaced as a whole, after the files that it names.

    Raises:
        TrainingError: The folder is no project, or another program holds the lock for 10 s.
        ResourceError: The folder cannot be written.
    """
    require_project(folder)
    step = "Try again when it is done, or end it."
    with folder_lock(folder, f"The project {folder.absolute().name}", PROJECT_SECONDS, step):
        yield
