"""All result files of one case."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from multiorganseg.errors import ResourceError
from multiorganseg.organs.catalogue import Catalogue, load_catalogue
from multiorganseg.outputs import keep, require_free, require_own
from multiorganseg.pictures import drawn
from multiorganseg.privacy import no_more_readable_than
from multiorganseg.results.dicom_report import write_dicom_report
from multiorganseg.results.dicom_seg import write_dicom_seg
from multiorganseg.results.nifti import TABLE_SUFFIX, label_table_path, write_nifti
from multiorganseg.results.preview import write_preview
from multiorganseg.results.rtstruct import write_rtstruct
from multiorganseg.results.seg_nrrd import write_seg_nrrd
from multiorganseg.results.segmentation import Segmentation
from multiorganseg.results.tables import statistics_rows, write_csv, write_json
from multiorganseg.volumes.names import case_name, volume_suffix
from multiorganseg.volumes.nifti import read_nifti_qform
from multiorganseg.volumes.volume import Affine, Volume
from multiorganseg.volumes.write import write_volume

FOLDER_SUFFIXES = {
    "seg.nrrd": ".seg.nrrd",
    "nii.gz": ".seg.nii.gz",
    "dcm": ".seg.dcm",
    "sr": ".sr.dcm",
    "rtstruct": ".rtstruct.dcm",
    "csv": ".statistics.csv",
    "json": ".statistics.json",
    "uncertainty": ".uncertainty.nii.gz",
    "png": ".preview.png",
}
DICOM_FORMATS = frozenset({"dcm", "sr", "rtstruct"})
"""Objects that refer to the slices of a DICOM series; a report ("sr") always comes with its segmentation."""

LONGEST_NAME = 255
"""Bytes of a file name on the file systems in use."""

FORMATS = frozenset(FOLDER_SUFFIXES) - {"png", "uncertainty"}
FILE_SUFFIXES = {".seg.nrrd": "seg.nrrd", ".nii.gz": "nii.gz", ".seg.nii.gz": "nii.gz", ".dcm": "dcm"}


@dataclass(frozen=True)
class OutputPlan:
    """Where each format of one case goes.

    Attributes:
        paths: File by format, those of `FORMATS`, "png" and "uncertainty".
    """

    paths: dict[str, Path]


def plan_outputs(
    out: Path, source: str, *, formats: AbstractSet[str], preview: bool, uncertainty: bool = False
) -> OutputPlan:
    """Name the result files of one case.

    A path that ends in `.seg.nrrd`, `.nii.gz` or `.dcm` names that file itself, and the others take its
    stem; any other path is a folder, and the stem is the input's name.

    Args:
        out: Folder, or file with a known suffix.
        source: Input file or DICOM folder (`Volume.source`).
        formats: Some of `FORMATS`.
        preview: Whether a preview picture is wanted.
        uncertainty: Whether there is a map of the uncertainty.

    Raises:
        ResourceError: A format is unknown or not writable, a result would replace the input or a file of
            another program, or the name of a file would be too long.
    """
    unknown = sorted(set(formats) - FORMATS)
    if unknown:
        msg = f"Unknown output format: {', '.join(unknown)}."
        raise ResourceError(
            msg,
            next_step=f"Choose among: {', '.join(sorted(FORMATS))}.",
        )
    wanted = {*formats, *(["png"] if preview else []), *(["uncertainty"] if uncertainty else [])}
    wanted |= {"dcm"} if "sr" in wanted else set()
    out = Path(out)
    suffix = volume_suffix(out.name).lower()
    if not suffix or out.is_dir():
        stem = case_name(Path(source).name) or "segmentation"
        paths = {kind: out / (stem + FOLDER_SUFFIXES[kind]) for kind in wanted}
    elif suffix not in FILE_SUFFIXES:
        msg = f"Segmentations are not written as {suffix}: {out}"
        raise ResourceError(
            msg,
            next_step=f"Name a folder, or a file that ends in {', '.join(FILE_SUFFIXES)}.",
        )
    else:
        kind_of_out = FILE_SUFFIXES[suffix]
        stem = case_name(out.name)
        paths = {kind: out.with_name(stem + FOLDER_SUFFIXES[kind]) for kind in wanted | {kind_of_out}}
        paths[kind_of_out] = out
    files = {path: FOLDER_SUFFIXES[kind] for kind, path in paths.items()}
    if "nii.gz" in paths:
        files[label_table_path(paths["nii.gz"])] = TABLE_SUFFIX
    _refuse_long_names(files)
    with keep([Path(source)] if source else []):
        for file, kind_suffix in files.items():
            require_free(file)
            require_own(file, kind_suffix)
    return OutputPlan({kind: paths[kind] for kind in FOLDER_SUFFIXES if kind in paths})


def write_results(
    segmentation: Segmentation,
    volume: Volume,
    out: Path,
    *,
    formats: AbstractSet[str],
    preview: bool,
    dicom_files: Sequence[Path] | None = None,
    modality: str = "CT",
    catalogue: Catalogue | None = None,
    series_uids: Mapping[str, str] | None = None,
) -> list[Path]:
    """Write the result files of one case, each at once or not at all, and none more readable than the input.

    Args:
        segmentation: Labels on the volume's grid; its map of the uncertainty, if any, becomes a file too.
        volume: The input; its `source` names the files.
        out: See `plan_outputs`.
        formats: Some of `FORMATS`.
        preview: Whether to draw the preview picture.
        dicom_files: Slices of the input when it was a DICOM series; needed for `DICOM_FORMATS`.
        modality: Of the input; decides the preview's window and the name of the mean's column.
        catalogue: Names, codes and colours; by default the one that comes with the package.
        series_uids: Series Instance UID by DICOM format; new ones where it says nothing.

    Returns:
        The files written, the label table included.

    Raises:
        DependencyError: A DICOM format is asked for and highdicom or contourpy is not installed.
        OrganError: The label table names an organ that the catalogue lacks.
        ResourceError: A file cannot be written, or as `plan_outputs`.
        VolumeError: A format cannot hold this segmentation, or a DICOM format lacks its source slices.
    """
    has_uncertainty = segmentation.uncertainty is not None
    paths = plan_outputs(
        out, volume.source, formats=formats, preview=preview, uncertainty=has_uncertainty
    ).paths
    if DICOM_FORMATS & set(paths) and not dicom_files:
        msg = "DICOM results need a DICOM series as input."
        raise ResourceError(
            msg,
            cause=f"{volume.source} is none.",
            next_step="Write .seg.nrrd or .nii.gz, or segment the DICOM folder.",
        )
    catalogue = catalogue or load_catalogue()
    inputs = [*([Path(volume.source)] if volume.source else []), *(dicom_files or ())]
    with no_more_readable_than(*inputs):
        written = _write_all(segmentation, volume, paths, catalogue, modality)
        uids = series_uids or {}
        return written + _write_dicom(segmentation, paths, catalogue, dicom_files or (), modality, uids)


def _write_all(
    segmentation: Segmentation,
    volume: Volume,
    paths: dict[str, Path],
    catalogue: Catalogue,
    modality: str,
) -> list[Path]:
    qform = _qform_of_input(Path(volume.source))
    written: list[Path] = []
    if "seg.nrrd" in paths:
        write_seg_nrrd(segmentation, paths["seg.nrrd"], catalogue)
        written.append(paths["seg.nrrd"])
    if "nii.gz" in paths:
        written += write_nifti(segmentation, paths["nii.gz"], catalogue, qform=qform)
    rows = statistics_rows(segmentation, catalogue, modality=modality)
    if "csv" in paths:
        write_csv(rows, paths["csv"])
        written.append(paths["csv"])
    if "json" in paths:
        write_json(rows, segmentation, paths["json"])
        written.append(paths["json"])
    if (uncertainty := segmentation.uncertainty) is not None:
        write_volume(Volume(uncertainty, segmentation.affine), paths["uncertainty"], qform=qform)
        written.append(paths["uncertainty"])
    if "png" in paths:
        draw = partial(write_preview, segmentation, volume, paths["png"], catalogue, modality=modality)
        if drawn("The preview", draw):
            written.append(paths["png"])
    return written


def _write_dicom(
    segmentation: Segmentation,
    paths: dict[str, Path],
    catalogue: Catalogue,
    dicom_files: Sequence[Path],
    modality: str,
    uids: Mapping[str, str],
) -> list[Path]:
    if "dcm" in paths:
        uid = uids.get("dcm", "")
        write_dicom_seg(segmentation, paths["dcm"], catalogue, dicom_files, series_uid=uid)
    if "sr" in paths:
        write_dicom_report(
            segmentation,
            paths["sr"],
            catalogue,
            dicom_files,
            paths["dcm"],
            modality=modality,
            series_uid=uids.get("sr", ""),
        )
    if "rtstruct" in paths:
        uid = uids.get("rtstruct", "")
        write_rtstruct(segmentation, paths["rtstruct"], catalogue, dicom_files, series_uid=uid)
    return [paths[kind] for kind in paths if kind in DICOM_FORMATS]


def _qform_of_input(source: Path) -> Affine | None:
    """Return the qform by which other programs place the input, so that they place the result alike."""
    is_nifti = source.name.lower().endswith((".nii", ".nii.gz")) and source.is_file()
    return read_nifti_qform(source) if is_nifti else None


def _refuse_long_names(paths: Iterable[Path]) -> None:
    for path in paths:
        length = len(os.fsencode(path.name))
        if length > LONGEST_NAME:
            msg = f"The name of a result would be too long: {path.name}"
            raise ResourceError(
                msg,
                cause=f"It has {length} bytes; file systems allow {LONGEST_NAME}.",
                next_step="Rename the input, or name the result: -o NAME.seg.nrrd",
            )
