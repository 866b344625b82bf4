"""The three planes of the preview: which slice, in which orientation, on square pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from multiorganseg.geometry.orient import reorient
from multiorganseg.results.segmentation import Segmentation
from multiorganseg.volumes.volume import Volume

PlaneName = Literal["Axial", "Coronal", "Sagittal"]
NAMES: tuple[PlaneName, PlaneName, PlaneName] = ("Axial", "Coronal", "Sagittal")
MARKS = {"Axial": "RLAP", "Coronal": "RLSI", "Sagittal": "APSI"}
LARGEST_SIDE = 640
COUNTED_SIDE = 160
MARGIN_MM = 40.0
STAIR_SIGMA = 0.45


@dataclass(frozen=True, eq=False)
class Plane:
    """One slice, ready to be drawn with its first row on top, in radiological convention.

    Attributes:
        name: Which plane.
        image: Array (row, column) of intensities on square pixels, float32.
        organs: For each label value in the slice, its share of every pixel: array (row, column) in [0, 1].
        pixel: Side of a pixel in mm.
        marks: Patient directions at the left, right, top and bottom edge, such as "RLAP".
        slice_index: Index of the slice in the canonical orientation.
        slice_count: Number of slices in that direction.
        uncertainty: Array (row, column) in [0, 1]; None where it was not mapped.
    """

    name: PlaneName
    image: NDArray[np.float32]
    organs: dict[int, NDArray[np.float32]]
    pixel: float
    marks: str
    slice_index: int
    slice_count: int
    uncertainty: NDArray[np.float32] | None


def make_planes(
    volume: Volume, segmentation: Segmentation, window: tuple[float, float]
) -> tuple[Plane, Plane, Plane]:
    """Cut the axial, coronal and sagittal plane that show the most organs, each near its largest extent.

    Oblique volumes are cut along their own axes, named after the nearest patient axes.

    Args:
        volume: Intensities on the grid of the segmentation.
        segmentation: Labels.
        window: Lowest and highest intensity to show; what is darker counts as air when a plane is cropped to
            the body. Coronal and sagittal plane are also cropped to the height of the labels.
    """
    orientation = reorient(segmentation.grid)
    voxels = orientation.apply(volume.voxels)
    labels = orientation.apply(segmentation.labels)
    uncertainty = segmentation.uncertainty
    if uncertainty is not None:
        uncertainty = orientation.apply(uncertainty)
    spacing = orientation.target.spacing
    indices = best_slices(labels)
    height = _label_rows(labels, spacing[0])
    first, second, third = (
        _plane(axis, indices[axis], voxels, labels, uncertainty, spacing, window, height) for axis in range(3)
    )
    return first, second, third


def best_slices(labels: NDArray[np.unsignedinteger]) -> tuple[int, int, int]:
    """Along each array axis, the slice that shows the most organs near their largest area.

    A slice's score is the sum over organs of the root of its area over the organ's largest area. Large
    arrays are counted on every n-th voxel. Without labels, the middle slices are given.
    """
    steps = [-(-size // COUNTED_SIDE) for size in labels.shape]
    sparse = labels[:: steps[0], :: steps[1], :: steps[2]]
    values, codes = np.unique(sparse, return_inverse=True)
    codes = codes.reshape(sparse.shape)
    best = []
    for axis, (size, step) in enumerate(zip(labels.shape, steps, strict=True)):
        count = sparse.shape[axis]
        slice_number = np.arange(count).reshape([-1 if a == axis else 1 for a in range(3)])
        areas = np.bincount((slice_number * values.size + codes).ravel(), minlength=count * values.size)
        areas = areas.reshape(count, values.size)[:, values > 0]
        if not areas.size:
            best.append(size // 2)
            continue
        score = np.sqrt(areas / areas.max(axis=0)).sum(axis=1)
        best.append(int(score.argmax()) * step)
    return best[0], best[1], best[2]


def _plane(
    axis: int,
    index: int,
    voxels: NDArray,
    labels: NDArray[np.unsignedinteger],
    uncertainty: NDArray[np.uint8] | None,
    spacing: tuple[float, float, float],
    window: tuple[float, float],
    height: slice,
) -> Plane:
    name = NAMES[axis]
    cuts = [np.take(each, index, axis=axis) for each in (voxels, labels, uncertainty) if each is not None]
    row, column = (step for other, step in enumerate(spacing) if other != axis)
    if name != "Axial":
        cuts = [each[height][::-1] for each in cuts]
    box = _body_box(cuts[0], cuts[1], window)
    image, cut, *uncertain = [each[box] for each in cuts]
    extent = max(cut.shape[0] * row, cut.shape[1] * column)
    pixel = max(min(row, column), extent / LARGEST_SIDE)
    factors = (row / pixel, column / pixel)
    values = [int(value) for value in np.unique(cut) if value]
    organs = {value: _share(cut == value, factors) for value in values}
    heat = [_zoom(each.astype(np.float32) / 255, factors) for each in uncertain]
    return Plane(
        name,
        _zoom(image.astype(np.float32), factors),
        organs,
        pixel,
        MARKS[name],
        index,
        labels.shape[axis],
        heat[0] if heat else None,
    )


def _share(mask: NDArray[np.bool_], factors: tuple[float, float]) -> NDArray[np.float32]:
    """Share of an organ in every pixel, without the staircase of the voxels but for less than half of one."""
    widths = [STAIR_SIGMA * factor for factor in factors]
    return ndimage.gaussian_filter(_zoom(mask.astype(np.float32), factors), widths, mode="nearest")


def _label_rows(labels: NDArray[np.unsignedinteger], step: float) -> slice:
    """Slices along k that hold labels, with a margin; all of them without labels."""
    used = np.flatnonzero(labels.any(axis=(1, 2)))
    if not used.size:
        return slice(0, labels.shape[0])
    margin = round(MARGIN_MM / step)
    return slice(max(int(used[0]) - margin, 0), int(used[-1]) + margin + 1)


def _zoom(image: NDArray[np.float32], factors: tuple[float, float]) -> NDArray[np.float32]:
    return ndimage.zoom(image, factors, order=1, mode="nearest", grid_mode=True)


def _body_box(
    image: NDArray, cut: NDArray[np.unsignedinteger], window: tuple[float, float]
) -> tuple[slice, slice]:
    """Rows and columns that hold the body or labels, with a small margin; table and sheets are thinner."""
    solid = ndimage.binary_opening(image > window[0] + 0.1 * (window[1] - window[0]), iterations=2)
    pieces, _ = ndimage.label(solid)
    sizes = np.bincount(pieces.ravel())[1:]
    body = pieces == (sizes.argmax() + 1 if sizes.size else -1)
    box = []
    for axis, size in enumerate(image.shape):
        across = 1 - axis
        used = np.flatnonzero((body.mean(axis=across) > 0.03) | np.any(cut > 0, axis=across))
        first, last = (int(used[0]), int(used[-1])) if used.size else (0, size - 1)
        margin = size // 50 + 1
        box.append(slice(max(first - margin, 0), last + margin + 1))
    return box[0], box[1]
