"""The rival of vote restoration: linear interpolation of one class after the other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from multiorganseg.geometry.resample import Resample
from multiorganseg.volumes.volume import Grid


def restore_labels_linear(
    labels: NDArray[np.unsignedinteger], source: Grid, target: Grid
) -> NDArray[np.unsignedinteger]:
    """Interpolate each class's membership over the whole target and keep a running maximum.

    Only classes that occur are interpolated. Memory does not grow with their number, time does.

    Args:
        labels: Array (k, j, i) on the source grid.
        source: The network's grid.
        target: The grid wanted.
    """
    step = Resample(source, target)
    best = np.zeros(target.shape, np.float32)
    winner = np.zeros(target.shape, labels.dtype)
    for value in np.flatnonzero(np.bincount(labels.ravel())):
        membership = step.apply((labels == value).astype(np.float32))
        better = membership > best
        winner[better] = value
        np.maximum(best, membership, out=best)
    return winner
