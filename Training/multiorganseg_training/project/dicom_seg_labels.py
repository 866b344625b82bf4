"""The segments of a DICOM SEG as masks on the grid of the series that it refers to.

Source: DICOM PS3.3, sections A.51, C.8.20 (Segmentation) and C.7.6.16 (multi-frame functional groups).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from multiorganseg.errors import DependencyError, VolumeError
from multiorganseg.organs.catalogue import Catalogue
from multiorganseg.volumes.volume import Grid

if TYPE_CHECKING:
    from pydicom import Dataset

TOLERANCE = 0.25
"""How far a frame may lie off a slice of the series, in voxels."""


@dataclass(frozen=True)
class DicomSegment:
    """One segment.

    Attributes:
        number: In the file.
        name: The organ's key where its codes are those of an organ of the catalogue, else its label.
    """

    number: int
    name: str


def read_seg(path: Path, *, modality_alone: bool = False) -> Dataset:
    """Read a DICOM SEG.

    Args:
        path: The file.
        modality_alone: Whether its modality is enough, to find out whether it is one.

    Raises:
        DependencyError: pydicom is not installed.
        VolumeError: The file is damaged.
    """
    try:
        import pydicom
        from pydicom.errors import InvalidDicomError
    except ImportError as error:
        msg = "DICOM SEG needs the package pydicom."
        raise DependencyError(
            msg, cause=str(error), next_step="Install it: pip install 'multiorganseg[dicom]'"
        ) from error
    try:
        if modality_alone:
            return pydicom.dcmread(path, specific_tags=["Modality"], stop_before_pixels=True)
        return pydicom.dcmread(path)
    except (InvalidDicomError, OSError) as error:
        msg = f"{path} cannot be read as DICOM."
        raise VolumeError(msg, cause=str(error), next_step="Export it again.") from error


def referenced_series(seg: Dataset) -> str:
    """Give the Series Instance UID of the images that a DICOM SEG refers to; empty when it does not say."""
    listed: Any = seg.get("ReferencedSeriesSequence") or ()
    return str(listed[0].SeriesInstanceUID) if len(listed) else ""


def segments(seg: Dataset, catalogue: Catalogue) -> list[DicomSegment]:
    """List the segments; one whose codes are of an organ of the catalogue is named by the organ's key."""
    keys = {
        (organ.type.value, organ.modifier.value if organ.modifier else ""): organ.key
        for organ in catalogue.organs.values()
        if organ.type
    }
    return [
        DicomSegment(
            int(item.SegmentNumber),
            keys.get(_codes(item)) or str(item.get("SegmentLabel") or f"segment {item.SegmentNumber}"),
        )
        for item in seg.SegmentSequence
    ]


def segment_masks(seg: Dataset, grid: Grid, path: Path) -> dict[int, NDArray[np.bool_]]:
    """Put the frames of a DICOM SEG onto the grid of its series.

    Args:
        seg: Of type BINARY, FRACTIONAL (half and more counts) or LABELMAP.
        grid: Of the series.
        path: Of the DICOM SEG, for messages.

    Returns:
        Mask (k, j, i) by segment number, of segments that have a voxel.

    Raises:
        VolumeError: A frame lies on no slice of the grid, or its pixels cannot be read.
    """
    try:
        frames = np.atleast_3d(np.asarray(seg.pixel_array))
        frames = frames.reshape(-1, int(seg.Rows), int(seg.Columns))
    except (AttributeError, ValueError, NotImplementedError, RuntimeError) as error:
        msg = f"The pixels of {path} cannot be read."
        raise VolumeError(msg, cause=str(error), next_step="Export it again without compression.") from error
    threshold = int(seg.MaximumFractionalValue) / 2 if seg.get("SegmentationType") == "FRACTIONAL" else 0.5
    masks: dict[int, NDArray[np.bool_]] = {}
    shared = seg.SharedFunctionalGroupsSequence[0]
    for pixels, own in zip(frames, seg.PerFrameFunctionalGroupsSequence, strict=True):
        k = _slice(seg, own, shared, grid)
        if k is None:
            msg = f"{path} does not lie on the slices of its series."
            raise VolumeError(
                msg,
                cause="A frame has another place, size or direction.",
                next_step="Resample the segmentation onto the series, and export it again.",
            )
        numbered = _group(own, shared, "SegmentIdentificationSequence")
        if numbered is not None:
            parts = {int(numbered.ReferencedSegmentNumber): pixels >= threshold}
        else:
            parts = {int(number): pixels == number for number in np.unique(pixels) if number}
        for number, mask in parts.items():
            if mask.any():
                masks.setdefault(number, np.zeros(grid.shape, np.bool_))[k] |= mask
    return masks


def _codes(item: Dataset) -> tuple[str, str]:
    listed: Any = item.get("SegmentedPropertyTypeCodeSequence") or ()
    if not len(listed):
        return "", ""
    modifiers: Any = listed[0].get("SegmentedPropertyTypeModifierCodeSequence") or ()
    return str(listed[0].get("CodeValue", "")), str(modifiers[0].CodeValue) if len(modifiers) else ""


def _group(own: Dataset, shared: Dataset, name: str) -> Any:
    found: Any = own.get(name) or shared.get(name) or ()
    return found[0] if len(found) else None


def _slice(seg: Dataset, own: Dataset, shared: Dataset, grid: Grid) -> int | None:
    """Slice index of a frame; None when it is not the whole of one slice of the grid."""
    position = _group(own, shared, "PlanePositionSequence")
    direction = _group(own, shared, "PlaneOrientationSequence")
    measures = _group(own, shared, "PixelMeasuresSequence")
    if position is None or direction is None or measures is None:
        return None
    rows, columns = int(seg.Rows), int(seg.Columns)
    if (rows, columns) != grid.shape[1:]:
        return None
    first = np.array(position.ImagePositionPatient, dtype=float)
    along_row, along_column = np.array(direction.ImageOrientationPatient, dtype=float).reshape(2, 3)
    row_step, column_step = (float(step) for step in measures.PixelSpacing)
    last = first + along_row * column_step * (columns - 1) + along_column * row_step * (rows - 1)
    corners = grid.to_index(np.stack([first, last]))
    k = round(float(corners[0, 0]))
    is_there = np.abs(corners - [[k, 0, 0], [k, rows - 1, columns - 1]]).max() <= TOLERANCE
    return k if is_there and 0 <= k < grid.shape[0] else None
