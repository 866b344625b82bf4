"""Read a folder of DICOM SEG and the series that they refer to as a dataset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from multiorganseg.errors import TrainingError, VolumeError
from multiorganseg.organs.catalogue import Catalogue, load_catalogue
from multiorganseg.privacy import no_more_readable_than
from multiorganseg.progress import Progress
from multiorganseg.projects.matrix import LabelStatus, LabelStatusMatrix
from multiorganseg.volumes.check import compact
from multiorganseg.volumes.dicom_header import LeftOut, Why
from multiorganseg.volumes.dicom_scan import SeriesInfo, files_below, scan_series
from multiorganseg.volumes.names import case_name
from multiorganseg.volumes.read import read_dicom_series
from multiorganseg.volumes.volume import Volume
from multiorganseg.volumes.write import write_volume
from multiorganseg_training.project.dataset import Dataset, DatasetCase, modality_of
from multiorganseg_training.project.dicom_seg import (
    DicomSegment,
    SegmentCodes,
    damage_as_typed,
    described,
    read_seg,
    referenced_series,
    segment_masks,
    segments,
)

if TYPE_CHECKING:
    import pydicom


Found = list[tuple[Path, "pydicom.Dataset", SeriesInfo]]


def read_dicom_seg(
    folder: Path,
    work: Path | None,
    *,
    modality: str | None = None,
    catalogue: Catalogue | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """Read every DICOM SEG below a folder, each with the series it refers to, as one case.

    A segment is annotated in the case of its file and unknown in the others. Segments are named by organ keys
    where category, type, modifiers and region are those of organs of the catalogue, else by their labels;
    where one label has several codes, by the label with the codes in words.

    Args:
        folder: Holds the DICOM SEG and their series, in any arrangement.
        work: Empty folder into which images and label maps are written; None to read descriptions alone, and
            then the paths of the cases are those that would be written.
        modality: "CT" or "MR"; None to take that of the series.
        catalogue: By default MultiOrganSeg's own.
        progress: Reports once a case.

    Raises:
        TrainingError: There is no DICOM SEG, or two for one series.
        VolumeError: A series is missing or damaged, segments overlap, or a frame lies on no slice.
        DependencyError: pydicom is not installed.
        ResourceError: `work` cannot be written.
    """
    catalogue, progress = catalogue or load_catalogue(), progress or Progress()
    found = _pairs(folder)
    names = _case_names([path for path, _, _ in found])
    listed = _listed(found, catalogue)
    known = tuple(dict.fromkeys(each.name for entries in listed.values() for each in entries))
    values = {name: value for value, name in enumerate(known, start=1)}
    base = work or folder
    cases, rows = [], {}
    for number, ((path, seg, series), name) in enumerate(zip(found, names, strict=True)):
        progress("reading DICOM", number / len(found))
        case = DatasetCase(name, base / "images" / f"{name}.nii.gz", base / "labels" / f"{name}.nii.gz")
        rows[name] = {each.name: LabelStatus.ANNOTATED for each in listed[path]}
        cases.append(case)
        if work is not None and case.labels is not None:
            image = read_dicom_series(series, str(series.files[0].parent))
            numbers = {each.number: values[each.name] for each in listed[path]}
            with damage_as_typed(path):
                labels = _labels(path, seg, image, numbers)
            with no_more_readable_than(path, *series.files):
                write_volume(Volume(compact(image.voxels), image.affine), case.image)
                write_volume(labels, case.labels)
    return Dataset(
        name=folder.resolve().name,
        modality=modality_of(found[0][2].modality, modality),
        labels={value: name for name, value in values.items()},
        cases=tuple(cases),
        status=LabelStatusMatrix(known, rows),
    )


def has_dicom_seg(folder: Path) -> bool:
    """Whether there is a DICOM SEG below a folder."""
    found, left_out = scan_series(files_below(folder))
    return bool(_seg_files(found, left_out))


def _pairs(folder: Path) -> Found:
    scanned, left_out = scan_series(files_below(folder))
    series = {info.uid: info for info in scanned if info.is_image}
    found: Found = []
    for path in _seg_files(scanned, left_out):
        seg = read_seg(path)
        with damage_as_typed(path):
            uid = referenced_series(seg)
        if uid not in series:
            msg = f"The series of {path.name} is not in {folder}."
            raise VolumeError(
                msg,
                cause=f"It refers to the series {uid or 'of no name'}.",
                next_step="Put the images that were segmented into the folder too.",
            )
        found.append((path, seg, series[uid]))
    if not found:
        msg = f"{folder} holds no DICOM SEG."
        raise TrainingError(msg, next_step="Name the folder with the segmentations and their images.")
    used = [info.uid for _, _, info in found]
    doubled = [path.name for path, _, info in found if used.count(info.uid) > 1]
    if doubled:
        msg = "Several DICOM SEG refer to one series."
        raise TrainingError(
            msg, cause=f"Files: {', '.join(doubled[:10])}.", next_step="Keep one of them in the folder."
        )
    return found


def _seg_files(found: Sequence[SeriesInfo], left_out: Sequence[LeftOut]) -> list[Path]:
    """List the DICOM SEG, those without pixels too."""
    whole = [file for info in found if info.modality == "SEG" for file in info.files]
    empty = [entry.file for entry in left_out if entry.why is Why.IMAGELESS and entry.detail == "SEG"]
    return sorted([*whole, *empty])


def _listed(found: Found, catalogue: Catalogue) -> dict[Path, list[DicomSegment]]:
    """List the segments of each file; structures of several codes under one name get names of their own."""
    listed: dict[Path, list[DicomSegment]] = {}
    for path, seg, _ in found:
        with damage_as_typed(path):
            listed[path] = segments(seg, catalogue)
    codes: dict[str, set[SegmentCodes | None]] = {}
    for each in (each for entries in listed.values() for each in entries):
        codes.setdefault(each.name, set()).add(each.codes)
    return {
        path: [
            replace(each, name=described(each.name, each.codes))
            if each.codes and len(codes[each.name]) > 1
            else each
            for each in entries
        ]
        for path, entries in listed.items()
    }


def _case_names(paths: list[Path]) -> list[str]:
    """Name cases by their files, else by their folders, else by numbers, whichever tells them apart."""
    stems = [case_name(path.name).removesuffix(".seg") for path in paths]
    for names in (stems, [path.parent.name for path in paths]):
        if len({name.casefold() for name in names}) == len(names):
            return names
    return [f"case_{number}" for number in range(1, len(paths) + 1)]


def _labels(path: Path, seg: pydicom.Dataset, image: Volume, values: dict[int, int]) -> Volume:
    labels = np.zeros(image.voxels.shape, np.uint16)
    for number, mask in segment_masks(seg, image.grid, path).items():
        taken = labels[mask]
        if (taken[taken > 0] != values[number]).any():
            msg = f"Segments of {path.name} overlap."
            raise VolumeError(
                msg,
                cause="A label map has one organ a voxel.",
                next_step="Take one of them out, or erase where they overlap, and export it again.",
            )
        labels[mask] = values[number]
    return Volume(labels, image.affine, str(path))
