"""The CTs of the inference benchmark: a real one and a tall synthetic one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from multiorganseg.volumes.read import read_volume
from multiorganseg.volumes.volume import Volume
from multiorganseg.volumes.write import write_volume

TALL_SHAPE = (900, 512, 512)
TALL_SPACING = (1.0, 0.8, 0.8)

AIR_HU, FAT_HU, NOISE_HU = -1000.0, -90.0, 12.0
BODY_RADII_MM = (110.0, 165.0)
TORSO_MM = 450.0
TISSUES = (
    # HU, centre (k, j, i) and radii (k, j, i), in mm; k within a torso, j and i from the body's axis
    (45.0, (225.0, 0.0, 0.0), (260.0, 98.0, 150.0)),
    (-820.0, (360.0, -5.0, -75.0), (75.0, 75.0, 60.0)),
    (-820.0, (360.0, -5.0, 75.0), (75.0, 75.0, 60.0)),
    (40.0, (350.0, -30.0, 15.0), (55.0, 45.0, 50.0)),
    (110.0, (225.0, -15.0, -75.0), (70.0, 70.0, 70.0)),
    (120.0, (240.0, 35.0, 95.0), (45.0, 35.0, 25.0)),
    (60.0, (235.0, -40.0, 45.0), (50.0, 35.0, 45.0)),
    (190.0, (170.0, 45.0, -60.0), (50.0, 28.0, 26.0)),
    (190.0, (175.0, 45.0, 60.0), (50.0, 28.0, 26.0)),
    (160.0, (225.0, 35.0, 10.0), (260.0, 11.0, 11.0)),
    (130.0, (225.0, 32.0, -18.0), (260.0, 11.0, 13.0)),
    (15.0, (45.0, -20.0, 0.0), (45.0, 40.0, 45.0)),
    (300.0, (225.0, 70.0, 0.0), (260.0, 20.0, 22.0)),
)


def write_tall(path: Path, slices: int | None) -> None:
    """Write a body-like CT of 512×512×900 voxels of 0.8×0.8×1.0 mm: two torsos of ellipsoids, with noise.

    Args:
        path: Of the file to write.
        slices: Fewer slices, for a trial.
    """
    shape = (slices or TALL_SHAPE[0], *TALL_SHAPE[1:])
    voxels = np.empty(shape, np.int16)
    generator = np.random.default_rng(0)
    for k in range(shape[0]):
        noise = generator.standard_normal(shape[1:], np.float32) * NOISE_HU
        voxels[k] = np.clip(_plane(k * TALL_SPACING[0], shape[1:]) + noise, -1024, 3071)
    affine = np.diag([*TALL_SPACING[::-1], 1.0])
    write_volume(Volume(voxels, affine), path)


def write_box(source: Path, path: Path, box_mm: tuple[float, ...] | None) -> None:
    """Write the middle of a CT, so many mm along (k, j, i); all of it when None."""
    volume = read_volume(source)
    if box_mm is None:
        write_volume(volume, path)
        return
    sizes = [
        min(size, round(wanted / step))
        for size, wanted, step in zip(volume.voxels.shape, box_mm, volume.grid.spacing, strict=True)
    ]
    starts = [(size - kept) // 2 for size, kept in zip(volume.voxels.shape, sizes, strict=True)]
    affine = volume.affine.copy()
    affine[:3, 3] = volume.grid.to_patient(tuple(map(float, starts)))
    inside = tuple(slice(start, start + kept) for start, kept in zip(starts, sizes, strict=True))
    write_volume(Volume(np.ascontiguousarray(volume.voxels[inside]), affine), path)


def write_crop(source: Path, path: Path, slices: int) -> None:
    """Write the middle slices of a CT."""
    volume = read_volume(source)
    start = max(0, (volume.voxels.shape[0] - slices) // 2)
    affine = volume.affine.copy()
    affine[:3, 3] = volume.grid.to_patient((float(start), 0.0, 0.0))
    write_volume(Volume(np.ascontiguousarray(volume.voxels[start : start + slices]), affine), path)


def _plane(height: float, shape: tuple[int, int]) -> NDArray[np.float32]:
    j = (np.arange(shape[0], dtype=np.float32)[:, None] - shape[0] / 2) * TALL_SPACING[1]
    i = (np.arange(shape[1], dtype=np.float32)[None, :] - shape[1] / 2) * TALL_SPACING[2]
    waist = 1 + 0.08 * np.cos(2 * np.pi * height / TORSO_MM)
    body = (j / (waist * BODY_RADII_MM[0])) ** 2 + (i / (waist * BODY_RADII_MM[1])) ** 2 < 1
    plane = np.where(body, FAT_HU, AIR_HU).astype(np.float32)
    for hu, centre, radii in TISSUES:
        along = ((height % TORSO_MM - centre[0]) / radii[0]) ** 2
        across = ((j - centre[1]) / radii[1]) ** 2 + ((i - centre[2]) / radii[2]) ** 2
        plane[(along + across < 1) & body] = hu
    return plane
