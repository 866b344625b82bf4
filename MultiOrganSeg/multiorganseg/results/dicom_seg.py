"""Segmentations as DICOM SEG objects that refer to the slices they were made from."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from multiorganseg import __version__
from multiorganseg.atomic import atomic_path
from multiorganseg.errors import DependencyError, VolumeError
from multiorganseg.organs.catalogue import Catalogue, Code
from multiorganseg.privacy import silent_dicom_libraries, without_input
from multiorganseg.results.dicom_identity import leave_out_identity
from multiorganseg.results.segmentation import ALGORITHM_NAME, Author, Segmentation
from multiorganseg.results.segments import Segment, model_title, present_values, segments_of
from multiorganseg.volumes.dicom_header import numbers as header_numbers
from multiorganseg.volumes.dicom_header import open_dicom
from multiorganseg.volumes.volume import Grid

if TYPE_CHECKING:
    from pydicom import Dataset

POSITION_TOLERANCE = 0.25
SERIES_NUMBER = 9001
EMPTY_WHERE_MISSING = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
)
"""Attributes of type 2 that a SEG takes over from its series: they must be there, and may be empty."""

LONGEST_LO = 64
LONGEST_LT = 10240


@silent_dicom_libraries()
def write_dicom_seg(
    segmentation: Segmentation,
    path: Path,
    catalogue: Catalogue,
    dicom_files: Sequence[Path],
    *,
    series_uid: str = "",
) -> None:
    """Write a DICOM SEG of type BINARY with one segment for each organ that was found.

    BINARY is what PACS and viewers read today; LABELMAP is newer than most of them. Frames without labels
    are left out. An organ without codes in the catalogue gets the category and type "Tissue"
    (SCT 85756007, of DICOM context group 7150); its segment label still says its name. The provenance
    stands as JSON in AlgorithmParameters of each segment of the network's, without the input's name and
    without messages, in which it may stand. Of the patient and the study it says what DICOM requires;
    attributes that the series lacks and DICOM lets be empty are empty. A structure within an organ names that
    as its anatomic region. What people corrected is SEMIAUTOMATIC; what they drew is MANUAL and names no
    algorithm (`Segmentation.authors`).

    Args:
        segmentation: Labels on the grid of the series.
        path: The file, usually `.dcm`.
        catalogue: Gives names, codes and colours.
        dicom_files: Slices of the series in any order; they are matched to the grid by
            ImagePositionPatient, so that flipped stacks and a tilted gantry come out right. Files that lie
            on no slice of the grid, and doubles of a slice, are left aside.
        series_uid: Of the segmentation's series; a new one when empty.

    Raises:
        DependencyError: highdicom is not installed.
        OrganError: The table names an organ that the catalogue lacks.
        ResourceError: The file cannot be written.
        VolumeError: The files are not the series of this grid, their headers are not valid, or no organ was
            found.
    """
    highdicom = need_highdicom()
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
    algorithm = _algorithm(segmentation)
    drawn = all(segment.author is Author.PEOPLE for segment in segments)
    try:
        result = highdicom.seg.Segmentation(
            source_images=[completed(source, segmentation.grid) for source in sources],
            pixel_array=numbers[segmentation.labels],
            segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=[
                _description(number, segment, algorithm, catalogue)
                for number, segment in enumerate(segments, start=1)
            ],
            series_instance_uid=series_uid or highdicom.UID(),
            series_number=SERIES_NUMBER,
            sop_instance_uid=f"{series_uid}.1" if series_uid else highdicom.UID(),
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
        written = io.BytesIO()
        result.save_as(written)
        written.seek(0)
        highdicom.seg.segread(written)
    except Exception as error:  # highdicom and pydicom let errors of any type escape from invalid headers
        msg = f"No DICOM SEG was written to {path}."
        raise VolumeError(
            msg,
            cause=f"The headers of the series are not valid: {error}",
            next_step="Have them mended, or use .seg.nrrd or .nii.gz, which do not depend on them.",
        ) from error
    with atomic_path(path) as partial:
        partial.write_bytes(written.getbuffer())


def need_highdicom() -> Any:
    """Import highdicom.

    Raises:
        DependencyError: It is not installed.
    """
    try:
        import highdicom
    except ImportError as error:
        msg = "DICOM results need the package highdicom."
        raise DependencyError(
            msg,
            cause=str(error),
            next_step="Install it: pip install 'multiorganseg[dicom]'",
        ) from error
    return highdicom


def completed(source: Dataset, grid: Grid) -> Dataset:
    """Return a header in which what DICOM lets be empty is empty, not missing, and the thickness is known."""
    for name in EMPTY_WHERE_MISSING:
        if name not in source:
            setattr(source, name, "")
    if not source.get("SliceThickness"):
        source.SliceThickness = round(grid.voxel_volume / float(np.prod(grid.spacing[1:])), 6)
    return source


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
    slices: dict[int, Dataset] = {}
    for file in dicom_files:
        try:
            header = open_dicom(file)
        except OSError as error:
            msg = f"{file} cannot be opened."
            raise VolumeError(msg, cause=str(error), next_step="Check that it is still there.") from error
        if header is None:
            msg = f"{file} cannot be read as DICOM."
            raise VolumeError(msg, next_step="Give the files of the segmented series alone.")
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
    position = header_numbers(header, "ImagePositionPatient", 3)
    along_row, along_column = header_numbers(header, "ImageOrientationPatient", 6).reshape(2, 3)
    row_step, column_step = header_numbers(header, "PixelSpacing", 2)
    size = (*header_numbers(header, "Rows", 1), *header_numbers(header, "Columns", 1))
    if size != grid.shape[1:] or not np.isfinite([*position, *along_row, *along_column, row_step]).all():
        return None
    rows, columns = grid.shape[1] - 1, grid.shape[2] - 1
    opposite = position + along_row * column_step * columns + along_column * row_step * rows
    corners = grid.to_index(np.stack([position, opposite]))
    k = round(float(corners[0, 0]))
    on_slice = np.abs(corners - [[k, 0, 0], [k, rows, columns]]).max() <= POSITION_TOLERANCE
    return k if on_slice and 0 <= k < grid.shape[0] else None


def _algorithm(segmentation: Segmentation) -> Any:
    import highdicom

    return highdicom.AlgorithmIdentificationSequence(
        name=ALGORITHM_NAME,
        family=highdicom.sr.CodedConcept("123109", "DCM", "Artificial Intelligence"),
        version=__version__,
        source=model_title(segmentation.provenance)[:LONGEST_LO] or None,
        parameters=_parameters(segmentation),
    )


def _description(number: int, segment: Segment, algorithm: Any, catalogue: Catalogue) -> Any:
    import highdicom

    region = catalogue.get(segment.organ.within).type if segment.organ.within else None
    described = highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=segment.organ.name[:LONGEST_LO],
        segmented_property_category=concept(segment.category),
        segmented_property_type=concept(segment.type),
        algorithm_type=segment.author.value,
        algorithm_identification=None if segment.author is Author.PEOPLE else algorithm,
        anatomic_regions=[concept(region)] if region else None,
        tracking_id=f"MultiOrganSeg {segment.organ.key}"[:LONGEST_LO],
        tracking_uid=highdicom.UID(),
        display_color=highdicom.color.CIELabColor.from_rgb(*segment.organ.color),
    )
    if segment.modifier:
        described.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [
            concept(segment.modifier)
        ]
    return described


def concept(code: Code) -> Any:
    """Return a code of the catalogue as highdicom's."""
    import highdicom

    return highdicom.sr.CodedConcept(code.value, code.scheme, code.meaning[:LONGEST_LO])


def _parameters(segmentation: Segmentation) -> dict[str, str] | None:
    text = json.dumps(without_input(segmentation.provenance, messages=False), ensure_ascii=True)
    return {"provenance": text} if len(text) < LONGEST_LT - len("provenance=") else None
