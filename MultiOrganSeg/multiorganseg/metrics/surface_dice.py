"""Normalised surface distance: which share of the surface lies where it should."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from multiorganseg.metrics.surface import Spacing, nearest_distances

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
