"""Files of a project's folder that no case uses."""

from __future__ import annotations

from pathlib import Path

from multiorganseg_training.project.lock import project_lock
from multiorganseg_training.project.project_json import load_project

FOLDERS = ("images", "labels")


def tidy(folder: Path, *, delete_unused: bool = False) -> list[str]:
    """Delete what killed programs left half-written, and find whole files that no case uses.

    The latter come from programs that were killed before they named a file in `project.json`, or from people.

    Args:
        folder: Of the project.
        delete_unused: Whether they are deleted too.

    Returns:
        The unused files, relative to the folder, with "/" between their parts.

    Raises:
        TrainingError: The folder is no project, or the project is in use.
        OrganError: The project has an organ that nothing knows.
        ResourceError: The project cannot be written.
    """
    with project_lock(folder):
        cases = load_project(folder).cases.values()
        used = {name for case in cases for name in (case.image, case.labels)}
        unused = [
            name
            for path in sorted(path for place in FOLDERS for path in (folder / place).glob("*"))
            if path.is_file()
            and not path.name.startswith(".")
            and (name := path.relative_to(folder).as_posix()) not in used
        ]
        if delete_unused:
            for name in unused:
                (folder / name).unlink()
    return unused
