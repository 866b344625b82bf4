"""Agreement of two masks by the voxels that they share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def dice(prediction: NDArray[np.bool_], reference: NDArray[np.bool_]) -> float:
    """Dice similarity coefficient, 2·|P∩R| / (|P|+|R|) (Dice 1945).

    Args:
        prediction: Boolean mask of any shape.
        reference: Boolean mask of the same shape.

    Returns:
        A value in [0, 1]; 0 when exactly one mask is empty, NaN when both are.
    """
    total = np.count_nonzero(prediction) + np.count_nonzero(reference)
    if total == 0:
        return float("nan")
    return 2.0 * np.count_nonzero(prediction & reference) / total


def volume_error_percent(prediction: NDArray[np.bool_], reference: NDArray[np.bool_]) -> float:
    """Signed volume error, 100·(|P|−|R|) / |R|.

    Args:
        prediction: Boolean mask of any shape.
        reference: Boolean mask of the same shape.

    Returns:
        Per cent in [−100, ∞): positive when the prediction is too large; NaN when the reference is empty.
    """
    expected = np.count_nonzero(reference)
    if expected == 0:
        return float("nan")
    return 100.0 * (np.count_nonzero(prediction) - expected) / expected


def jaccard(prediction: NDArray[np.bool_], reference: NDArray[np.bool_]) -> float:
    """Jaccard index, |P∩R| / |P∪R| (Jaccard 1912).

    Args:
        prediction: Boolean mask of any shape.
        reference: Boolean mask of the same shape.

    Returns:
        A value in [0, 1]; 0 when exactly one mask is empty, NaN when both are.
    """
    union = np.count_nonzero(prediction | reference)
    if union == 0:
        return float("nan")
    return np.count_nonzero(prediction & reference) / union
