"""What the voxels of a label map say against the statuses of a case."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from multiorganseg.errors import TrainingError
from multiorganseg_training.project.project import Project
from multiorganseg_training.project.status import LABELLED, LabelStatus


def status_problem(status: LabelStatus, voxels: int) -> str:
    """Say what is wrong between a status and the number of labelled voxels; empty when nothing is."""
    if voxels and status not in LABELLED:
        return f"It is {status.value}, but labelled."
    if not voxels and status is LabelStatus.ANNOTATED:
        return "It is annotated, but no voxel is labelled: absent?"
    return ""


def require_voxels(
    project: Project, case: str, counts: Mapping[int, int], organs: Iterable[str] | None = None
) -> None:
    """Refuse statuses that contradict the voxels.

    Args:
        project: With the statuses.
        case: Name of the case.
        counts: Number of voxels by the project's label value.
        organs: Organ keys to look at; None for all.

    Raises:
        TrainingError: An annotated organ has no voxel, or one that is absent or unknown has some.
    """
    row = project.matrix.rows[case]
    problems = [
        f"{organ}: {problem}" + (f" ({counts[value]} voxels)" if counts.get(value) else "")
        for value, organ in project.table.organs.items()
        if organs is None or organ in organs
        if (problem := status_problem(row[organ], counts.get(value, 0)))
    ]
    if problems:
        msg = f"What is said of the case '{case}' contradicts its labels."
        raise TrainingError(
            msg,
            cause=" ".join(problems),
            next_step="Say that an organ with voxels is annotated, or pseudo if nobody corrected it, and one "
            "without absent or unknown.",
        )
