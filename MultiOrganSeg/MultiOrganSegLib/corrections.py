"""What people changed in a result: found by its voxels, measured anew, and marked in the segments."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from MultiOrganSegLib.mrml import merged_labels
from MultiOrganSegLib.tags import PREFIX, author, flags_tag, set_author, set_tag, statistics_from_tags, tag

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from multiorganseg.quality.statistics import OrganStatistics

_LABELMAP = "Binary labelmap"
_SHAPE = f"{PREFIX}Shape"
_MEASURED = ("Voxels", "VolumeMl", "MeanIntensity", "Confidence", "Uncertainty", "Flags")
_SAME_MM = 1e-3

_seen: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()


@dataclass(frozen=True, eq=False)
class _Drawn:
    """Voxels of a segment.

    Attributes:
        mask: Array (k, j, i) of bool, cut to the segment's own bounds.
        first: Index (k, j, i) of the mask's first voxel on the image's lattice.
        image: The layer that it lies in.
    """

    mask: NDArray[np.bool_]
    first: tuple[int, ...]
    image: Any

    @property
    def count(self) -> int:
        return int(np.count_nonzero(self.mask))

    @property
    def shape_text(self) -> str:
        """Differs for another shape, and stays the same when Slicer pads, cuts or moves the whole image."""
        return f"{zlib.crc32(repr(self.mask.shape).encode(), zlib.crc32(np.packbits(self.mask))):08x}"


def recount(node: slicer.vtkMRMLSegmentationNode) -> list[str]:
    """Measure those segments anew that were changed since they were measured last.

    They get the flag "corrected" and lose the network's confidence, which was that of another shape. While
    nothing was changed since the last call, this costs nothing.

    Returns:
        IDs of the segments that had been changed.
    """
    segmentation = node.GetSegmentation()
    stamp = _stamp(segmentation)
    if _seen.get(node) == stamp:
        return []
    changed = []
    for identity, drawn in _drawn_segments(segmentation):
        segment = segmentation.GetSegment(identity)
        stored = statistics_from_tags(segment, identity)
        if stored is None:
            continue
        shape = tag(segment, _SHAPE)
        if stored.voxels != drawn.count or shape not in ("", drawn.shape_text):
            _tell_corrected(node, identity, drawn)
            changed.append(identity)
        set_tag(segment, _SHAPE, drawn.shape_text)
    _seen[node] = stamp
    return changed


def drawn_by_people(node: slicer.vtkMRMLSegmentationNode) -> list[str]:
    """IDs of the segments with voxels that are not just what the network left: corrected ones and others'."""
    from multiorganseg.results.segmentation import Author

    recount(node)
    segmentation = node.GetSegmentation()
    found = []
    for identity, drawn in _drawn_segments(segmentation):
        segment = segmentation.GetSegment(identity)
        by_network = author(segment) is Author.NETWORK and tag(segment, f"{PREFIX}Voxels")
        if drawn.mask.size and not by_network:
            found.append(identity)
    return found


def names_of(node: slicer.vtkMRMLSegmentationNode, identities: list[str]) -> str:
    """Names of segments for a sentence."""
    return ", ".join(node.GetSegmentation().GetSegment(each).GetName() for each in identities)


def _tell_corrected(node: Any, identity: str, drawn: _Drawn) -> None:
    from multiorganseg.results.seg_nrrd import measured_tags
    from multiorganseg.results.segmentation import Author

    segment = node.GetSegmentation().GetSegment(identity)
    texts = measured_tags(_measure(node, identity, drawn))
    for name in _MEASURED:
        set_tag(segment, f"{PREFIX}{name}", texts.get(f"{PREFIX}{name}", ""))
    set_author(segment, Author.CORRECTED)


def _measure(node: Any, identity: str, drawn: _Drawn) -> OrganStatistics:
    from multiorganseg.quality import flags
    from multiorganseg.quality.statistics import OrganStatistics

    before = set(flags_tag(node.GetSegmentation().GetSegment(identity)))
    kept = before & {flags.CUT_BY_FIELD_OF_VIEW} if drawn.count else set()
    millilitres = drawn.count * abs(np.linalg.det(_matrix(drawn.image)[:3, :3])) / 1000
    return OrganStatistics(
        identity,
        drawn.count,
        float(millilitres),
        _mean(node, identity, drawn),
        float("nan"),
        flags.worst_first(kept | {flags.CORRECTED}),
    )


def _mean(node: Any, identity: str, drawn: _Drawn) -> float:
    """Mean intensity of the reference volume; NaN without one, or without a voxel in it."""
    volume = node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole())
    if volume is None or volume.GetImageData() is None or not drawn.count:
        return float("nan")
    voxels = slicer.util.arrayFromVolume(volume)
    start = np.asarray(drawn.first)
    end = start + drawn.mask.shape
    if _same_lattice(node, volume, drawn.image) and (start >= 0).all() and (end <= voxels.shape[:3]).all():
        box = tuple(slice(low, high) for low, high in zip(start, end, strict=True))
        return float(voxels[box][drawn.mask].mean())
    inside = voxels[merged_labels(node, volume, [identity]) > 0]
    return float(inside.mean()) if inside.size else float("nan")


def _same_lattice(node: Any, volume: Any, image: Any) -> bool:
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    same = np.allclose(slicer.util.arrayFromVTKMatrix(matrix), _matrix(image), atol=_SAME_MM)
    return same and node.GetTransformNodeID() == volume.GetTransformNodeID()


def _matrix(image: Any) -> NDArray[np.float64]:
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    return np.asarray(slicer.util.arrayFromVTKMatrix(matrix))


def _drawn_segments(segmentation: Any) -> Iterator[tuple[str, _Drawn]]:
    """Each segment that has a labelmap, with its voxels; one pass over each layer."""
    from scipy import ndimage

    for layer in range(segmentation.GetNumberOfLayers(_LABELMAP)):
        image = segmentation.GetLayerDataObject(layer, _LABELMAP)
        labels = _labels(image)
        boxes = ndimage.find_objects(labels) if labels.size else []
        extent = image.GetExtent()
        corner = (extent[4], extent[2], extent[0])
        for identity in segmentation.GetSegmentIDsForLayer(layer, _LABELMAP):
            value = segmentation.GetSegment(identity).GetLabelValue()
            box = boxes[value - 1] if 0 < value <= len(boxes) else None
            box = box or (slice(0, 0),) * 3
            first = tuple(start + part.start for start, part in zip(corner, box, strict=True))
            yield identity, _Drawn(labels[box] == value, first, image)


def _labels(image: Any) -> NDArray[np.integer]:
    scalars = image.GetPointData().GetScalars()
    if scalars is None or image.IsEmpty():
        return np.zeros((0, 0, 0), np.uint8)
    labels = vtk_to_numpy(scalars).reshape(image.GetDimensions()[::-1])
    return labels if labels.dtype.kind in "iu" else labels.astype(np.int32)


def _stamp(segmentation: Any) -> tuple[Any, ...]:
    """Changes whenever voxels or segments may have been changed."""
    layers = range(segmentation.GetNumberOfLayers(_LABELMAP))
    images = [segmentation.GetLayerDataObject(layer, _LABELMAP) for layer in layers]
    return segmentation.GetSegmentIDs(), tuple(image.GetMTime() for image in images)
