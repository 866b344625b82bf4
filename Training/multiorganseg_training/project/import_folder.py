"""Import a data folder as a project."""

from __future__ import annotations

from pathlib import Path

from multiorganseg.organs.catalogue import load_catalogue
from multiorganseg.organs.labels import LabelTable
from multiorganseg.progress import Progress
from multiorganseg_training.project.import_dataset import import_dataset
from multiorganseg_training.project.matrix import LabelStatusMatrix
from multiorganseg_training.project.project import Project
from multiorganseg_training.project.read_folder import read_folder


def import_folder(
    folder: Path,
    target: Path,
    table: LabelTable,
    *,
    modality: str = "CT",
    name: str = "",
    status: LabelStatusMatrix | None = None,
    hardlink: bool = False,
    progress: Progress | None = None,
) -> Project:
    """Import `images/` and `labels/` and keep the label values; see `read_folder` and `import_dataset`."""
    LabelStatusMatrix(table.keys).check_organs(load_catalogue())
    dataset = read_folder(folder, table, modality=modality, status=status)
    return import_dataset(dataset, target, {}, name=name, table=table, hardlink=hardlink, progress=progress)
