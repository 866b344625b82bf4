"""The lock of a project, which every program holds while it changes it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from multiorganseg.guarded import check_inside
from multiorganseg.scratch import clean_up
from multiorganseg_training.locks import folder_lock
from multiorganseg_training.project.project_json import require_project

PROJECT_SECONDS = 10.0
FOLDERS = ("", "images", "labels", "bundles")
"""Where a project writes, beside its runs, which tidy up for themselves."""


@contextmanager
def project_lock(folder: Path) -> Iterator[None]:
    """Hold a project's lock while it is read, changed and saved; not reentrant.

    What killed programs left half-written in the project goes first.

    Whoever only reads needs no lock: `project.json` is replaced as a whole, after the files that it names.

    Raises:
        TrainingError: The folder is no project, or another program holds the lock for 10 s.
        ResourceError: The folder cannot be written, was renamed or deleted meanwhile, or has a link out.
    """
    require_project(folder)
    step = "Try again when it is done, or end it."
    with folder_lock(folder, f"The project {folder.absolute().name}", PROJECT_SECONDS, step):
        for place in FOLDERS:
            check_inside(folder / place / "any")
            clean_up(folder / place)
        yield
