"""Compare what a project says of its cases with the voxels of their files; nothing is changed."""

from __future__ import annotations

from dataclasses import dataclass

from multiorganseg.bundles.safe_names import clashes
from multiorganseg.errors import VolumeError
from multiorganseg.metrics.compare import SAME_GRID_MM
from multiorganseg.progress import Progress
from multiorganseg.volumes.read import read_labels
from multiorganseg_training.project.case_files import file_grid
from multiorganseg_training.project.project import Project
from multiorganseg_training.project.relabel import count_values
from multiorganseg_training.project.voxel_status import status_problem


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
        progress: Told once a case.
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
