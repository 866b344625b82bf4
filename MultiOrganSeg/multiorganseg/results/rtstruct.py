"""Segmentations as DICOM RTSTRUCT: one closed contour a slice and piece, for systems that plan radiotherapy.

Source: DICOM PS3.3, A.19 (RT Structure Set IOD), C.8.8.5, C.8.8.6 and C.8.8.8.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from multiorganseg import __version__
from multiorganseg.atomic import atomic_path
from multiorganseg.errors import DependencyError, VolumeError
from multiorganseg.organs.catalogue import Catalogue, Code
from multiorganseg.results.dicom_seg import (
    EMPTY_WHERE_MISSING,
    LONGEST_LO,
    completed,
    match_slices,
)
from multiorganseg.results.segmentation import Segmentation
from multiorganseg.results.segments import Segment, model_title, segments_of
from multiorganseg.volumes.volume import Grid

if TYPE_CHECKING:
    from pydicom import Dataset

SERIES_NUMBER = 9003
_STUDY_CLASS = "1.2.840.10008.3.1.2.3.1"
_LONGEST_SH = 16
Points = NDArray[np.float64]


def write_rtstruct(
    segmentation: Segmentation,
    path: Path,
    catalogue: Catalogue,
    dicom_files: Sequence[Path],
    *,
    series_uid: str = "",
) -> None:
    """Write an RT Structure Set with one region of interest for each organ that was found.

    Contours run half-way between the centres of voxels within and without, so that a reader who asks which
    centres lie inside gets the very voxels back. A hole is joined to its outline by a cut of no width
    (keyhole). Regions are named by organ key, which is short and has no blanks; codes stand beside them. Of
    the patient and the study it says what DICOM requires. The transfer syntax is Implicit VR Little Endian,
    the only one in which a long contour fits.

    Args:
        segmentation: Labels on the grid of the series.
        path: The file, usually `.rtstruct.dcm`.
        catalogue: Gives names, codes and colours.
        dicom_files: Slices of the series in any order, see `write_dicom_seg`.
        series_uid: Of the structure set's series; a new one when empty.

    Raises:
        DependencyError: contourpy is not installed.
        OrganError: The table names an organ that the catalogue lacks.
        ResourceError: The file cannot be written.
        VolumeError: The files are not the series of this grid, or no organ was found.
    """
    sources = [completed(each, segmentation.grid) for each in match_slices(segmentation.grid, dicom_files)]
    regions: list[tuple[Segment, list[tuple[int, Points]]]] = []
    for segment in segments_of(segmentation, catalogue):
        outlines = list(mask_outlines(segmentation.labels == segment.value))
        if outlines:
            regions.append((segment, outlines))
    if not regions:
        msg = f"No RTSTRUCT was written to {path}."
        raise VolumeError(
            msg,
            cause="No organ was found, and a structure set without regions says nothing.",
            next_step="Look at the statistics table and check that the series shows these organs.",
        )
    try:
        made = _structure_set(sources, segmentation, series_uid)
        for number, (segment, outlines) in enumerate(regions, start=1):
            _add_region(made, number, segment, outlines, segmentation.grid, sources)
        written = io.BytesIO()
        made.save_as(written, enforce_file_format=True)
    except (ValueError, TypeError, AttributeError, LookupError) as error:
        msg = f"No RTSTRUCT was written to {path}."
        raise VolumeError(
            msg,
            cause=f"The headers of the series are not valid: {error}",
            next_step="Have them mended, or use .seg.nrrd or .nii.gz, which do not depend on them.",
        ) from error
    with atomic_path(path) as partial:
        partial.write_bytes(written.getbuffer())


def mask_outlines(mask: NDArray[np.bool_]) -> Iterator[tuple[int, Points]]:
    """Trace a mask (k, j, i) slice by slice.

    Yields:
        Slice index k and the corners (j, i) of one closed polygon in voxels; the first is not repeated.

    Raises:
        DependencyError: contourpy is not installed.
    """
    try:
        from contourpy import FillType, contour_generator
    except ImportError as error:
        msg = "RTSTRUCT needs the package contourpy."
        raise DependencyError(
            msg, cause=str(error), next_step="Install it: pip install 'multiorganseg[dicom]'"
        ) from error
    boxes = ndimage.find_objects(mask.astype(np.uint8))
    if not boxes or boxes[0] is None:
        return
    slices, rows, columns = boxes[0]
    corner = np.array([rows.start - 1, columns.start - 1])
    for k in range(slices.start, slices.stop):
        plane = np.pad(mask[k, rows, columns], 1).astype(np.float64)
        if not plane.any():
            continue
        traced = contour_generator(z=plane, name="serial", fill_type=FillType.OuterOffset).filled(0.5, 2)
        for points, offsets in zip(*traced, strict=True):
            rings = [_corners(points[start : stop - 1, ::-1]) for start, stop in pairwise(offsets)]
            yield k, _keyhole(rings[0], rings[1:]) + corner


def _corners(ring: Points) -> Points:
    """Leave out points on a straight line between their neighbours."""
    back, on = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    bends = back[:, 0] * on[:, 1] != back[:, 1] * on[:, 0]
    return ring[bends]


def _keyhole(outline: Points, holes: Sequence[Points]) -> Points:
    """Join holes to an outline, each by a cut between the two points that are nearest to each other."""
    for hole in sorted(holes, key=lambda ring: tuple(ring.min(axis=0))):
        distances = np.linalg.norm(outline[:, None] - hole[None], axis=-1)
        at, start = np.unravel_index(int(distances.argmin()), distances.shape)
        turned = np.roll(hole, -int(start), axis=0)
        outline = np.concatenate([outline[: at + 1], turned, turned[:1], outline[at:]])
    return outline


def _structure_set(sources: Sequence[Dataset], segmentation: Segmentation, series_uid: str) -> Dataset:
    from pydicom import Dataset
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import UID, ImplicitVRLittleEndian, RTStructureSetStorage, generate_uid

    source, now, made = sources[0], datetime.now(), Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    made.SOPClassUID = made.file_meta.MediaStorageSOPClassUID = RTStructureSetStorage
    made.SeriesInstanceUID = series_uid or generate_uid(prefix=None)
    made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = UID(f"{made.SeriesInstanceUID}.1")
    for name in (*EMPTY_WHERE_MISSING, "StudyInstanceUID", "FrameOfReferenceUID", "SpecificCharacterSet"):
        if name in source:
            made[name] = source[name]
    made.Modality, made.SeriesNumber, made.OperatorsName = "RTSTRUCT", SERIES_NUMBER, ""
    made.SeriesDescription, made.StructureSetLabel = "MultiOrganSeg contours", "MULTIORGANSEG"
    made.Manufacturer = "MultiOrganSeg"
    made.ManufacturerModelName = (model_title(segmentation.provenance) or "MultiOrganSeg")[:LONGEST_LO]
    made.SoftwareVersions, made.PositionReferenceIndicator = __version__, ""
    made.StructureSetDate, made.StructureSetTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    made.InstanceCreationDate, made.InstanceCreationTime = made.StructureSetDate, made.StructureSetTime
    series, study, frame = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = source.SeriesInstanceUID
    series.ContourImageSequence = [_reference(each) for each in sources]
    study.ReferencedSOPClassUID, study.ReferencedSOPInstanceUID = _STUDY_CLASS, source.StudyInstanceUID
    study.RTReferencedSeriesSequence = [series]
    frame.FrameOfReferenceUID = source.FrameOfReferenceUID
    frame.RTReferencedStudySequence = [study]
    made.ReferencedFrameOfReferenceSequence = [frame]
    made.StructureSetROISequence, made.ROIContourSequence, made.RTROIObservationsSequence = [], [], []
    made.ApprovalStatus = "UNAPPROVED"
    return made


def _add_region(
    made: Dataset,
    number: int,
    segment: Segment,
    outlines: Sequence[tuple[int, Points]],
    grid: Grid,
    sources: Sequence[Dataset],
) -> None:
    from pydicom import Dataset

    region, drawn, observed = Dataset(), Dataset(), Dataset()
    region.ROINumber, region.ReferencedFrameOfReferenceUID = number, made.FrameOfReferenceUID
    region.ROIName, region.ROIGenerationAlgorithm = segment.organ.key[:LONGEST_LO], segment.author.value
    drawn.ReferencedROINumber, drawn.ROIDisplayColor = number, list(segment.organ.color)
    drawn.ContourSequence = [_contour(points, k, grid, sources[k]) for k, points in outlines]
    observed.ObservationNumber = observed.ReferencedROINumber = number
    observed.ROIObservationLabel = segment.organ.name[:_LONGEST_SH]
    observed.RTROIIdentificationCodeSequence = [_code(segment.type, segment.modifier)]
    observed.RTROIInterpretedType, observed.ROIInterpreter = "ORGAN", ""
    made.StructureSetROISequence.append(region)
    made.ROIContourSequence.append(drawn)
    made.RTROIObservationsSequence.append(observed)


def _contour(points: Points, k: int, grid: Grid, source: Dataset) -> Dataset:
    from pydicom import Dataset

    contour = Dataset()
    contour.ContourImageSequence = [_reference(source)]
    contour.ContourGeometricType, contour.NumberOfContourPoints = "CLOSED_PLANAR", len(points)
    places = grid.to_patient(np.insert(points, 0, k, axis=1))
    contour.ContourData = [f"{value:.4f}" for value in places.ravel()]
    return contour


def _reference(source: Dataset) -> Dataset:
    from pydicom import Dataset

    reference = Dataset()
    reference.ReferencedSOPClassUID = source.SOPClassUID
    reference.ReferencedSOPInstanceUID = source.SOPInstanceUID
    return reference


def _code(code: Code, modifier: Code | None = None) -> Any:
    from pydicom import Dataset

    made = Dataset()
    made.CodeValue, made.CodingSchemeDesignator, made.CodeMeaning = code.value, code.scheme, code.meaning
    if modifier:
        made.SegmentedPropertyTypeModifierCodeSequence = [_code(modifier)]
    return made
