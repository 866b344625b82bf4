"""Create an empty project."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from multiorganseg.bundles.custom_organs import with_custom_organs
from multiorganseg.bundles.metadata import CustomOrgan
from multiorganseg.organs.catalogue import Catalogue, load_catalogue
from multiorganseg.organs.labels import LabelTable
from multiorganseg_training.project.matrix import LabelStatusMatrix
from multiorganseg_training.project.new_folder import new_folder
from multiorganseg_training.project.project import Project
from multiorganseg_training.project.project_json import save_project


def create_project(
    folder: Path,
    name: str,
    table: LabelTable,
    *,
    modality: str = "CT",
    catalogue: Catalogue | None = None,
    custom_organs: Mapping[str, CustomOrgan] | None = None,
) -> Project:
    """Create a project without cases.

    Args:
        folder: Must not exist, or be empty.
        name: Of the project.
        table: Its organs and their label values.
        modality: "CT" or "MR".
        catalogue: Must know the organs but the project's own ones; by default MultiOrganSeg's.
        custom_organs: By organ key, organs of the table that the catalogue does not know.

    Raises:
        TrainingError: The folder is in use, or the modality unknown.
        OrganError: The catalogue lacks an organ, or an own one is not valid.
        ResourceError: The folder cannot be written.
    """
    matrix = LabelStatusMatrix(table.keys)
    own = custom_organs or {}
    matrix.check_organs(with_custom_organs(catalogue or load_catalogue(), own))
    with new_folder(folder) as new:
        project = Project(new, name, table, {}, matrix, modality, custom_organs=own)
        save_project(project)
    return replace(project, folder=folder)
