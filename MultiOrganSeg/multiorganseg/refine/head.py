"""A linear classifier of voxels, fitted anew at each prompt to what the network says of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multiorganseg.refine.maps import GridMap, NetworkMaps, interpolate
from multiorganseg.volumes.volume import Grid

NEWTON_STEPS = 6
RIDGE = 0.02
INTENSITY_CENTRES = np.linspace(-0.9, 0.9, 7, dtype=np.float32)
INTENSITY_WIDTH = 0.3


@dataclass(frozen=True, eq=False)
class Samples:
    """Voxels whose side is known, more or less.

    Attributes:
        points: (n, 3) LPS mm.
        positive: (n,) whether they belong to the organ.
        weights: (n,) how far that is believed.
    """

    points: NDArray[np.float64]
    positive: NDArray[np.bool_]
    weights: NDArray[np.float64]


class Head:
    """Logistic regression on features, scores and intensity, by weighted Newton steps with a ridge.

    It is linear on each map, so that it is evaluated on the map's own grid and only its one value a voxel is
    interpolated.

    Args:
        maps: What the network said.
        samples: Voxels of both sides.
        offset: (n,) log-odds that hold before anything is learned.
    """

    def __init__(self, maps: NetworkMaps, samples: Samples, ridge: float = RIDGE) -> None:
        self._maps = maps
        raw = _columns(maps, samples.points)
        weights = samples.weights / samples.weights.sum()
        self._mean = weights @ raw
        self._scale = np.sqrt(weights @ (raw - self._mean) ** 2) + 1e-3
        design = np.concatenate([(raw - self._mean) / self._scale, np.ones((len(raw), 1))], axis=1)
        self._coefficients = _fit(design, samples.positive.astype(float), weights, ridge)

    def log_odds(self, points: Grid) -> NDArray[np.float32]:
        """Return the log-odds (k, j, i) that voxels of a grid belong to the organ."""
        slopes = self._coefficients[:-1] / self._scale
        constant = self._coefficients[-1] - float(self._mean @ slopes)
        features, scores, intensity = np.split(
            slopes.astype(np.float32),
            np.cumsum([len(self._maps.features.values), len(self._maps.scores.values)]),
        )
        result = np.full(points.shape, constant, np.float32)
        for part, slope in ((self._maps.features, features), (self._maps.scores, scores)):
            if len(slope):
                result += _weighted(part, slope, points)
        result += _weighted_image(self._maps.image, intensity, points)
        return result


def _fit(
    design: NDArray[np.float64], wanted: NDArray[np.float64], weights: NDArray[np.float64], ridge: float
) -> NDArray[np.float64]:
    count = design.shape[1]
    penalty = np.full(count, ridge)
    penalty[-1] = 1e-4
    coefficients = np.zeros(count)
    for _ in range(NEWTON_STEPS):
        odds = np.clip(design @ coefficients, -30, 30)
        chance = 1 / (1 + np.exp(-odds))
        gradient = design.T @ (weights * (chance - wanted)) + penalty * coefficients
        curvature = (design * (weights * chance * (1 - chance))[:, None]).T @ design + np.diag(penalty)
        step = np.linalg.solve(curvature, gradient)
        coefficients -= step * min(1.0, 5.0 / (np.abs(step).max() + 1e-9))
    return coefficients


def intensity_basis(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return bumps (n, 7) over normalised intensities (n,) in -1…1."""
    return np.exp(-0.5 * ((values[..., None] - INTENSITY_CENTRES) / INTENSITY_WIDTH) ** 2)


def _columns(maps: NetworkMaps, points: NDArray[np.float64]) -> NDArray[np.float64]:
    parts = [_at(maps.features, points), _at(maps.scores, points)]
    parts.append(intensity_basis(_at(maps.image, points)[:, 0]))
    return np.concatenate(parts, axis=1).astype(np.float64)


def _at(part: GridMap, points: NDArray[np.float64]) -> NDArray[np.float32]:
    """Nearest values (n, channels) at LPS points (n, 3)."""
    index = np.rint(part.grid.to_index(points)).astype(int)
    k, j, i = (np.clip(axis, 0, size - 1) for axis, size in zip(index.T, part.grid.shape, strict=True))
    return part.values[:, k, j, i].T.astype(np.float32)


def _weighted(part: GridMap, slope: NDArray[np.float32], points: Grid) -> NDArray[np.float32]:
    box = part.cover(points)
    total = np.zeros(tuple(s.stop - s.start for s in box), np.float32)
    for channel, factor in zip(part.values, slope, strict=True):
        total += factor * channel[box].astype(np.float32)
    return interpolate(total, np.array([s.start for s in box]), part.grid, points)


def _weighted_image(part: GridMap, slope: NDArray[np.float32], points: Grid) -> NDArray[np.float32]:
    box = part.cover(points)
    image = interpolate(
        part.values[0][box].astype(np.float32), np.array([s.start for s in box]), part.grid, points
    )
    table_at = np.linspace(-1.2, 1.2, 241, dtype=np.float32)
    table = intensity_basis(table_at) @ slope
    return np.interp(image, table_at, table).astype(np.float32)
