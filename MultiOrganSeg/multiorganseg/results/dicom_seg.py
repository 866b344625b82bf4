"""Segmentations as DICOM SEG objects that refer to the slices they were made from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from multiorganseg import __version__
from multiorganseg.atomic import atomic_path
from multiorganseg.errors import DependencyError, VolumeError
from multiorganseg.organs.catalogue import Catalogue, Code
from multiorganseg.privacy import without_input
from multiorganseg.results.dicom_identity import leave_out_identity
from multiorganseg.results.segmentation import Segmentation
from multiorganseg.results.segments import Segment, model_title, present_values, segments_of
from multiorganseg.volumes.volume import Grid

if TYPE_CHECKING:
    from pydicom import Dataset

POSITION_TOLERANCE = 0.25
SERIES_NUMBER = 9001
LONGEST_LO = 64
LONGEST_LT = 10240


def write_dicom_seg(
    segmentation: Segmentation,
    path: Path,
    catalogue: Catalogue,
    dicom_files: Sequence[Path],
    drawn: bool = False,
) -> None:
    """Write a DICOM SEG of type BINARY with one segment for each organ that was found.

    BINARY is what PACS and viewers read today; LABELMAP is newer than most of them. Frames without labels
    are left out. An organ without codes in the catalogue gets the category and type "Tissue"
    (SCT 85756007, of DICOM context group 7150); its segment label still says its name. The provenance
    stands as JSON in AlgorithmParameters of each segment, without the input's name and without messages, in
    which it may stand. Of the patient and the study it says what DICOM requires. What people drew is MANUAL
    and names no algorithm.

    Args:
        segmentation: Labels on the grid of the series.
        path: The file, usually `.dcm`.
        catalogue: Gives names, codes and colours.
        dicom_files: Slices of the series in any order; they are matched to the grid by
            ImagePositionPatient, so that flipped stacks and a tilted gantry come out right. Files that lie
            on no slice of the grid, and doubles of a slice, are left aside.
        drawn: Whether people drew the labels.

    Raises:
        DependencyError: highdicom is not installed.
        OrganError: The table names an organ that the catalogue lacks.
        ResourceError: The file cannot be written.
        VolumeError: The files are not the series of this grid, or no organ was found.
    """
    try:
        import highdicom
    except ImportError as error:
        msg = "DICOM SEG needs the package highdicom."
        raise DependencyError(
            msg,
            cause=str(error),
            next_step="Install it: pip install 'multiorganseg[dicom]'",
        ) from error
    present = present_values(segmentation.labels)
    segments = [segment for segment in segments_of(segmentation, catalogue) if segment.value in present]
    if not segments:
        msg = f"No DICOM SEG was written to {path}."
        raise VolumeError(
            msg,
            cause="No organ was found, and a DICOM SEG must hold at least one segment.",
            next_step="Look at the statistics table and check that the series shows these organs.",
        )
    sources = match_slices(segmentation.grid, dicom_files)
    numbers = np.zeros(65536, dtype=np.uint8 if len(segments) < 256 else np.uint16)
    for number, segment in enumerate(segments, start=1):
        numbers[segment.value] = number
    algorithm = None if drawn else _algorithm(segmentation)
    result = highdicom.seg.Segmentation(
        source_images=sources,
        pixel_array=numbers[segmentation.labels],
        segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[
            _description(number, segment, algorithm) for number, segment in enumerate(segments, start=1)
        ],
        series_instance_uid=highdicom.UID(),
        series_number=SERIES_NUMBER,
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        manufacturer="MultiOrganSeg",
        manufacturer_model_name=(model_title(segmentation.provenance) or "MultiOrganSeg")[:LONGEST_LO],
        software_versions=__version__,
        device_serial_number=__version__,
        content_description="Organs annotated by people" if drawn else "Organs segmented automatically",
        content_label="MULTIORGANSEG",
        omit_empty_frames=True,
    )
    result.SeriesDescription = f"MultiOrganSeg {'annotation' if drawn else 'segmentation'}"
    leave_out_identity(result, sources[0])
    with atomic_path(path) as partial:
        result.save_as(partial)


def match_slices(grid: Grid, dicom_files: Sequence[Path]) -> list[Dataset]:
    """Read the headers of a series and bring them into the order of the grid's slices.

    Args:
        grid: Of the volume that was read from the series.
        dicom_files: Its files, in any order.

    Returns:
        One header for each slice k = 0, 1, …

    Raises:
        DependencyError: pydicom is not installed.
        VolumeError: A slice of the grid has no file, or rows and columns lie elsewhere.
    """
    try:
        import pydicom
        from pydicom.errors import InvalidDicomError
    except ImportError as error:
        msg = "DICOM SEG needs the package pydicom."
        raise DependencyError(
            msg,
            cause=str(error),
            next_step="Install it: pip install 'multiorganseg[dicom]'",
        ) from error
    slices: dict[int, Dataset] = {}
    for file in dicom_files:
        try:
            header = pydicom.dcmread(file, stop_before_pixels=True)
        except (InvalidDicomError, OSError) as error:
            msg = f"{file} cannot be read as DICOM."
            raise VolumeError(
                msg,
                cause=str(error),
                next_step="Give the files of the segmented series alone.",
            ) from error
        k = _slice_of(grid, header)
        if k is not None:
            slices.setdefault(k, header)
    missing = [k for k in range(grid.shape[0]) if k not in slices]
    if missing:
        msg = "The DICOM files do not match the segmented volume."
        raise VolumeError(
            msg,
            cause=f"{len(missing)} of {grid.shape[0]} slices have no file, first slice {missing[0]}.",
            next_step="Give the unchanged files of the very series that was segmented; enhanced multi-frame "
            "files are not supported: write .seg.nrrd instead.",
        )
    return [slices[k] for k in range(grid.shape[0])]


def _slice_of(grid: Grid, header: Dataset) -> int | None:
    """Slice index k of a file, or None when its pixels do not lie on a slice of the grid."""
    needed = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns")
    if any(header.get(name) is None for name in needed):
        return None
    if (header.Rows, header.Columns) != grid.shape[1:]:
        return None
    rows, columns = header.Rows - 1, header.Columns - 1
    position = np.array(header.ImagePositionPatient, dtype=float)
    along_row, along_column = np.array(header.ImageOrientationPatient, dtype=float).reshape(2, 3)
    row_step, column_step = (float(step) for step in header.PixelSpacing)
    opposite = position + along_row * column_step * columns + along_column * row_step * rows
    corners = grid.to_index(np.stack([position, opposite]))
    k = round(float(corners[0, 0]))
    on_slice = np.abs(corners - [[k, 0, 0], [k, rows, columns]]).max() <= POSITION_TOLERANCE
    return k if on_slice and 0 <= k < grid.shape[0] else None


def _algorithm(segmentation: Segmentation) -> Any:
    import highdicom

    return highdicom.AlgorithmIdentificationSequence(
        name="MultiOrganSeg",
        family=highdicom.sr.CodedConcept("123109", "DCM", "Artificial Intelligence"),
        version=__version__,
        source=model_title(segmentation.provenance)[:LONGEST_LO] or None,
        parameters=_parameters(segmentation),
    )


def _description(number: int, segment: Segment, algorithm: Any) -> Any:
    import highdicom

    described = highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=segment.organ.name[:LONGEST_LO],
        segmented_property_category=_concept(segment.category),
        segmented_property_type=_concept(segment.type),
        algorithm_type="AUTOMATIC" if algorithm else "MANUAL",
        algorithm_identification=algorithm,
        tracking_id=f"MultiOrganSeg {segment.organ.key}"[:LONGEST_LO],
        tracking_uid=highdicom.UID(),
        display_color=highdicom.color.CIELabColor.from_rgb(*segment.organ.color),
    )
    if segment.modifier:
        described.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [
            _concept(segment.modifier)
        ]
    return described


def _concept(code: Code) -> Any:
    import highdicom

    return highdicom.sr.CodedConcept(code.value, code.scheme, code.meaning[:LONGEST_LO])


def _parameters(segmentation: Segmentation) -> dict[str, str] | None:
    text = json.dumps(without_input(segmentation.provenance, messages=False), ensure_ascii=True)
    return {"provenance": text} if len(text) < LONGEST_LT - len("provenance=") else None
