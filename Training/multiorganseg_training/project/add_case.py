"""Add a case to a project, and say what is known of its organs."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from multiorganseg.bundles.safe_names import clashes
from multiorganseg.errors import TrainingError, VolumeError
from multiorganseg.geometry.orient import reorient
from multiorganseg.organs.labels import LabelTable
from multiorganseg.projects.file import load_project, project_lock, save_project
from multiorganseg.projects.matrix import KNOWN, LabelStatus
from multiorganseg.projects.project import Project
from multiorganseg.volumes.check import compact
from multiorganseg.volumes.dicom_series import is_dicom
from multiorganseg.volumes.names import DICOM_SUFFIXES, volume_suffix
from multiorganseg.volumes.read import read_labels, read_volume
from multiorganseg.volumes.volume import Volume
from multiorganseg.volumes.write import write_volume
from multiorganseg_training.project.case_files import (
    file_grid,
    kept_private,
    on_image_grid,
    place_image,
    project_case,
)
from multiorganseg_training.project.labels import count_values, label_array, relabel, require_voxels
from multiorganseg_training.project.patients import patient_code, patient_in, with_key


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


def digest(voxels: NDArray) -> str:
    """Hash of the values of an array, whatever its type."""
    return hashlib.sha256(np.ascontiguousarray(voxels, dtype=np.float32).tobytes()).hexdigest()


def doubled_images(project: Project, cases: Iterable[str]) -> dict[str, list[str]]:
    """Find images that have the very voxels of an earlier one, in whichever order of the axes.

    Only images of the same size are read. One that cannot be read is like no other: whether it may be in the
    project is not judged here.

    Args:
        project: Where to look.
        cases: Names of the cases in question.

    Returns:
        By case in question, the cases before it whose images have the same voxels.
    """
    paths = {case: project.image_path(case) for case in project.cases}
    sizes = {case: _size_of(path) for case, path in paths.items()}
    digest_of = cache(_digest_of)
    order, found = list(paths), {}
    for case in cases:
        earlier = order[: order.index(case)]
        alike = [other for other in earlier if sizes[case] is not None and sizes[other] == sizes[case]]
        twins = [other for other in alike if digest_of(paths[other]) == digest_of(paths[case]) is not None]
        if twins:
            found[case] = twins
    return found


def _size_of(path: Path) -> tuple[int, ...] | None:
    try:
        return reorient(file_grid(path)).target.shape
    except VolumeError:
        return None


def _digest_of(path: Path) -> tuple[tuple[int, ...], str] | None:
    try:
        volume = read_volume(path)
    except VolumeError:
        return None
    turn = reorient(volume.grid)
    return turn.target.shape, digest(turn.apply(volume.voxels))


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
    patient: str = "",
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
        patient: Code of the patient; for DICOM one is made of what the image says (see `patient_code`).

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
        if not patient and picture is not image and isinstance(image, Path) and _is_dicom(image):
            project = with_key(project)
            patient = patient_code(patient_in(image), project.patient_key)
        entry = replace(entry, patient=patient)
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
    return _is_dicom(image) or volume_suffix(image.name).lower() in (".nhdr", ".mhd")


def _is_dicom(image: Path) -> bool:
    suffix = volume_suffix(image.name).lower()
    return image.is_dir() or suffix in DICOM_SUFFIXES or (not suffix and image.is_file() and is_dicom(image))


def _refuse_taken(project: Project, name: str) -> None:
    previous = [case for case in project.cases if clashes([case, name])]
    if previous:
        msg = f"The project has a case '{previous[0]}' already."
        raise TrainingError(
            msg,
            cause="" if previous[0] == name else f"'{name}' differs from it in upper and lower case alone.",
            next_step="Choose another name: --name",
        )
