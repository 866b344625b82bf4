"""Say what is known of organs in cases of a project."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from multiorganseg.volumes.read import read_labels
from multiorganseg_training.project.lock import project_lock
from multiorganseg_training.project.project import Project
from multiorganseg_training.project.project_json import load_project, save_project
from multiorganseg_training.project.relabel import count_values
from multiorganseg_training.project.status import KNOWN, LabelStatus
from multiorganseg_training.project.voxel_status import require_voxels


def set_status(folder: Path, case: str, organ: str, status: LabelStatus) -> Project:
    """Set one entry of the label-status matrix and save the project; see `set_statuses`."""
    return set_statuses(folder, [case], [organ], status)


def set_statuses(
    folder: Path, cases: Collection[str], organs: Collection[str], status: LabelStatus
) -> Project:
    """Set a status for several cases and organs and save the project; label files stay as they are.

    Labels of an organ that becomes unknown are kept, and no training sees them.

    Args:
        folder: Of the project.
        cases: Names of the cases.
        organs: Organ keys.
        status: What is known of them.

    Returns:
        The project as it is now.

    Raises:
        TrainingError: There is no such case or organ, an annotated organ has no voxel or an absent one has
            some, a status needs a label file, or the project is in use.
        VolumeError: A label file cannot be read.
        ResourceError: The project cannot be written.
    """
    if status in KNOWN:
        _require_voxels(_changed(load_project(folder), cases, organs, status), cases, organs)
    with project_lock(folder):
        project = _changed(load_project(folder), cases, organs, status)
        save_project(project)
    return project


def _changed(
    project: Project, cases: Collection[str], organs: Collection[str], status: LabelStatus
) -> Project:
    return project.with_matrix(project.matrix.with_statuses(cases, organs, status))


def _require_voxels(project: Project, cases: Collection[str], organs: Collection[str]) -> None:
    for case in cases:
        path = project.labels_path(case)
        if path is not None:
            require_voxels(project, case, count_values(read_labels(path).voxels), organs)
