"""Resampling of intensities to the network's grid, and of labels back from it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import affine_transform
from scipy.sparse import csr_array

from multiorganseg.volumes.volume import Grid

SLAB_VOXELS = 1_000_000
BORDER = 0.02


@dataclass(frozen=True, eq=False)
class Resample:
    """Two grids between which values are interpolated in patient space.

    Attributes:
        source: Grid of the values before.
        target: Grid of the values after.
    """

    source: Grid
    target: Grid

    def apply(self, voxels: NDArray) -> NDArray[np.float32]:
        """Interpolate intensities linearly onto the target grid.

        Along axes that both grids share, the linear kernel is widened when the target is coarser
        (antialiasing); between rotated grids it is not. Outside the source its border value is repeated.

        Args:
            voxels: Array (k, j, i) on the source grid.

        Returns:
            Array (k, j, i), float32, on the target grid.
        """
        matrix, offset = index_map(self.target, self.source)
        if not _is_diagonal(matrix, self.target.shape):
            return affine_transform(
                voxels, matrix, offset, self.target.shape, np.float32, order=1, mode="nearest"
            )
        weights = [
            _triangle_weights(n_out, n_in, matrix[axis, axis], offset[axis])
            for axis, (n_out, n_in) in enumerate(zip(self.target.shape, self.source.shape, strict=True))
        ]
        return _apply_separable(voxels, weights)


def spacing_grid(grid: Grid, spacing: tuple[float, float, float]) -> Grid:
    """Return the grid along the same axes with another spacing and the same outer border.

    Args:
        grid: Any grid, oblique or sheared.
        spacing: Wanted distance in mm along (k, j, i).
    """
    factors = np.array(spacing) / np.array(grid.spacing)
    shape = [max(1, int(np.ceil(n / factor - 1e-6))) for n, factor in zip(grid.shape, factors, strict=True)]
    affine = grid.affine.copy()
    affine[:3, :3] = grid.affine[:3, :3] * factors[::-1]
    affine[:3, 3] = grid.to_patient(tuple(0.5 * (factors - 1)))
    return Grid((shape[0], shape[1], shape[2]), affine)


def upright_grid(grid: Grid, spacing: tuple[float, float, float]) -> Grid:
    """Return the smallest grid along the patient's axes that covers `grid`.

    Args:
        grid: Any grid, oblique or sheared.
        spacing: Wanted distance in mm along (k, j, i).
    """
    edges = np.array(np.meshgrid(*[(-0.5, n - 0.5) for n in grid.shape], indexing="ij")).reshape(3, -1).T
    points = grid.to_patient(edges)
    low, high = points.min(axis=0), points.max(axis=0)
    step_xyz = np.array(spacing[::-1])
    i, j, k = np.maximum(1, np.ceil((high - low) / step_xyz - 1e-6)).astype(int)
    affine = np.diag([*step_xyz, 1.0])
    affine[:3, 3] = low + 0.5 * step_xyz
    return Grid((int(k), int(j), int(i)), affine)


def index_map(source: Grid, target: Grid) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the matrix (3, 3) and offset (3,) from (k, j, i) indices of `source` to those of `target`."""
    offset = target.to_index(source.to_patient((0.0, 0.0, 0.0)))
    columns = [target.to_index(source.to_patient(tuple(unit))) - offset for unit in np.eye(3)]
    return np.stack(columns, axis=1), offset


def restore_labels(
    labels: NDArray[np.unsignedinteger], source: Grid, target: Grid
) -> NDArray[np.unsignedinteger]:
    """Bring labels onto a finer grid with smooth borders.

    Each target voxel takes the label with the largest linearly interpolated membership, the same as the
    argmax over linearly interpolated one-hot volumes. Only cells whose eight corners differ are
    interpolated, so that time does not grow with the number of classes and memory not with the volume.

    Args:
        labels: Array (k, j, i) on the source grid.
        source: The network's grid.
        target: The grid wanted.

    Returns:
        Labels (k, j, i) on the target grid; 0 more than half a voxel outside the source, whose border is
        repeated up to there, so that an organ cut by the field of view reaches its edge.
    """
    padded = np.pad(labels, 1, mode="edge")
    mixed = _mixed_cells(padded)
    matrix, offset = index_map(target, source)
    result = np.zeros(target.shape, labels.dtype)
    for start, stop in _slabs(target.shape):
        cells, fractions, inside = _cells(matrix, offset + 1.0, (start, stop), target.shape, padded.shape)
        slab = np.where(inside, padded[cells], 0)
        where = np.nonzero(mixed[cells] & inside)
        if where[0].size:
            corner = [np.broadcast_to(c, slab.shape)[where] for c in cells]
            fraction = [np.broadcast_to(f, slab.shape)[where].astype(np.float32) for f in fractions]
            slab[where] = _vote(padded, corner, fraction)
        result[start:stop] = slab
    return result


def restore_labels_nearest(
    labels: NDArray[np.unsignedinteger], source: Grid, target: Grid
) -> NDArray[np.unsignedinteger]:
    """Bring labels onto another grid by nearest neighbour; 0 outside the source."""
    matrix, offset = index_map(target, source)
    return affine_transform(labels, matrix, offset, target.shape, order=0, mode="grid-constant", cval=0)


def _is_diagonal(matrix: NDArray[np.float64], shape: tuple[int, ...]) -> bool:
    drift = np.abs(matrix - np.diag(np.diag(matrix))) @ np.array(shape, dtype=float)
    return bool(drift.max() < 1e-2)


def _triangle_weights(n_out: int, n_in: int, scale: float, offset: float) -> csr_array:
    centres = np.clip(scale * np.arange(n_out) + offset, 0, n_in - 1)
    distance = np.abs(np.arange(n_in)[None, :] - centres[:, None]) / max(1.0, abs(scale))
    weights = np.maximum(0.0, 1.0 - distance)
    return csr_array((weights / weights.sum(axis=1, keepdims=True)).astype(np.float32))


def _apply_separable(voxels: NDArray, weights: list[csr_array]) -> NDArray[np.float32]:
    along_k, along_j, along_i = weights
    result = np.zeros((along_k.shape[0], along_j.shape[0], along_i.shape[0]), np.float32)
    from_slice = along_k.T.tocsr()
    for k, plane in enumerate(voxels):
        resampled = (along_i @ (along_j @ plane.astype(np.float32)).T).T
        outputs = slice(from_slice.indptr[k], from_slice.indptr[k + 1])
        for row, weight in zip(from_slice.indices[outputs], from_slice.data[outputs], strict=True):
            result[row] += weight * resampled
    return result


def _slabs(shape: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    thickness = max(1, SLAB_VOXELS // (shape[1] * shape[2]))
    for start in range(0, shape[0], thickness):
        yield start, min(shape[0], start + thickness)


def _mixed_cells(labels: NDArray) -> NDArray[np.bool_]:
    low = high = labels
    for axis in range(3):
        first = tuple(slice(None, -1) if a == axis else slice(None) for a in range(3))
        second = tuple(slice(1, None) if a == axis else slice(None) for a in range(3))
        low, high = np.minimum(low[first], low[second]), np.maximum(high[first], high[second])
    return low != high


def _cells(
    matrix: NDArray[np.float64],
    offset: NDArray[np.float64],
    slab: tuple[int, int],
    shape: tuple[int, int, int],
    padded_shape: tuple[int, ...],
) -> tuple[tuple[NDArray, ...], tuple[NDArray, ...], NDArray[np.bool_]]:
    index = np.ogrid[slab[0] : slab[1], 0 : shape[1], 0 : shape[2]]
    diagonal = _is_diagonal(matrix, shape)
    cells, fractions = [], []
    inside: NDArray[np.bool_] = np.ones((1, 1, 1), bool)
    for axis in range(3):
        terms = [axis] if diagonal else range(3)
        position = offset[axis] + sum(matrix[axis, term] * index[term] for term in terms)
        limit = padded_shape[axis] - 1
        inside = inside & (position > 0.5 - BORDER) & (position < limit - 0.5 + BORDER)
        cell = np.clip(np.floor(position).astype(np.intp), 0, limit - 1)
        cells.append(cell)
        fractions.append(np.clip(position - cell, 0, 1))
    return tuple(cells), tuple(fractions), inside


def _vote(padded: NDArray, corner: list[NDArray], fraction: list[NDArray]) -> NDArray:
    corners = [(dk, dj, di) for dk in (0, 1) for dj in (0, 1) for di in (0, 1)]
    labels = [padded[corner[0] + dk, corner[1] + dj, corner[2] + di] for dk, dj, di in corners]
    sides = [(1 - f, f) for f in fraction]
    weights = [sides[0][dk] * sides[1][dj] * sides[2][di] for dk, dj, di in corners]
    best = np.zeros(labels[0].shape, np.float32)
    winner = labels[0].copy()
    for candidate in labels:
        score = sum(weight * (label == candidate) for label, weight in zip(labels, weights, strict=True))
        better = score > best
        winner[better] = candidate[better]
        best = np.maximum(best, score)
    return winner
