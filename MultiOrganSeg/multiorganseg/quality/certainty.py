"""What the network itself says about each organ that it found, on the network's grid."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from multiorganseg.organs.labels import LabelTable

SHELL_VOXELS = 1


def mean_confidence(
    labels: NDArray[np.unsignedinteger], confidence: NDArray[np.uint8], table: LabelTable
) -> dict[str, float]:
    """Return the mean probability of each organ over its voxels.

    Args:
        labels: Label values (k, j, i).
        confidence: Probability of the label (k, j, i), 0…255 for 0…1.
        table: What the values mean.

    Returns:
        By organ key, in [0, 1]; organs without voxels are not in it.
    """
    counts = np.zeros(max(table.organs) + 1)
    sums = np.zeros(max(table.organs) + 1)
    for plane, certainty in zip(labels, confidence, strict=True):
        counts += np.bincount(plane.ravel(), minlength=len(counts))
        sums += np.bincount(plane.ravel(), certainty.ravel(), minlength=len(counts))
    return {
        key: float(sums[value] / counts[value] / 255) for value, key in table.organs.items() if counts[value]
    }


def mean_uncertainty(
    labels: NDArray[np.unsignedinteger], uncertainty: NDArray[np.uint8], table: LabelTable
) -> dict[str, float]:
    """Return the mean uncertainty of each organ over its voxels and a shell around them.

    The shell are the voxels of other labels that share a face with the organ: there stands what the network
    nearly called the organ, and the organ's own voxels would not tell.

    Args:
        labels: Label values (k, j, i).
        uncertainty: Of each voxel (k, j, i), 0…255 for 0…1.
        table: What the values mean.

    Returns:
        By organ key, in [0, 1]; organs without voxels are not in it.
    """
    means = {}
    for value, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None or value not in table.organs:
            continue
        wider = tuple(slice(max(0, side.start - SHELL_VOXELS), side.stop + SHELL_VOXELS) for side in box)
        organ = ndimage.binary_dilation(labels[wider] == value, iterations=SHELL_VOXELS)
        means[table.organs[value]] = float(uncertainty[wider][organ].mean() / 255)
    return means
