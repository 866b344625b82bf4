"""Volume, mean intensity, confidence and quality flags of each organ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multiorganseg.errors import VolumeError
from multiorganseg.organs.catalogue import Catalogue, Organ
from multiorganseg.organs.labels import LabelTable, left_right_pairs
from multiorganseg.quality import flags
from multiorganseg.quality.components import Fragmentation
from multiorganseg.quality.statistics import OrganStatistics
from multiorganseg.volumes.volume import Grid, Volume

CUT_AREA_MM2 = 20.0
PADDING_BELOW_HU = -1500.0
CONFIDENCE_FLOOR = 0.6
KEPT_SHARE_FLOOR = 0.8
SURPLUS_PIECES_LIMIT = 4
SLAB_VOXELS = 4_000_000


@dataclass(frozen=True, eq=False)
class _Sums:
    """Sums over the voxels of each label value, indexed by value.

    Attributes:
        voxels: Counts (n,).
        intensity: Sums of the intensities (n,).
        index: Sums of the (k, j, i) indices (n, 3).
        border_mm2: Area (n,) in mm² in which the organ meets the edge of the image.
    """

    voxels: NDArray[np.int64]
    intensity: NDArray[np.float64]
    index: NDArray[np.float64]
    border_mm2: NDArray[np.float64]


def measure(
    labels: NDArray[np.unsignedinteger],
    volume: Volume,
    table: LabelTable,
    confidence: Mapping[str, float],
    catalogue: Catalogue,
    fragmentation: Mapping[str, Fragmentation] | None = None,
    uncertainty: Mapping[str, float] | None = None,
) -> tuple[OrganStatistics, ...]:
    """Measure every organ of the table in one pass over the volume, slab by slab.

    An organ is called cut when it meets the faces of the array, or in-plane the padding that scanners put
    around a round field of view (below −1500 HU), in more than 20 mm². Its volume is then not judged.

    Args:
        labels: Label values (k, j, i), after cleaning.
        volume: The input on the same grid, in HU for CT.
        table: What the values mean.
        confidence: Mean probability by organ key, in [0, 1]; an organ that is not in it gets NaN.
        catalogue: Where the plausible volumes are said.
        fragmentation: From `keep_components`; without it no organ is called fragmented.
        uncertainty: Mean uncertainty by organ key, in [0, 1]; an organ that is not in it gets NaN, and all
            get None without it.

    Returns:
        One entry for each organ of the table, in its order.

    Raises:
        VolumeError: Labels and volume differ in shape.
        OrganError: An organ of the table is not in the catalogue.
    """
    grid = volume.grid
    if labels.shape != grid.shape:
        msg = f"The labels have {labels.shape} voxels, the volume {grid.shape}."
        raise VolumeError(
            msg,
            next_step="Bring the labels onto the volume's grid first.",
        )
    sums = _sum_slabs(labels, volume.voxels, grid, max(table.organs, default=0) + 1)
    swapped = _swapped_sides(sums, table, grid)
    results = []
    for value, key in table.organs.items():
        organ, voxels = catalogue.get(key), int(sums.voxels[value])
        uncertain = None if uncertainty is None else float(uncertainty.get(key, float("nan")))
        if voxels == 0:
            nothing = float("nan")
            uncertain = None if uncertain is None else nothing
            results.append(OrganStatistics(key, 0, 0.0, nothing, nothing, (flags.NOT_FOUND,), uncertain))
            continue
        volume_ml = voxels * grid.voxel_volume / 1000.0
        certainty = float(confidence.get(key, float("nan")))
        cut = bool(sums.border_mm2[value] > CUT_AREA_MM2)
        checks = {
            flags.CUT_BY_FIELD_OF_VIEW: cut,
            flags.VOLUME_IMPLAUSIBLE: not cut and _implausible(volume_ml, organ),
            flags.LEFT_RIGHT_INCONSISTENT: key in swapped,
            flags.LOW_CONFIDENCE: certainty < CONFIDENCE_FLOOR,
            flags.FRAGMENTED: fragmentation is not None and _fragmented(fragmentation.get(key)),
        }
        results.append(
            OrganStatistics(
                key=key,
                voxels=voxels,
                volume_ml=volume_ml,
                mean_intensity=float(sums.intensity[value] / voxels),
                confidence=certainty,
                flags=flags.worst_first({flag for flag, raised in checks.items() if raised}),
                uncertainty=uncertain,
            )
        )
    return tuple(results)


def _implausible(volume_ml: float, organ: Organ) -> bool:
    return organ.volume_ml is not None and not organ.volume_ml[0] <= volume_ml <= organ.volume_ml[1]


def _fragmented(fragmentation: Fragmentation | None) -> bool:
    return fragmentation is not None and (
        fragmentation.kept_share < KEPT_SHARE_FLOOR or fragmentation.surplus_pieces > SURPLUS_PIECES_LIMIT
    )


def _swapped_sides(sums: _Sums, table: LabelTable, grid: Grid) -> set[str]:
    """Keys of paired organs whose left one is not further to the patient's left (LPS +x) than the right."""
    position = {
        key: grid.to_patient(sums.index[value] / sums.voxels[value])[0]
        for value, key in table.organs.items()
        if sums.voxels[value]
    }
    swapped: set[str] = set()
    for left, right in left_right_pairs(position):
        if position[left] <= position[right]:
            swapped |= {left, right}
    return swapped


def _sum_slabs(labels: NDArray[np.unsignedinteger], voxels: NDArray, grid: Grid, size: int) -> _Sums:
    sums = _Sums(np.zeros(size, np.int64), np.zeros(size), np.zeros((size, 3)), np.zeros(size))
    thickness = max(1, SLAB_VOXELS // (grid.shape[1] * grid.shape[2]))
    for start in range(0, grid.shape[0], thickness):
        _add_slab(sums, labels[start : start + thickness], voxels[start : start + thickness], grid, start)
    return sums


def _add_slab(
    sums: _Sums, labels: NDArray[np.unsignedinteger], voxels: NDArray, grid: Grid, first_slice: int
) -> None:
    size = len(sums.voxels)
    where = np.flatnonzero(labels)
    value = labels.ravel()[where].astype(np.intp)
    if value.size and value.max() >= size:
        known = value < size
        where, value = where[known], value[known]
    flat = voxels.ravel()
    sums.voxels[:] += np.bincount(value, minlength=size)
    sums.intensity[:] += np.bincount(value, weights=flat[where], minlength=size)
    index = list(np.unravel_index(where, labels.shape))
    index[0] = index[0] + first_slice
    spacing = np.asarray(grid.spacing)
    for axis, coordinate in enumerate(index):
        sums.index[:, axis] += np.bincount(value, weights=coordinate, minlength=size)
        face_mm2 = np.prod(np.delete(spacing, axis))
        last = grid.shape[axis] - 1
        for edge, step in ((0, -1), (last, 1)):
            at_edge = coordinate == edge
            if axis > 0:
                stride = labels.shape[2] if axis == 1 else 1
                neighbour = np.where(at_edge, where, where + step * stride)
                at_edge |= flat[neighbour] < PADDING_BELOW_HU
            sums.border_mm2[:] += face_mm2 * np.bincount(value[at_edge], minlength=size)
