"""All that is measured of one organ in one case."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from multiorganseg.metrics import evaluate, jaccard, slice_hausdorff, voxel_distances
from multiorganseg.organs.labels import LabelTable
from multiorganseg.volumes.volume import Grid


@dataclass(frozen=True)
class OrganResult:
    """How well one organ was found; NaN where a value is not defined.

    Attributes:
        organ: Its key.
        presence: As in `OrganScore`: in both, only in reference (the prediction is empty), and so on.
        dice: In [0, 1]; 0 when only one side has voxels.
        jaccard: Likewise.
        nsd: Normalised surface distance in [0, 1]; likewise.
        hd95_mm: In mm, the larger of both directions; NaN unless both sides have voxels.
        asd_mm: Average symmetric surface distance in mm; likewise.
        hd95_voxels: As medpy measures it for the left atrium; see `voxel_distances`.
        asd_voxels: Likewise.
        hd_slice2d_ltuda: In pixels; see `slice_hausdorff`.
        slices: In the reference's range.
        slices_skipped: How many of them `hd_slice2d_ltuda` left out.
    """

    organ: str
    presence: str
    dice: float
    jaccard: float
    nsd: float
    hd95_mm: float
    asd_mm: float
    hd95_voxels: float
    asd_voxels: float
    hd_slice2d_ltuda: float
    slices: int
    slices_skipped: int


def measure_case(
    labels: NDArray[np.unsignedinteger],
    reference: NDArray[np.unsignedinteger],
    table: LabelTable,
    organs: Iterable[str],
    spacing_mm: tuple[float, float, float],
    tolerance_mm: float = 2.0,
) -> tuple[OrganResult, ...]:
    """Measure organs of a case on one grid.

    Args:
        labels: Predicted channels (k, j, i).
        reference: Annotated channels of the same shape.
        table: Meaning of both.
        organs: Keys of those that are annotated in the case.
        spacing_mm: Along (k, j, i).
        tolerance_mm: Of the normalised surface distance.

    Returns:
        One result an organ, in the order of the table.

    Raises:
        VolumeError: The shapes differ.
        OrganError: An organ is not in the table.
    """
    k, j, i = reference.shape
    grid = Grid((k, j, i), np.diag([*spacing_mm[::-1], 1.0]))
    results = []
    for score in evaluate(labels, table, reference, table, grid, tolerance_mm=tolerance_mm, organs=organs):
        value = table.value(score.key)
        predicted, expected = _cropped(labels == value, reference == value)
        voxels, slices = voxel_distances(predicted, expected), slice_hausdorff(predicted, expected)
        results.append(
            OrganResult(
                organ=score.key,
                presence=score.presence,
                dice=score.dice,
                jaccard=jaccard(predicted, expected),
                nsd=score.nsd,
                hd95_mm=score.hd95_mm,
                asd_mm=score.average_surface_distance_mm,
                hd95_voxels=voxels.hd95,
                asd_voxels=voxels.asd,
                hd_slice2d_ltuda=slices.mean,
                slices=slices.slices,
                slices_skipped=slices.skipped,
            )
        )
    return tuple(results)


def _cropped(
    predicted: NDArray[np.bool_], expected: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    (box,) = ndimage.find_objects((predicted | expected).view(np.uint8)) or [(slice(0, 0),) * 3]
    return predicted[box], expected[box]
