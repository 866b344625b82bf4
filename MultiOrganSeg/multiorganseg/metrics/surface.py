"""Distances between the surfaces of two masks: in mm, in voxels, slice by slice, and within a tolerance."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import KDTree

Spacing = tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class SurfaceDistances:
    """Nearest distances in mm from every boundary voxel of one mask to the boundary of the other.

    Attributes:
        from_prediction: One distance for each boundary voxel of the prediction.
        from_reference: One distance for each boundary voxel of the reference.
    """

    from_prediction: NDArray[np.float64]
    from_reference: NDArray[np.float64]

    @property
    def hd95(self) -> float:
        """See the function `hd95`."""
        if self.from_prediction.size == 0:
            return float("nan")
        return float(max(np.percentile(self.from_prediction, 95), np.percentile(self.from_reference, 95)))

    @property
    def average(self) -> float:
        """See `average_surface_distance`."""
        if self.from_prediction.size == 0:
            return float("nan")
        return float(np.concatenate([self.from_prediction, self.from_reference]).mean())


def surface_distances(
    prediction: NDArray[np.bool_], reference: NDArray[np.bool_], spacing: Spacing
) -> SurfaceDistances:
    """Measure both directed surface distances.

    A boundary voxel is a mask voxel with a face neighbour outside the mask; what lies beyond the array
    counts as outside. Only boundary voxels are searched (k-d tree), so the cost follows the surfaces and
    not the volume.

    Args:
        prediction: Boolean mask (k, j, i).
        reference: Boolean mask of the same shape.
        spacing: Distance of voxel centres along (k, j, i) in mm; the axes are taken as perpendicular.

    Returns:
        The distances; both arrays are empty when either mask is.
    """
    points = [_boundary(mask) * np.asarray(spacing) for mask in (prediction, reference)]
    if min(len(each) for each in points) == 0:
        return SurfaceDistances(np.empty(0), np.empty(0))
    return SurfaceDistances(nearest_distances(points[0], points[1]), nearest_distances(points[1], points[0]))


def hd95(prediction: NDArray[np.bool_], reference: NDArray[np.bool_], spacing: Spacing) -> float:
    """95th percentile of the Hausdorff distance: the larger of the two directed percentiles.

    Args:
        prediction: Boolean mask (k, j, i).
        reference: Boolean mask of the same shape.
        spacing: See `surface_distances`.

    Returns:
        Millimetres; NaN when either mask is empty, since no distance exists then.
    """
    return surface_distances(prediction, reference, spacing).hd95


def average_surface_distance(
    prediction: NDArray[np.bool_], reference: NDArray[np.bool_], spacing: Spacing
) -> float:
    """Average symmetric surface distance: the mean over the boundary voxels of both masks together.

    Args:
        prediction: Boolean mask (k, j, i).
        reference: Boolean mask of the same shape.
        spacing: See `surface_distances`.

    Returns:
        Millimetres; NaN when either mask is empty.
    """
    return surface_distances(prediction, reference, spacing).average


def nearest_distances(points: NDArray[np.float64], targets: NDArray[np.float64]) -> NDArray[np.float64]:
    """Euclidean distance (n,) from each of the points (n, 3) to the nearest of the targets (m, 3), m ≥ 1."""
    tree = KDTree(targets, balanced_tree=False, compact_nodes=False)
    return tree.query(points)[0]


def _boundary(mask: NDArray[np.bool_]) -> NDArray[np.intp]:
    return np.argwhere(mask & ~ndimage.binary_erosion(mask))


ROUNDING_MM = 1e-6


def normalized_surface_distance(
    prediction: NDArray[np.bool_],
    reference: NDArray[np.bool_],
    spacing: Spacing,
    tolerance_mm: float = 2.0,
) -> float:
    """Surface Dice at a tolerance (Nikolov et al. 2021, doi:10.2196/26151), weighted by surface area.

    The surface is that of DeepMind's `surface-distance`: every 2×2×2 neighbourhood that the mask fills in
    part carries the area of its marching-cubes facets. The table of areas is MONAI's copy of theirs.
    Distances that exceed the tolerance by rounding of the spacing alone (10⁻⁶ mm) count as within.

    Args:
        prediction: Boolean mask (k, j, i); what lies beyond the array counts as outside.
        reference: Boolean mask of the same shape.
        spacing: Distance of voxel centres along (k, j, i) in mm; the axes are taken as perpendicular.
        tolerance_mm: Deviation in mm that is accepted, ≥ 0.

    Returns:
        The accepted share of both surfaces' area in [0, 1]; 0 when exactly one mask is empty, NaN when both
        are.
    """
    surfaces = [_surface_elements(mask, spacing) for mask in (prediction, reference)]
    total = sum(float(areas.sum()) for _, areas in surfaces)
    if total == 0.0:
        return float("nan")
    (points, areas), (other_points, other_areas) = surfaces
    if len(points) == 0 or len(other_points) == 0:
        return 0.0
    accepted = tolerance_mm + ROUNDING_MM
    within = areas[nearest_distances(points, other_points) <= accepted].sum()
    within += other_areas[nearest_distances(other_points, points) <= accepted].sum()
    return float(within / total)


def _surface_elements(
    mask: NDArray[np.bool_], spacing: Spacing
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Positions (n, 3) in mm and areas (n,) in mm² of the neighbourhoods that the surface crosses."""
    kernel, table = _areas_by_code(spacing)
    padded = np.pad(mask, 1).view(np.uint8)
    codes = np.zeros([n - 1 for n in padded.shape], dtype=np.uint8)
    for corner in np.ndindex(2, 2, 2):
        window = tuple(slice(start, start + n) for start, n in zip(corner, codes.shape, strict=True))
        codes += padded[window] * kernel[corner]
    crossed = (codes != 0) & (codes != 255)
    return np.argwhere(crossed) * np.asarray(spacing), table[codes[crossed]]


@lru_cache(maxsize=8)
def _areas_by_code(spacing: Spacing) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Corner weights (2, 2, 2) that make up a neighbourhood's code, and the area in mm² for each code."""
    from monai.metrics.utils import get_code_to_measure_table

    table, kernel = get_code_to_measure_table(spacing)
    return kernel.numpy().reshape(2, 2, 2).astype(np.uint8), table.numpy().astype(np.float64)


IN_PLANE = ndimage.generate_binary_structure(2, 1)[None]


@dataclass(frozen=True)
class SliceHausdorff:
    """Hausdorff distances of slices.

    Attributes:
        mean: Mean over the slices that were measured, in pixels; NaN when there is none.
        slices: How many slices the reference's range along k has.
        skipped: How many of them were not measured, since one of the masks has no pixel there.
    """

    mean: float
    slices: int
    skipped: int


def slice_hausdorff(prediction: NDArray[np.bool_], reference: NDArray[np.bool_]) -> SliceHausdorff:
    """Average the Hausdorff distance in the plane over the slices from the reference's first to its last.

    What LTUDA (Jiang et al. 2024) reports: the largest distance, not a percentile; pixels, not mm; slices
    without a prediction are left out, and what is predicted beyond the reference's range too. So it is
    optimistic: an organ that is missed on half of its slices costs nothing. A slice in the range where the
    reference itself is empty, between two kidneys, has no distance either.

    Args:
        prediction: Boolean mask (k, j, i).
        reference: Boolean mask of the same shape.

    Returns:
        Distances between boundary pixels, which have a neighbour in the plane outside the mask, in pixels.
    """
    planes = np.flatnonzero(reference.any(axis=(1, 2)))
    if planes.size == 0:
        return SliceHausdorff(float("nan"), 0, 0)
    span = slice(int(planes[0]), int(planes[-1]) + 1)
    borders = [mask & ~ndimage.binary_erosion(mask, IN_PLANE) for mask in (prediction[span], reference[span])]
    distances = []
    for pair in zip(*borders, strict=True):
        predicted, expected = (np.argwhere(border[None]).astype(np.float64) for border in pair)
        if len(predicted) and len(expected):
            there, back = nearest_distances(predicted, expected), nearest_distances(expected, predicted)
            distances.append(max(there.max(), back.max()))
    slices = span.stop - span.start
    mean = float(np.mean(distances)) if distances else float("nan")
    return SliceHausdorff(mean, slices, slices - len(distances))


VOXEL = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class VoxelDistances:
    """Distances in voxels; NaN when either mask is empty.

    Attributes:
        hd95: 95th percentile of the distances of both directions together.
        asd: Mean distance from the prediction's boundary to the reference's, in this direction alone.
    """

    hd95: float
    asd: float


def voxel_distances(prediction: NDArray[np.bool_], reference: NDArray[np.bool_]) -> VoxelDistances:
    """Measure as medpy's `hd95` and `asd` do without a spacing.

    Semi-supervised segmentation of the left atrium is compared by these (Yu et al. 2019 and those who
    followed). They differ from `hd95` and `average_surface_distance` in how the directions are joined.

    Args:
        prediction: Boolean mask (k, j, i).
        reference: Boolean mask of the same shape.
    """
    distances = surface_distances(prediction, reference, VOXEL)
    there, back = distances.from_prediction, distances.from_reference
    if there.size == 0:
        return VoxelDistances(float("nan"), float("nan"))
    return VoxelDistances(float(np.percentile(np.concatenate([there, back]), 95)), float(there.mean()))
