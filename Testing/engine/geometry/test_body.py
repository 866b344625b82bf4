from __future__ import annotations

import numpy as np
import pytest

from multiorganseg.geometry.body import MARGIN_MM, air_threshold, body_crop
from multiorganseg.volumes.volume import Grid

SPACING = (5.0, 2.0, 2.0)
SHAPE = (10, 170, 200)
BODY = ((0, 50), (40, 240), (40, 360))


def _scan() -> tuple[np.ndarray, Grid]:
    """An elliptic trunk in mm box `BODY` (k, j, i), a table 20 mm below it, and noisy air."""
    grid = Grid(SHAPE, np.diag([*SPACING[::-1], 1.0]))
    voxels = np.random.default_rng(0).normal(-1000, 15, SHAPE).astype(np.float32)
    _, j, i = np.indices(SHAPE)
    y, x = (j + 0.5) * SPACING[1], (i + 0.5) * SPACING[2]
    voxels[((y - 140) / 100) ** 2 + ((x - 200) / 160) ** 2 < 1] = 40
    voxels[:, 130:133, 20:180] = 200
    return voxels, grid


def test_the_trunk_is_found_without_the_table() -> None:
    voxels, grid = _scan()
    crop = body_crop(voxels, grid, air_threshold((-160.0, 240.0)))
    for part, (low, high), spacing, size in zip(crop.box, BODY, SPACING, SHAPE, strict=True):
        assert part.start * spacing <= low
        assert min(part.stop, size) * spacing >= min(high, size * spacing)
    assert crop.box[0] == slice(0, SHAPE[0])
    assert crop.box[1].start * SPACING[1] >= 40 - MARGIN_MM - 8
    assert crop.box[1].stop * SPACING[1] <= 240 + MARGIN_MM + 8
    assert crop.box[1].stop <= 130


def test_an_arm_beside_the_trunk_is_left_out_where_both_are_wider_than_any_body() -> None:
    voxels, grid = _scan()
    arm_beside = np.pad(voxels, ((0, 0), (0, 0), (0, 100)), constant_values=-1000)
    arm_beside[:, 40:90, 230:280] = 40
    wide = Grid(arm_beside.shape, grid.affine)
    box = body_crop(voxels, grid, -140.0).box
    assert body_crop(arm_beside, wide, -140.0, widest_mm=400).box == box
    assert body_crop(arm_beside, wide, -140.0, widest_mm=600).box[2].stop > 280
    assert body_crop(voxels, grid, -140.0, widest_mm=200).box == box


def test_a_view_of_another_orientation_gives_the_same_box() -> None:
    voxels, grid = _scan()
    stored = np.ascontiguousarray(np.flip(voxels, 1).transpose(2, 1, 0))
    view = np.flip(stored.transpose(2, 1, 0), 1)
    assert body_crop(view, grid, -140.0).box == body_crop(voxels, grid, -140.0).box


@pytest.mark.parametrize("value", [-1000, -140])
def test_a_volume_of_air_is_kept_whole(value) -> None:
    grid = Grid((7, 8, 9), np.eye(4))
    crop = body_crop(np.full(grid.shape, value, np.int16), grid, -140.0)
    assert crop.target.same_as(grid)


def test_a_body_that_fills_the_image_is_kept_whole() -> None:
    grid = Grid((3, 30, 30), np.diag([0.5, 0.5, 10.0, 1.0]))
    assert body_crop(np.full(grid.shape, 50, np.int16), grid, -140.0).target.same_as(grid)


def test_slices_far_apart_are_all_looked_at() -> None:
    grid = Grid((6, 40, 40), np.diag([4.0, 4.0, 40.0, 1.0]))
    voxels = np.full(grid.shape, -1000, np.int16)
    voxels[1:5, 10:30, 10:30] = 50
    margin = int(np.ceil(MARGIN_MM / 4.0))
    inside = slice(10 - margin, 30 + margin)
    assert body_crop(voxels, grid, -140.0).box == (slice(1, 5), inside, inside)


def test_noise_in_clipped_air_is_not_patient() -> None:
    low, high = -160.0, 240.0
    assert low < air_threshold((low, high)) < low + 0.1 * (high - low)


@pytest.mark.parametrize("wide", [(0, 5, 0), (3, 1, 2), (11, 20, 7)])
def test_the_box_lies_on_the_patient_whatever_air_is_around(wide) -> None:
    voxels, grid = _scan()
    threshold = air_threshold((-160.0, 240.0))
    plain = body_crop(np.pad(voxels, 16, constant_values=-1000), _larger(grid, 16), threshold)
    padding = [(16 + size, 16) for size in wide]
    moved = body_crop(np.pad(voxels, padding, constant_values=-1000), _larger(grid, 32), threshold)
    for before, after, by in zip(plain.box, moved.box, wide, strict=True):
        assert (after.start - by, after.stop - by) == (before.start, before.stop)
    assert plain.box[0] == slice(16, 16 + SHAPE[0]), "no plane of air at the ends"


def _larger(grid: Grid, by: int) -> Grid:
    k, j, i = grid.shape
    return Grid((k + 2 * by, j + 2 * by, i + 2 * by), grid.affine)
