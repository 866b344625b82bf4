"""The segments of a DICOM SEG as masks on the grid of its series, and the organs that their codes mean."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from multiorganseg.organs.catalogue import Catalogue, Code, Organ

if TYPE_CHECKING:
    from pydicom import Dataset
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from multiorganseg.errors import VolumeError
from multiorganseg.volumes.volume import Grid

Concept = tuple[str, str]
"""Coding scheme designator and code value."""

_ALTERED: Concept = ("SCT", "49755003")
"""Morphologically Altered Structure: says what it is, but not where."""


@dataclass(frozen=True)
class SegmentCodes:
    """What a segment is coded as.

    Attributes:
        category: Segmented property category; None where the file is silent, as all that follow.
        type: Segmented property type.
        modifiers: Modifiers of the type and of the region, such as a side.
        region: Anatomic region.
        meaning: All of it in words.
    """

    category: Concept | None
    type: Concept | None
    modifiers: frozenset[Concept]
    region: Concept | None
    meaning: str


def segment_codes(item: Dataset) -> SegmentCodes:
    """Read the codes of one item of the Segment Sequence."""
    category = first_item(item, "SegmentedPropertyCategoryCodeSequence")
    kind = first_item(item, "SegmentedPropertyTypeCodeSequence")
    region = first_item(item, "AnatomicRegionSequence")
    modifiers = [
        *items(kind, "SegmentedPropertyTypeModifierCodeSequence"),
        *items(region, "AnatomicRegionModifierSequence"),
    ]
    coded = [kind, *modifiers, region]
    return SegmentCodes(
        _concept(category),
        _concept(kind),
        frozenset(concept for concept in map(_concept, modifiers) if concept),
        _concept(region),
        ", ".join(dict.fromkeys(str(each.get("CodeMeaning") or "") for each in coded if each is not None)),
    )


def organ_of(codes: SegmentCodes, label: str, catalogue: Catalogue) -> str:
    """Return the key of the organ that a segment evidently is; empty where that is open.

    Type and modifiers must be the organ's. Then it is an organ that lies within the coded region; or, where
    that is no organ (the abdomen) or not said, the only one of that category, unless its type says no place
    (a neoplasm, a cyst); or the one whose name or key the label is.
    """
    alike = [organ for organ in catalogue.organs.values() if _has_type(organ, codes)]
    strict = [organ for organ in alike if organ.category and _code(organ.category) == codes.category]
    organs = {_code(organ.type) for organ in catalogue.organs.values() if organ.type}
    if codes.region in organs:
        placed = [organ for organ in strict if codes.region in _places(organ, catalogue)]
        if len(placed) == 1:
            return placed[0].key
        alike = placed
    elif len(strict) == 1 and codes.category != _ALTERED:
        return strict[0].key
    named = [organ for organ in alike if _is_name(label, organ)]
    return named[0].key if len(named) == 1 else ""


def own_name(codes: SegmentCodes, label: str, catalogue: Catalogue) -> str:
    """Name a segment that is no organ of the catalogue so that it is not mistaken for one.

    Its label, and its codes in words where the label is the name of an organ of another type.
    """
    mistaken = any(_is_name(label, organ) for organ in catalogue.organs.values())
    known = any(organ.type and _code(organ.type) == codes.type for organ in catalogue.organs.values())
    return described(label, codes) if mistaken and known else label


def described(label: str, codes: SegmentCodes) -> str:
    """Return a label with its codes in words."""
    return f"{label} ({codes.meaning or 'not coded'})"


def _has_type(organ: Organ, codes: SegmentCodes) -> bool:
    modifiers = frozenset([_code(organ.modifier)] if organ.modifier else [])
    return organ.type is not None and _code(organ.type) == codes.type and modifiers == codes.modifiers


def _places(organ: Organ, catalogue: Catalogue) -> Iterator[Concept]:
    """Types of an organ and of all that it lies in; of a neoplasm and the like only of what it lies in."""
    current: Organ | None = organ
    while current is not None:
        if current.type and current.category and _code(current.category) != _ALTERED:
            yield _code(current.type)
        current = catalogue.organs.get(current.within) if current.within else None


def _is_name(label: str, organ: Organ) -> bool:
    return label.casefold().replace("_", " ") in (
        organ.name.casefold(),
        organ.key.casefold().replace("_", " "),
    )


def _code(code: Code) -> Concept:
    return code.scheme, code.value


def items(data: Dataset | None, name: str) -> list[Any]:
    """Return the items of a sequence; none where it is missing."""
    found: Any = data.get(name) if data is not None else None
    return list(found) if found else []


def first_item(data: Dataset | None, name: str) -> Any:
    """Return the first item of a sequence; None where it is missing or empty."""
    return next(iter(items(data, name)), None)


def _concept(item: Any) -> Concept | None:
    value = item.get("CodeValue") or item.get("LongCodeValue") if item is not None else None
    return (str(item.get("CodingSchemeDesignator") or ""), str(value)) if value else None


TOLERANCE = 0.25
"""How far a frame may lie off a slice of the series, in voxels."""


@dataclass(frozen=True)
class DicomSegment:
    """One segment.

    Attributes:
        number: In the file.
        name: The organ's key where its codes are those of an organ of the catalogue, else its label.
        codes: All that its codes say; None where it is an organ of the catalogue.
    """

    number: int
    name: str
    codes: SegmentCodes | None = None


def referenced_series(seg: Dataset) -> str:
    """Return the Series Instance UID of the images that a DICOM SEG refers to; empty when it does not say."""
    listed: Any = seg.get("ReferencedSeriesSequence") or ()
    return str(listed[0].SeriesInstanceUID) if len(listed) else ""


def segments(seg: Dataset, catalogue: Catalogue) -> list[DicomSegment]:
    """List the segments; one whose codes are of an organ of the catalogue is named by the organ's key.

    Raises:
        AttributeError: The file lists no segments, or one without a number; see `damage_as_typed`.
    """
    listed: Any = seg.get("SegmentSequence")
    if not listed:
        msg = "it lists no segments"
        raise AttributeError(msg)
    return [_segment(item, catalogue) for item in listed]


def _segment(item: Dataset, catalogue: Catalogue) -> DicomSegment:
    number = int(item.SegmentNumber)
    label, codes = str(item.get("SegmentLabel") or f"segment {number}").strip(), segment_codes(item)
    key = organ_of(codes, label, catalogue)
    return (
        DicomSegment(number, key) if key else DicomSegment(number, own_name(codes, label, catalogue), codes)
    )


def segment_masks(seg: Dataset, grid: Grid, path: Path) -> dict[int, NDArray[np.bool_]]:
    """Put the frames of a DICOM SEG onto the grid of its series.

    Args:
        seg: Of type BINARY, FRACTIONAL (half and more counts) or LABELMAP.
        grid: Of the series.
        path: Of the DICOM SEG, for messages.

    Returns:
        Mask (k, j, i) by segment number, of segments that have a voxel.

    Raises:
        VolumeError: A frame lies on no slice of the grid, its pixels cannot be read, or it has voxels of a
            segment that the file does not list.
    """
    try:
        frames = np.atleast_3d(np.asarray(seg.pixel_array))
        frames = frames.reshape(-1, int(seg.Rows), int(seg.Columns))
    except Exception as error:  # pydicom lets errors of any type escape from damaged bytes
        msg = f"The pixels of {path} cannot be read."
        raise VolumeError(msg, cause=str(error), next_step="Export it again without compression.") from error
    threshold = int(seg.MaximumFractionalValue) / 2 if seg.get("SegmentationType") == "FRACTIONAL" else 0.5
    listed = {int(item.SegmentNumber) for item in seg.SegmentSequence}
    empty = {0, seg.get("PixelPaddingValue", 0)} - listed  # of a LABELMAP: what belongs to no segment
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
            parts = {int(number): pixels == number for number in np.unique(pixels) if number not in empty}
        for number, mask in parts.items():
            if not mask.any():
                continue
            if number not in listed:
                msg = f"{path} has voxels of a segment {number}, which it does not list."
                raise VolumeError(
                    msg,
                    cause="What was segmented there is not said.",
                    next_step="Export the segmentation again.",
                )
            masks.setdefault(number, np.zeros(grid.shape, np.bool_))[k] |= mask
    return masks


def lies_on(seg: Dataset, grid: Grid) -> bool:
    """Whether every frame is the whole of one slice of a grid."""
    shared = first_item(seg, "SharedFunctionalGroupsSequence")
    frames = items(seg, "PerFrameFunctionalGroupsSequence")
    return bool(frames) and all(_slice(seg, own, shared, grid) is not None for own in frames)


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
