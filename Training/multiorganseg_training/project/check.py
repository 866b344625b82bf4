"""Compare what a project says with its files: statuses against voxels, files that no case uses."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from multiorganseg.bundles.safe_names import clashes
from multiorganseg.errors import VolumeError
from multiorganseg.metrics.compare import SAME_GRID_MM
from multiorganseg.progress import Progress
from multiorganseg.projects.file import load_project, project_lock
from multiorganseg.projects.project import Project
from multiorganseg.volumes.read import read_labels
from multiorganseg_training.project.case_files import file_grid
from multiorganseg_training.project.labels import count_values, status_problem


@dataclass(frozen=True)
class Contradiction:
    """One thing that a project says and its files do not bear out.

    Attributes:
        case: Name of the case.
        organ: Organ key; empty when the file as a whole is meant.
        problem: For people.
        voxels: How many voxels speak against the status.
    """

    case: str
    organ: str
    problem: str
    voxels: int = 0


def find_contradictions(project: Project, progress: Progress | None = None) -> list[Contradiction]:
    """Find files that are missing, damaged or on another grid, and labels that contradict the matrix.

    An annotated organ needs a voxel, an absent or unknown one must have none. A pseudo-label may be empty.
    Names of cases that differ in upper and lower case alone are found too.

    Args:
        project: To check.
        progress: Reports once a case.
    """
    progress = progress or Progress()
    doubled = clashes(project.cases)
    found = [
        Contradiction(case, "", "Another case has the same name but for upper and lower case.")
        for case in project.cases
        if any(clashes([case, name]) for name in doubled)
    ]
    for number, case in enumerate(project.cases):
        progress("checking cases", number / len(project.cases))
        try:
            found += _in_case(project, case)
        except VolumeError as error:
            found.append(Contradiction(case, "", str(error)))
    progress("checking cases", 1.0)
    return found


def _in_case(project: Project, case: str) -> list[Contradiction]:
    grid = file_grid(project.image_path(case))
    path = project.labels_path(case)
    if path is None:
        return []
    labels = read_labels(path)
    found = []
    if not grid.same_as(labels.grid, SAME_GRID_MM):
        found.append(Contradiction(case, "", "Image and labels lie on different grids."))
    counts = count_values(labels.voxels)
    counts.pop(0, None)
    for value, organ in project.table.organs.items():
        voxels = counts.pop(value, 0)
        problem = status_problem(project.matrix.status(case, organ), voxels)
        if problem:
            found.append(Contradiction(case, organ, problem, voxels))
    return found + [
        Contradiction(case, "", f"The label value {value} has no organ.", voxels)
        for value, voxels in counts.items()
    ]


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
