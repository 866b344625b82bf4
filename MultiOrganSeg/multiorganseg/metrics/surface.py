"""Distances between the surfaces of two masks, measured between boundary voxels."""

from __future__ import annotations

from dataclasses import dataclass

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
