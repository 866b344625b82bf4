"""Where the network's windows lie, and how much each of their voxels counts."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CENTRE_SIGMA = 0.25
SMALLEST_WEIGHT = 1e-2

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class WindowPlan:
    """Overlapping windows that cover a volume.

    Attributes:
        shape: Of the volume after padding, (k, j, i); no axis is shorter than the window.
        window: Voxels of a window, (k, j, i).
        starts: First voxel of the windows along each axis, ascending; the last window ends at the border.
    """

    shape: Shape
    window: Shape
    starts: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]

    @property
    def count(self) -> int:
        """Number of windows."""
        return math.prod(len(starts) for starts in self.starts)


def plan_windows(shape: Shape, window: Shape, overlap: float) -> WindowPlan:
    """Spread windows evenly so that neighbours share at least `overlap` of their length.

    Neighbours are at least a voxel apart, so that windows of a single slice do not overlap along k.

    Args:
        shape: Of the volume, (k, j, i).
        window: Voxels of a window.
        overlap: Share in [0, 1).
    """
    padded = [max(size, length) for size, length in zip(shape, window, strict=True)]
    starts = []
    for size, length in zip(padded, window, strict=True):
        steps = min(math.ceil((size - length) / (length * (1 - overlap)) - 1e-9), size - length)
        starts.append(tuple(round(n * (size - length) / max(1, steps)) for n in range(steps + 1)))
    return WindowPlan((padded[0], padded[1], padded[2]), window, (starts[0], starts[1], starts[2]))


def plan_fixed_windows(shape: Shape, window: Shape, overlap: float) -> WindowPlan:
    """Lay windows at a constant step, the last one moved in so that it ends at the border.

    Args:
        shape: Of the volume, (k, j, i).
        window: Voxels of a window.
        overlap: Share in [0, 1).
    """
    padded = [max(size, length) for size, length in zip(shape, window, strict=True)]
    starts = []
    for size, length in zip(padded, window, strict=True):
        step = max(1, int(length * (1 - overlap)))
        count = math.ceil((size - length) / step) + 1
        starts.append(tuple(min(n * step, size - length) for n in range(count)))
    return WindowPlan((padded[0], padded[1], padded[2]), window, (starts[0], starts[1], starts[2]))


def delta_weights(window: Shape) -> NDArray[np.float32]:
    """Return nnU-Net's weights: a Gaussian of an eighth of the window about voxel n // 2, at most 10.

    They are rounded to half precision, as there; where that gives 0, they are the smallest of the others.
    """
    from scipy.ndimage import gaussian_filter1d  # for converted networks alone

    weights = np.ones((1, 1, 1))
    for axis, length in enumerate(window):
        impulse = np.zeros(length)
        impulse[length // 2] = 1
        profile = gaussian_filter1d(impulse, length / 8, mode="constant") if length > 1 else impulse
        weights = weights * profile.reshape([-1 if a == axis else 1 for a in range(3)])
    rounded = (10 * weights / weights.max()).astype(np.float16)
    rounded[rounded == 0] = rounded[rounded > 0].min()
    return rounded.astype(np.float32)


def gaussian_weights(window: Shape) -> NDArray[np.float32]:
    """Return MONAI's weights: a Gaussian of an eighth of the window about its centre, at least 0.001."""
    weights = np.ones((1, 1, 1))
    for axis, length in enumerate(window):
        distance = (np.arange(length) - (length - 1) / 2) / (0.125 * length)
        weights = weights * np.exp(-0.5 * distance**2).reshape([-1 if a == axis else 1 for a in range(3)])
    return np.maximum(weights, 1e-3).astype(np.float32)


def centre_weights(window: Shape) -> NDArray[np.float32]:
    """Return the weight (k, j, i) of each voxel of a window: a Gaussian that trusts the centre most.

    The standard deviation is a quarter of the window; no weight falls below a hundredth, so that corners
    that a single window covers stay defined.
    """
    axes = []
    for length in window:
        distance = (np.arange(length) - (length - 1) / 2) / (CENTRE_SIGMA * length)
        axes.append(np.exp(-0.5 * distance**2))
    weights = axes[0][:, None, None] * axes[1][None, :, None] * axes[2][None, None, :]
    return np.maximum(weights / weights.max(), SMALLEST_WEIGHT).astype(np.float32)
