"""Create an empty project and add cases to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from multiorganseg.organs.catalogue import Catalogue, load_catalogue
from multiorganseg.organs.labels import LabelTable
from multiorganseg_training.project.case_files import (
    check_grids,
    place_image,
    place_labels,
    project_case,
)
from multiorganseg_training.project.matrix import LabelStatusMatrix
from multiorganseg_training.project.new_folder import new_folder
from multiorganseg_training.project.project import Project
from multiorganseg_training.project.project_json import save_project
from multiorganseg_training.project.status import LabelStatus


def create_project(
    folder: Path,
    name: str,
    table: LabelTable,
    *,
    modality: str = "CT",
    catalogue: Catalogue | None = None,
) -> Project:
    """Create a project without cases.

    Args:
        folder: Must not exist, or be empty.
        name: Of the project.
        table: Its organs and their label values.
        modality: "CT" or "MR".
        catalogue: Must know the organs; by default MultiOrganSeg's own.

    Raises:
        TrainingError: The folder is in use, or the modality unknown.
        OrganError: The catalogue lacks an organ.
        ResourceError: The folder cannot be written.
    """
    matrix = LabelStatusMatrix(table.keys)
    matrix.check_organs(catalogue or load_catalogue())
    with new_folder(folder) as new:
        project = Project(new, name, table, {}, matrix, modality)
        save_project(project)
    return replace(project, folder=folder)


def add_case(
    project: Project,
    name: str,
    image: Path,
    labels: Path | None = None,
    status: Mapping[str, LabelStatus] | None = None,
) -> Project:
    """Copy a case into a project and save the project.

    Args:
        project: Where to.
        name: Of the case.
        image: Its image file.
        labels: Its label file, whose values are those of the project's label table.
        status: What is known of its organs; what is left out is unknown.

    Returns:
        The project with the case.

    Raises:
        TrainingError: The case exists, the grids differ, a label value has no meaning, or a status needs a
            label file.
        VolumeError: A file is missing or damaged.
        ResourceError: The project cannot be written.
    """
    entry = project_case(name, image, labelled=labels is not None)
    matrix = project.matrix.with_case(name, status)
    extended = replace(project, cases={**project.cases, name: entry}, matrix=matrix)
    check_grids({name: (image, labels)})
    if labels is not None and entry.labels is not None:
        place_labels(labels, project.folder / entry.labels, {value: value for value in project.table.organs})
    place_image(image, project.folder / entry.image)
    save_project(extended)
    return extended
