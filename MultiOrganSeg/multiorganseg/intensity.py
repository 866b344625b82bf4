"""Intensities as the networks see them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

AIR = -1.0


def map_window(voxels: NDArray[np.float32], window: tuple[float, float]) -> NDArray[np.float32]:
    """Clip to a window and map it linearly to [−1, 1].

    Args:
        voxels: Array of any shape, in HU for CT; left unchanged.
        window: Lower and upper end.
    """
    low, high = window
    mapped = np.clip(voxels, low, high)
    mapped -= low
    mapped *= 2 / (high - low)
    mapped -= 1
    return mapped


def zscore(voxels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Subtract the mean of the volume and divide by its standard deviation."""
    return (voxels - voxels.mean()) / max(float(voxels.std()), 1e-6)
