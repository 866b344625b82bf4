"""A scan and its labels as another scanner, patient or protocol would show them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from multiorganseg.geometry.crop import Crop
from multiorganseg.geometry.orient import reorient
from multiorganseg.volumes.volume import Volume
from multiorganseg_training.data.appearance import PHASES, change_phase

SOFT_TISSUE_HU = 50.0
ARM = {1.0: -100.0, 0.85: SOFT_TISSUE_HU, 0.25: 270.0}
"""HU by share of the radius: fat, muscle and bone."""


@dataclass(frozen=True, eq=False)
class Scan:
    """A CT with its reference.

    Attributes:
        volume: In HU, k towards the head.
        labels: (k, j, i), numbered as the bundle's label table.
        organs: Organ key by label value.
        window: HU outside which the network sees nothing.
    """

    volume: Volume
    labels: NDArray[np.uint8]
    organs: Mapping[int, str]
    window: tuple[float, float]


Change = Callable[[Scan], Scan]


def upright(scan: Scan) -> Scan:
    """Turn the axes towards head, back and left, without interpolation."""
    turn = reorient(scan.volume.grid)
    voxels = np.ascontiguousarray(turn.apply(scan.volume.voxels))
    volume = replace(scan.volume, voxels=voxels, affine=turn.target.affine)
    return replace(scan, volume=volume, labels=np.ascontiguousarray(turn.apply(scan.labels)))


def upper_part(scan: Scan, length_mm: float) -> Scan:
    """Keep the upper end of the scan."""
    planes = _planes(scan, length_mm)
    return _cut(scan, slice(scan.labels.shape[0] - planes, None))


def middle_part(scan: Scan, length_mm: float) -> Scan:
    """Keep planes about the middle of the organs."""
    planes = _planes(scan, length_mm)
    middle = int(np.median(np.flatnonzero(scan.labels.any(axis=(1, 2)))))
    first = int(np.clip(middle - planes // 2, 0, scan.labels.shape[0] - planes))
    return _cut(scan, slice(first, first + planes))


def small_field(scan: Scan, side_mm: float) -> Scan:
    """Keep a box in-plane about the middle of the organs."""
    boxes = []
    for axis in (1, 2):
        others = tuple(other for other in range(3) if other != axis)
        middle = int(np.median(np.flatnonzero(scan.labels.any(axis=others))))
        size = min(scan.labels.shape[axis], round(side_mm / scan.volume.grid.spacing[axis]))
        first = int(np.clip(middle - size // 2, 0, scan.labels.shape[axis] - size))
        boxes.append(slice(first, first + size))
    return _cut(scan, slice(None), *boxes)


def arm_beside(scan: Scan, radius_mm: float = 55.0) -> Scan:
    """Lay an arm beside the patient, with air between, so that windows reach further and lie elsewhere."""
    _, _, step = scan.volume.grid.spacing
    width = round(4 * radius_mm / step)
    wide = [(0, 0), (0, 0), (0, width)]
    image = np.pad(scan.volume.voxels, wide, constant_values=float(scan.volume.voxels.min()))
    sizes = zip(image.shape[1:], scan.volume.grid.spacing[1:], strict=True)
    rows, columns = (np.arange(size) * length for size, length in sizes)
    away = np.hypot(rows[:, None] - rows[len(rows) // 2], columns[None] - (columns[-1] - 1.2 * radius_mm))
    for share, hu in ARM.items():
        image[:, away <= share * radius_mm] = hu
    return replace(scan, volume=replace(scan.volume, voxels=image), labels=np.pad(scan.labels, wide))


def in_phase(scan: Scan, phase: str, seed: int = 0) -> Scan:
    """Show organs as in another contrast phase; see `multiorganseg_training.data.appearance`."""
    low, high = scan.window
    mapped = (np.clip(scan.volume.voxels.astype(np.float32), low, high) - low) * (2 / (high - low)) - 1
    patch = torch.from_numpy(mapped)[None]
    labels = torch.from_numpy(scan.labels.astype(np.int64))
    changed = change_phase(
        patch, labels, scan.organs, scan.window, np.random.default_rng(seed), PHASES[phase]
    )
    return _with_voxels(scan, (changed[0].numpy() + 1) * ((high - low) / 2) + low)


def scaled(scan: Scan, factor: float) -> Scan:
    """Make the patient smaller or larger."""
    affine = scan.volume.affine.copy()
    affine[:3, :3] *= factor
    return replace(scan, volume=replace(scan.volume, affine=affine))


def thick_slices(scan: Scan, thickness_mm: float) -> Scan:
    """Average neighbouring planes, and keep as many as slices of this thickness would be."""
    step = max(1, round(thickness_mm / scan.volume.grid.spacing[0]))
    planes = scan.labels.shape[0] // step * step
    voxels = scan.volume.voxels[:planes].astype(np.float32)
    averaged = voxels.reshape(-1, step, *voxels.shape[1:]).mean(axis=1)
    affine = scan.volume.affine.copy()
    affine[:3, 3] += affine[:3, 2] * (step - 1) / 2
    affine[:3, 2] *= step
    return replace(
        scan,
        volume=replace(scan.volume, voxels=averaged, affine=affine),
        labels=scan.labels[(step - 1) // 2 : planes : step],
    )


def noisy(scan: Scan, deviation_hu: float, seed: int = 0) -> Scan:
    """Add noise of a low-dose scan, which is a little smooth in-plane."""
    white = np.random.default_rng(seed).standard_normal(scan.labels.shape, dtype=np.float32)
    smooth = ndimage.gaussian_filter(white, (0, 0.6, 0.6))
    return _with_voxels(scan, scan.volume.voxels + smooth * (deviation_hu / smooth.std()))


def shifted(scan: Scan, hu: float) -> Scan:
    """Shift all intensities."""
    return _with_voxels(scan, scan.volume.voxels.astype(np.float32) + hu)


def contrasted(scan: Scan, factor: float) -> Scan:
    """Scale intensities about that of soft tissue."""
    return _with_voxels(
        scan, (scan.volume.voxels.astype(np.float32) - SOFT_TISSUE_HU) * factor + SOFT_TISSUE_HU
    )


CHANGES: Mapping[str, Change] = {
    "unchanged": lambda scan: scan,
    "upper 66 mm": lambda scan: upper_part(scan, 66),
    "middle 66 mm": lambda scan: middle_part(scan, 66),
    "field of view 200 mm": lambda scan: small_field(scan, 200),
    "field of view 130 mm": lambda scan: small_field(scan, 130),
    "box of 100 mm": lambda scan: middle_part(small_field(scan, 100), 100),
    "an arm beside the patient": arm_beside,
    "arterial-like": lambda scan: in_phase(scan, "arterial"),
    "late-like": lambda scan: in_phase(scan, "late"),
    "unenhanced-like": lambda scan: in_phase(scan, "unenhanced"),
    "patient × 0.75": lambda scan: scaled(scan, 0.75),
    "patient × 1.3": lambda scan: scaled(scan, 1.3),
    "slices of 6 mm": lambda scan: thick_slices(scan, 6),
    "noise of 30 HU": lambda scan: noisy(scan, 30),
    "+20 HU": lambda scan: shifted(scan, 20),
    "−20 HU": lambda scan: shifted(scan, -20),
    "contrast × 0.7": lambda scan: contrasted(scan, 0.7),
}
"""Rows of the table, by name; the first is what all others are compared with."""


def _planes(scan: Scan, length_mm: float) -> int:
    return min(scan.labels.shape[0], round(length_mm / scan.volume.grid.spacing[0]))


def _cut(scan: Scan, *box: slice) -> Scan:
    slices = (*box, *[slice(None)] * (3 - len(box)))
    ends = [part.indices(size) for part, size in zip(slices, scan.labels.shape, strict=True)]
    k, j, i = (slice(first, last) for first, last, _ in ends)
    crop = Crop(scan.volume.grid, (k, j, i))
    volume = replace(scan.volume, voxels=crop.apply(scan.volume.voxels), affine=crop.target.affine)
    return replace(scan, volume=volume, labels=crop.apply(scan.labels))


def _with_voxels(scan: Scan, voxels: NDArray) -> Scan:
    low, high = scan.window
    if scan.volume.voxels.min() >= low and scan.volume.voxels.max() <= high:
        voxels = np.clip(voxels, low, high)
    return replace(scan, volume=replace(scan.volume, voxels=voxels))
