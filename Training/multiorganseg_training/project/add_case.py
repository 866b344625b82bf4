"""Add a case to a project."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from multiorganseg.bundles.safe_names import clashes
from multiorganseg.errors import TrainingError
from multiorganseg.organs.labels import LabelTable
from multiorganseg.volumes.check import compact
from multiorganseg.volumes.dicom_series import is_dicom
from multiorganseg.volumes.names import DICOM_SUFFIXES, volume_suffix
from multiorganseg.volumes.read import read_labels, read_volume
from multiorganseg.volumes.volume import Volume
from multiorganseg.volumes.write import write_volume
from multiorganseg_training.project.case_files import file_grid, kept_private, place_image, project_case
from multiorganseg_training.project.grids import on_image_grid
from multiorganseg_training.project.lock import project_lock
from multiorganseg_training.project.project import Project
from multiorganseg_training.project.project_json import load_project, save_project
from multiorganseg_training.project.relabel import count_values, label_array, relabel
from multiorganseg_training.project.status import LabelStatus
from multiorganseg_training.project.voxel_status import require_voxels

CONVERTED = Path("image.nii.gz")
"""Suffix of images that come from DICOM, from two files or from memory."""


def add_case(
    folder: Path,
    name: str,
    image: Path | Volume,
    labels: Path | Volume | None = None,
    status: Mapping[str, LabelStatus] | None = None,
    *,
    table: LabelTable | None = None,
) -> Project:
    """Copy a case into a project and save the project.

    The files are written first, each at once or not at all, and `project.json` last: a program that is killed
    in between leaves the project as it was. Files are copied byte by byte; DICOM, .nhdr and .mhd become
    .nii.gz.

    Args:
        folder: Of the project.
        name: Of the case.
        image: Its image: a file, a folder with a DICOM series, or a volume.
        labels: Its label map; see `on_image_grid`.
        status: What is known of its organs; what is left out is unknown.
        table: Meaning of the label values; by default the project's label table.

    Returns:
        The project with the case.

    Raises:
        TrainingError: The name is taken or not safe as that of a file, the grids differ, a label value has no
            meaning, a status contradicts the voxels or needs a label file, or the project is in use.
        OrganError: The project lacks an organ of `table`.
        VolumeError: A file is missing or damaged.
        ResourceError: The project cannot be written.
    """
    picture = read_volume(image) if isinstance(image, Path) and _is_converted(image) else image
    file = picture if isinstance(picture, Path) else CONVERTED
    entry = project_case(name, file, labelled=labels is not None)
    drawn = read_labels(labels) if isinstance(labels, Path) else labels
    grid = file_grid(picture) if isinstance(picture, Path) else picture.grid
    if drawn is not None:
        drawn = on_image_grid(name, grid, drawn)
    with project_lock(folder):
        project = load_project(folder)
        _refuse_taken(project, name)
        matrix = project.matrix.with_case(name, status)
        extended = replace(project, cases={**project.cases, name: entry}, matrix=matrix)
        if drawn is not None and entry.labels is not None:
            values = {
                value: project.table.value(key) for value, key in (table or project.table).organs.items()
            }
            source = Path(drawn.source or "The label map")
            voxels = relabel(label_array(drawn.voxels), values, source)
            require_voxels(extended, name, count_values(voxels))
            with kept_private(folder / entry.labels, *_files(image, labels)):
                write_volume(Volume(voxels, drawn.affine), folder / entry.labels)
        if isinstance(picture, Path):
            place_image(picture, folder / entry.image)
        else:
            with kept_private(folder / entry.image, *_files(image)):
                write_volume(replace(picture, voxels=compact(picture.voxels)), folder / entry.image)
        save_project(extended)
    return extended


def _files(*given: Path | Volume | None) -> list[Path]:
    return [each for each in given if isinstance(each, Path)]


def _is_converted(image: Path) -> bool:
    suffix = volume_suffix(image.name).lower()
    return (
        image.is_dir()
        or suffix in (".nhdr", ".mhd", *DICOM_SUFFIXES)
        or (not suffix and image.is_file() and is_dicom(image))
    )


def _refuse_taken(project: Project, name: str) -> None:
    former = [case for case in project.cases if clashes([case, name])]
    if former:
        msg = f"The project has a case '{former[0]}' already."
        raise TrainingError(
            msg,
            cause="" if former[0] == name else f"'{name}' differs from it in upper and lower case alone.",
            next_step="Choose another name: --name",
        )
