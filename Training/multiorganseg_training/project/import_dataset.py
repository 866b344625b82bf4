"""Turn a dataset of another tool into a project."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from multiorganseg.organs.catalogue import Catalogue, load_catalogue
from multiorganseg.organs.labels import LabelTable
from multiorganseg.progress import Progress
from multiorganseg_training.project.case_files import check_grids, project_case
from multiorganseg_training.project.dataset import Dataset
from multiorganseg_training.project.import_case import import_case
from multiorganseg_training.project.label_mapping import map_labels
from multiorganseg_training.project.matrix import LabelStatusMatrix
from multiorganseg_training.project.new_folder import new_folder
from multiorganseg_training.project.project import Project
from multiorganseg_training.project.project_json import save_project


def import_dataset(
    dataset: Dataset,
    target: Path,
    rules: Mapping[str, str],
    *,
    name: str = "",
    table: LabelTable | None = None,
    hardlink: bool = False,
    catalogue: Catalogue | None = None,
    progress: Progress | None = None,
) -> Project:
    """Write a dataset as a project; the folder appears complete or not at all.

    Images are copied byte by byte, label files rewritten with the project's values. Every mapped organ is
    annotated in every labelled case, as the dataset claims by its label list, unless the dataset carries a
    label-status matrix. Of organs that are unknown or absent in a case no voxel is taken over.

    Args:
        dataset: What to import.
        target: Folder of the new project.
        rules: See `map_labels`.
        name: Of the project; that of the dataset when empty.
        table: Label values of the project; None to number its organs from 1.
        hardlink: Link images instead of copying them, where the disk allows it. A later change of one file
            then changes both.
        catalogue: Knows the organ keys; by default MultiOrganSeg's own.
        progress: Told once a case.

    Raises:
        TrainingError: The rules do not fit, the target exists, a grid differs, a label value has no meaning,
            or a case has voxels of an ignore label that nothing explains.
        OrganError: A rule's organ is not in the catalogue.
        VolumeError: A file is missing or damaged.
        ResourceError: The project cannot be written.
    """
    progress = progress or Progress()
    organs = map_labels(dataset.labels, rules, catalogue or load_catalogue())
    keys = tuple(dict.fromkeys(key for key in organs.values() if key is not None))
    table = table or LabelTable.numbered(keys)
    progress("checking grids", 0.0)
    check_grids({case.name: (case.image, case.labels) for case in dataset.cases})
    cases, matrix = {}, LabelStatusMatrix(table.keys)
    with new_folder(target) as folder:
        for number, case in enumerate(dataset.cases):
            progress("importing", number / len(dataset.cases))
            entry = project_case(case.name, case.image, labelled=case.labels is not None, source=dataset.name)
            row, _ = import_case(dataset, case, entry, organs, table, folder, hardlink)
            cases[case.name], matrix = entry, matrix.with_case(case.name, row)
        project = Project(
            folder,
            name or dataset.name,
            table,
            cases,
            matrix,
            dataset.modality,
            {dataset.name: dict(dataset.about)},
        )
        save_project(project)
    progress("importing", 1.0)
    return replace(project, folder=target)
