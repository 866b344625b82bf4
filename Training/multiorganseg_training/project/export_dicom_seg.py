"""Export the annotations of a project as DICOM SEG objects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from multiorganseg.errors import TrainingError
from multiorganseg.geometry.orient import Reorient, reorient
from multiorganseg.metrics.compare import SAME_GRID_MM
from multiorganseg.organs.labels import LabelTable
from multiorganseg.privacy import no_more_readable_than
from multiorganseg.progress import Progress
from multiorganseg.projects.matrix import LabelStatus
from multiorganseg.projects.project import Project
from multiorganseg.results.dicom_seg import write_dicom_seg
from multiorganseg.results.segmentation import Segmentation
from multiorganseg.volumes.dicom_series import find_dicom_series, series_files
from multiorganseg.volumes.read import read_dicom_series, read_labels, read_volume
from multiorganseg.volumes.volume import Volume
from multiorganseg_training.project.add_case import digest
from multiorganseg_training.project.create import new_folder
from multiorganseg_training.project.labels import relabel
from multiorganseg_training.project.organs import project_catalogue


@dataclass(frozen=True)
class DicomSegReport:
    """What an export wrote.

    Attributes:
        cases: Names of the cases written.
        skipped: By case name, why it was left out.
    """

    cases: tuple[str, ...]
    skipped: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class _Series:
    files: tuple[Path, ...]
    turn: Reorient
    affine: NDArray[np.float64]
    digest: str


def export_dicom_seg(
    project: Project, target: Path, dicom: Path, progress: Progress | None = None
) -> DicomSegReport:
    """Write one DICOM SEG for each case with an annotation whose series is found.

    A DICOM SEG refers to the images it was drawn on. A case's series is that with the very voxels of its
    image at the very place, in whichever order of the axes. Pseudo-labels are left out.

    Args:
        project: What to export.
        target: New folder; it appears complete or not at all.
        dicom: Folder below which the original series lie.
        progress: Reports once a series and once a case.

    Raises:
        TrainingError: No case is left, or the target exists.
        VolumeError: An image of the project cannot be read, or the series has files that cannot be used.
        DependencyError: highdicom is not installed.
        ResourceError: The folder cannot be written.
    """
    progress, catalogue = progress or Progress(), project_catalogue(project)
    found = _series_below(dicom, progress)
    written, skipped = [], {}
    with new_folder(target) as folder:
        for number, case in enumerate(project.cases):
            progress("exporting", number / len(project.cases))
            keys = project.matrix.organs_with(case, LabelStatus.ANNOTATED)
            labels = _annotated(project, case, keys)
            if labels is None:
                skipped[case] = "Nothing is annotated."
                continue
            series = _series_of(read_volume(project.image_path(case)), found)
            if series is None:
                skipped[case] = "Its images are not among the DICOM series."
                continue
            turned = series.turn.invert(reorient(labels.grid).apply(labels.voxels))
            table = LabelTable({v: key for v, key in project.table.organs.items() if key in keys})
            path = folder / f"{case}.dcm"
            drawn = np.ascontiguousarray(turned)
            made = Segmentation(drawn, series.affine, table, authors=project.authors(case))
            with no_more_readable_than(project.image_path(case), *series.files):
                write_dicom_seg(made, path, catalogue, series.files)
            written.append(case)
        if not written:
            msg = "No case is left to export."
            raise TrainingError(
                msg,
                cause=" ".join(dict.fromkeys(skipped.values())),
                next_step="Name the folder with the DICOM series that the project's images come from.",
            )
    progress("exporting", 1.0)
    return DicomSegReport(tuple(written), skipped)


def _annotated(project: Project, case: str, keys: frozenset[str]) -> Volume | None:
    path = project.labels_path(case)
    if path is None or not keys:
        return None
    labels = read_labels(path)
    values = {value: value if key in keys else 0 for value, key in project.table.organs.items()}
    voxels = relabel(labels.voxels, values, path)
    return Volume(voxels, labels.affine) if voxels.any() else None


def _series_below(folder: Path, progress: Progress) -> list[_Series]:
    infos = [info for info in find_dicom_series(folder) if info.modality in ("CT", "MR")]
    found = []
    for number, info in enumerate(infos):
        progress("reading DICOM", number / len(infos))
        volume = read_dicom_series(info, str(info.files[0].parent))
        turn = reorient(volume.grid)
        found.append(_Series(series_files(info), turn, volume.affine, digest(turn.apply(volume.voxels))))
    return found


def _series_of(image: Volume, found: list[_Series]) -> _Series | None:
    turn = reorient(image.grid)
    wanted = digest(turn.apply(image.voxels))
    for series in found:
        if series.digest == wanted and series.turn.target.same_as(turn.target, SAME_GRID_MM):
            return series
    return None
