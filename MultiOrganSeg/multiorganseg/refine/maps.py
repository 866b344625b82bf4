"""What a network said of a volume beside its labels, kept for corrections."""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import affine_transform, map_coordinates

from multiorganseg.atomic import atomic_path
from multiorganseg.errors import VolumeError
from multiorganseg.geometry.canonical import plan_canonical
from multiorganseg.geometry.orient import reorient
from multiorganseg.geometry.resample import index_map
from multiorganseg.organs.labels import LabelTable
from multiorganseg.volumes.volume import Grid, Volume

Box = tuple[slice, slice, slice]


@dataclass(frozen=True, eq=False)
class GridMap:
    """Values of one or more channels on a grid of their own.

    Attributes:
        values: float16 (channels, k, j, i).
        grid: Where the voxels (k, j, i) lie.
    """

    values: NDArray[np.float16]
    grid: Grid

    def cover(self, points: Grid) -> Box:
        """Return the smallest box of this map from which `points` can be interpolated; not empty."""
        corners = np.array(np.meshgrid(*[(0, n - 1) for n in points.shape], indexing="ij")).reshape(3, -1).T
        index = self.grid.to_index(points.to_patient(corners))
        low = np.floor(index.min(axis=0)).astype(int)
        high = np.ceil(index.max(axis=0)).astype(int) + 1
        k, j, i = (
            slice(min(max(first, 0), size - 1), max(min(last, size), min(max(first, 0), size - 1) + 1))
            for first, last, size in zip(low, high, self.grid.shape, strict=True)
        )
        return k, j, i


def interpolate(
    values: NDArray[np.floating], start: NDArray, grid: Grid, points: Grid
) -> NDArray[np.float32]:
    """Interpolate a cut-out of a map linearly; its border value is repeated outside.

    Args:
        values: Array (k, j, i), the cut-out.
        start: Index (k, j, i) of its first voxel in `grid`.
        grid: Of the whole map.
        points: Where the values are wanted.
    """
    matrix, offset = index_map(points, grid)
    offset = offset - start
    drift = np.abs(matrix - np.diag(np.diag(matrix))) @ np.array(points.shape, dtype=float)
    if drift.max() < 1e-2:
        result = values.astype(np.float32, copy=False)
        for axis in range(3):
            position = np.clip(
                matrix[axis, axis] * np.arange(points.shape[axis]) + offset[axis], 0, values.shape[axis] - 1
            )
            result = _along(result, position, axis)
        return result
    coordinates = np.tensordot(matrix, np.indices(points.shape), axes=1) + offset[:, None, None, None]
    return map_coordinates(values.astype(np.float32, copy=False), coordinates, order=1, mode="nearest")


def nearest(labels: NDArray, start: NDArray, grid: Grid, points: Grid) -> NDArray:
    """Return the nearest label for each of `points`; arguments as of `interpolate`, 0 outside the cut-out."""
    matrix, offset = index_map(points, grid)
    offset = offset - start
    return affine_transform(labels, matrix, offset, points.shape, order=0, mode="constant", cval=0)


def _along(values: NDArray[np.float32], position: NDArray[np.float64], axis: int) -> NDArray[np.float32]:
    if position.size == values.shape[axis] and np.allclose(position, np.arange(position.size), atol=1e-4):
        return values
    low = np.clip(np.floor(position).astype(int), 0, max(0, values.shape[axis] - 2))
    high = np.minimum(low + 1, values.shape[axis] - 1)
    share = (position - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
    first, second = np.take(values, low, axis), np.take(values, high, axis)
    return first + share * (second - first)


@dataclass(frozen=True, eq=False)
class NetworkMaps:
    """Image, scores and features of an automatic run.

    Attributes:
        image: Normalised intensities, one channel, on the network's grid.
        scores: Log-probabilities of background (channel 0) and of each organ of `table`, in its order.
        features: Of the network's last layer but one; its grid may be coarser.
        table: The organs that the network knows.
        volume: Fingerprint of the volume.
    """

    image: GridMap
    scores: GridMap
    features: GridMap
    table: LabelTable
    volume: str = ""

    @property
    def grid(self) -> Grid:
        """The network's grid."""
        return self.image.grid

    @property
    def nbytes(self) -> int:
        """Bytes of all maps."""
        return sum(part.values.nbytes for part in (self.image, self.scores, self.features))

    def check(self, volume: Volume) -> None:
        """Refuse a volume of which these are not the maps.

        Raises:
            VolumeError: They are another volume's.
        """
        if self.volume != fingerprint(volume):
            msg = f"These features do not belong to {volume.source or 'this volume'}."
            raise VolumeError(msg, next_step="Delete the file; they are computed anew.")

    def sample(self, name: str, points: Grid, channel: int) -> NDArray[np.float32]:
        """Interpolate one channel of "image", "scores" or "features" at the voxels (k, j, i) of a grid."""
        part: GridMap = getattr(self, name)
        box = part.cover(points)
        start = np.array([side.start for side in box])
        return interpolate(part.values[channel][box].astype(np.float32), start, part.grid, points)

    def save(self, path: Path) -> None:
        """Write a .npz file, at once or not at all."""
        content: dict[str, Any] = {
            "organs": np.array(list(self.table.organs.items()), dtype=str).reshape(-1, 2),
            "volume": np.array(self.volume),
        }
        for name in ("image", "scores", "features"):
            part: GridMap = getattr(self, name)
            content |= {name: part.values, f"{name}_affine": part.grid.affine}
        with atomic_path(path) as partial, partial.open("wb") as file:
            np.savez(file, **content)

    @classmethod
    def load(cls, path: Path) -> NetworkMaps:
        """Read what `save` wrote.

        Raises:
            VolumeError: The file is missing, damaged or something else.
        """
        try:
            with np.load(path, allow_pickle=False) as content:
                table = LabelTable({int(value): str(key) for value, key in content["organs"]})
                volume = str(content["volume"])
                parts = [_read_map(content[name], content[f"{name}_affine"]) for name in _PARTS]
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            msg = f"The features in {path} cannot be read."
            raise VolumeError(
                msg, cause=str(error), next_step="Delete the file; they are computed anew."
            ) from error
        return cls(parts[0], parts[1], parts[2], table, volume)


_PARTS = ("image", "scores", "features")


def _read_map(values: NDArray, affine: NDArray) -> GridMap:
    _, k, j, i = values.shape
    return GridMap(values, Grid((k, j, i), affine))


def fingerprint(volume: Volume) -> str:
    """Return a text that tells a volume from others: of its place, its size and a part of its voxels."""
    digest = hashlib.sha256(repr((volume.grid.shape, np.round(volume.affine, 4).tolist())).encode())
    digest.update(np.ascontiguousarray(volume.voxels[::4, ::4, ::4]).tobytes())
    return digest.hexdigest()


def plain_maps(volume: Volume) -> NetworkMaps:
    """Return maps of a volume that no network has seen: its intensities alone, on cells of 1.5 mm or more.

    Intensities go linearly to -1…1 between the percentiles 1 and 99 of what lies above the darkest tenth of
    their range, so that air does not count.
    """
    grid = reorient(volume.grid).target
    spacing = (max(3.0, grid.spacing[0]), max(1.5, grid.spacing[1]), max(1.5, grid.spacing[2]))
    fine = (min(spacing[0], max(1.5, grid.spacing[0])), spacing[1], spacing[2])
    canonical = plan_canonical(volume.voxels, volume.grid, fine, None)
    image = canonical.apply(volume.voxels)
    low, high = float(image.min()), float(image.max())
    body = image[image > low + 0.1 * (high - low)]
    first, last = np.percentile(body, (1, 99)) if body.size else (low, high)
    image = np.clip((image - first) / max(last - first, 1e-6) * 2 - 1, -1, 1)
    none = np.zeros((0, 1, 1, 1), np.float16)
    nothing = GridMap(none, Grid((1, 1, 1), canonical.grid.affine))
    return NetworkMaps(
        GridMap(image[None].astype(np.float16), canonical.grid),
        nothing,
        nothing,
        LabelTable({}),
        fingerprint(volume),
    )
