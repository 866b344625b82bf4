"""Geodesic distance by raster scans.

Source: Toivanen, New geodesic distance transforms for gray-scale images (1996), plane by plane as in Asad
et al., FastGeodis (2022).
"""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray


def geodesic_distance(
    cost: NDArray[np.float32],
    seeds: NDArray[np.bool_],
    spacing: tuple[float, float, float],
    sweeps: int = 2,
) -> NDArray[np.float32]:
    """Return the length of the cheapest path from each voxel to a seed.

    Args:
        cost: Array (k, j, i): what a mm costs in each voxel, at least 0.
        seeds: Where the distance is 0; at least one voxel.
        spacing: mm along (k, j, i).
        sweeps: How often all six directions are scanned; one sweep finds paths that turn back once.
    """
    distance = np.where(seeds, np.float32(0), np.float32(np.inf))
    for _ in range(sweeps):
        for axis in range(3):
            view, weight = np.moveaxis(distance, axis, 0), np.moveaxis(cost, axis, 0)
            across = [spacing[other] for other in range(3) if other != axis]
            for step in (1, -1):
                _scan(view[::step], weight[::step], spacing[axis], across)
    return distance


def _scan(
    distance: NDArray[np.float32], cost: NDArray[np.float32], along: float, across: list[float]
) -> None:
    rows, columns = distance.shape[1:]
    lengths = {
        (dr, dc): np.float32(np.sqrt(along**2 + (dr * across[0]) ** 2 + (dc * across[1]) ** 2))
        for dr, dc in product((-1, 0, 1), repeat=2)
    }
    padded = np.full((rows + 2, columns + 2), np.inf, np.float32)
    for plane in range(1, len(distance)):
        padded[1:-1, 1:-1] = distance[plane - 1]
        mean = 0.5 * (cost[plane - 1] + cost[plane])
        best = distance[plane]
        for (dr, dc), length in lengths.items():
            came = padded[1 + dr : 1 + dr + rows, 1 + dc : 1 + dc + columns]
            np.minimum(best, came + length * mean, out=best)
