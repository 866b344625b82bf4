"""Jaccard index of two masks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


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
