"""The regions of an RT Structure Set as masks on the grid of its series.

Source: DICOM PS3.3, C.8.8.5 (Structure Set Module) and C.8.8.6 (ROI Contour Module).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from multiorganseg.errors import VolumeError
from multiorganseg.organs.catalogue import Catalogue
from multiorganseg.volumes.check import VolumeWarning
from multiorganseg.volumes.volume import Grid
from multiorganseg_training.project.dicom_seg import (
    TOLERANCE,
    DicomSegment,
    first_item,
    items,
    organ_of,
    own_name,
    segment_codes,
)

if TYPE_CHECKING:
    from pydicom import Dataset

_CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
Points = NDArray[np.float64]


def region_series(data: Dataset) -> str:
    """Return the Series Instance UID of the images that the regions were drawn on; empty when it is open."""
    frame = first_item(data, "ReferencedFrameOfReferenceSequence")
    study = first_item(frame, "RTReferencedStudySequence")
    series = first_item(study, "RTReferencedSeriesSequence")
    return str(series.get("SeriesInstanceUID") or "") if series is not None else ""


def region_frame(data: Dataset) -> str:
    """Return the Frame of Reference UID of the regions; empty when it is open."""
    own = data.get("FrameOfReferenceUID")
    frame = first_item(data, "ReferencedFrameOfReferenceSequence")
    return str(own or (frame.get("FrameOfReferenceUID") if frame is not None else "") or "")


def regions(data: Dataset, catalogue: Catalogue) -> list[DicomSegment]:
    """List the regions that have a closed contour; one that is evidently an organ is named by its key.

    Raises:
        AttributeError: A region has no number; see `damage_as_typed`.
    """
    observed = {
        int(item.ReferencedROINumber): item
        for item in items(data, "RTROIObservationsSequence")
        if "ReferencedROINumber" in item
    }
    drawn = {
        int(item.ReferencedROINumber)
        for item in items(data, "ROIContourSequence")
        if any(True for _ in _closed(item))
    }
    found = []
    for item in items(data, "StructureSetROISequence"):
        number = int(item.ROINumber)
        if number in drawn:
            label = str(item.get("ROIName") or f"region {number}").strip()
            found.append(_region(number, label, observed.get(number), catalogue))
    return found


def region_masks(data: Dataset, grid: Grid, path: Path) -> dict[int, NDArray[np.bool_]]:
    """Fill the contours on the grid of their series.

    A voxel counts when its centre lies within a contour; a contour within another one makes a hole. Contours
    that a file holds twice count once. Slices without a contour between others of a region stay empty, which
    a `VolumeWarning` reports.

    Args:
        data: RT Structure Set.
        grid: Of the series.
        path: Of the file, for messages.

    Returns:
        Mask (k, j, i) by region number, of regions that have a voxel.

    Raises:
        VolumeError: A contour lies on no slice of the grid.
    """
    masks: dict[int, NDArray[np.bool_]] = {}
    for item in items(data, "ROIContourSequence"):
        number = int(item.ReferencedROINumber)
        mask, seen = np.zeros(grid.shape, np.bool_), set[bytes]()
        for points in _closed(item):
            k = _slice(points, grid)
            if k is None:
                msg = f"{path.name} does not lie on the slices of its series."
                raise VolumeError(
                    msg,
                    cause=f"A contour of region {number} lies between slices, or outside of them.",
                    next_step="Export the regions on the images that they were drawn on.",
                )
            key = np.round(points, 3).tobytes()
            if key not in seen:
                seen.add(key)
                mask[k] ^= fill_polygon(grid.to_index(points)[:, 1:], grid.shape[1:])
        if mask.any():
            _warn_of_gaps(mask, number, path)
            masks[number] = mask
    return masks


def lies_on(data: Dataset, grid: Grid) -> bool:
    """Whether every contour lies on a slice of a grid."""
    found = [_slice(p, grid) for item in items(data, "ROIContourSequence") for p in _closed(item)]
    return bool(found) and None not in found


def fill_polygon(corners: Points, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return which voxel centres lie within a polygon, by the rule of even and odd crossings.

    Args:
        corners: Points (j, i) in voxels, the first not repeated.
        shape: Rows and columns of the result.
    """
    rows, columns = shape
    start, end = corners, np.roll(corners, -1, axis=0)
    crossings = np.zeros((rows, columns + 1), np.int64)
    low = max(0, int(np.ceil(corners[:, 0].min())))
    high = min(rows - 1, int(np.floor(corners[:, 0].max())))
    for row in range(low, high + 1):
        cut = (start[:, 0] <= row) != (end[:, 0] <= row)
        (y0, x0), (y1, x1) = start[cut].T, end[cut].T
        across = np.ceil(x0 + (row - y0) * (x1 - x0) / (y1 - y0))
        np.add.at(crossings[row], np.clip(across, 0, columns).astype(np.intp), 1)
    return (crossings.cumsum(axis=1)[:, :columns] % 2).astype(np.bool_)


def _region(number: int, label: str, observed: Dataset | None, catalogue: Catalogue) -> DicomSegment:
    coded = first_item(observed, "RTROIIdentificationCodeSequence")
    if coded is None:
        return DicomSegment(number, label)
    from pydicom import Dataset

    item = Dataset()
    item.SegmentedPropertyTypeCodeSequence = [coded]
    codes = segment_codes(item)
    key = organ_of(codes, label, catalogue)
    return (
        DicomSegment(number, key) if key else DicomSegment(number, own_name(codes, label, catalogue), codes)
    )


def _closed(item: Any) -> Iterator[Points]:
    """Give the points (x, y, z) in mm of each closed contour of a region."""
    for contour in items(item, "ContourSequence"):
        if str(contour.get("ContourGeometricType", "")) in _CLOSED:
            points = np.array(contour.ContourData, dtype=np.float64).reshape(-1, 3)
            if len(points) > 2:
                yield points


def _slice(points: Points, grid: Grid) -> int | None:
    heights = grid.to_index(points)[:, 0]
    k = round(float(np.median(heights)))
    return k if np.abs(heights - k).max() <= TOLERANCE and 0 <= k < grid.shape[0] else None


def _warn_of_gaps(mask: NDArray[np.bool_], number: int, path: Path) -> None:
    drawn = np.flatnonzero(mask.any(axis=(1, 2)))
    gaps = int(drawn[-1] - drawn[0] + 1 - len(drawn))
    if gaps:
        message = f"{path.name}: region {number} has no contour on {gaps} slice(s) between others."
        warnings.warn(message, VolumeWarning, stacklevel=3)
