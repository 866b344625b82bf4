"""Hausdorff distance slice by slice, as LTUDA reports it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from multiorganseg.metrics.surface import nearest_distances

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
