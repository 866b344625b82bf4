from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multiorganseg.geometry.canonical import LARGEST_TILT_DEGREES, plan_canonical
from multiorganseg.volumes.volume import Grid

EXTENT = 60.0
RADIUS = 12.0
THRESHOLD = -140.0
COUNT = 20

Spacing = st.tuples(*[st.floats(1.5, 5.0)] * 3)


def _centre(grid: Grid) -> np.ndarray:
    return grid.to_patient(tuple(0.5 * (np.array(grid.shape) - 1)))


def _centroid(weights: np.ndarray, points: np.ndarray) -> np.ndarray:
    return (weights[..., None] * points).sum(axis=(0, 1, 2)) / weights.sum()


def _tilt(grid: Grid) -> float:
    directions = grid.affine[:3, :3] / np.linalg.norm(grid.affine[:3, :3], axis=0)
    return float(np.degrees(np.arccos(np.clip(np.diag(directions), -1, 1))).max())


@pytest.mark.parametrize(
    ("degrees", "gantry_tilt"),
    [(6.0, 3.0), (180.0, 0.0), (180.0, 30.0)],
    ids=["upright", "oblique", "tilted"],
)
@settings(max_examples=COUNT, deadline=None)
@given(data=st.data(), spacing=Spacing, fraction=st.tuples(*[st.floats(-0.1, 0.1)] * 3))
def test_a_marked_organ_keeps_its_place_in_the_patient(
    data, spacing, fraction, degrees, gantry_tilt, grids, places
) -> None:
    grid = data.draw(grids(spacing=(1.0, 6.0), degrees=degrees, gantry_tilt=gantry_tilt, extent=EXTENT))
    centre = _centre(grid) + EXTENT * 0.5 * np.array(fraction)
    voxels = np.where(np.linalg.norm(places(grid) - centre, axis=-1) < RADIUS, 100, -1000).astype(np.int16)
    chain = plan_canonical(voxels, grid, spacing, THRESHOLD)
    np.testing.assert_allclose(chain.grid.spacing, spacing)

    image = chain.apply(voxels)
    assert image.shape == chain.grid.shape
    half_a_voxel = 0.5 * max(*spacing, *grid.spacing)
    seen = _centroid(np.maximum(image + 1000, 0), places(chain.grid))
    assert np.linalg.norm(seen - _centroid(voxels + 1000, places(grid))) < half_a_voxel

    labels = (np.linalg.norm(places(chain.grid) - centre, axis=-1) < RADIUS).astype(np.uint8) * 7
    restored = chain.restore(labels)
    assert restored.shape == grid.shape
    assert restored.dtype == np.uint8
    assert restored.flags.c_contiguous
    assert set(np.unique(restored)) == {0, 7}
    drift = _centroid(restored, places(grid)) - _centroid(voxels + 1000, places(grid))
    assert np.linalg.norm(drift) < half_a_voxel


def test_nothing_is_smeared_around_a_leaning_volume(places) -> None:
    leaning = np.diag([-1.0, 1.0, 1.0, 1.0])
    leaning[:3, 1], leaning[:3, 2] = (0.0, 1.234, -2.422), (0.0, -0.891, -0.454)
    grid = Grid((60, 23, 60), leaning)
    ball = np.linalg.norm(places(grid) - _centre(grid), axis=-1) < RADIUS
    voxels = np.where(ball, 100, -1000).astype(np.int16)
    chain = plan_canonical(voxels, grid, (2.0, 2.0, 2.0), THRESHOLD)
    mass = (chain.apply(voxels) + 1000.0).sum() * chain.grid.voxel_volume
    assert mass == pytest.approx((voxels + 1000.0).sum() * grid.voxel_volume, rel=0.01)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), spacing=Spacing)
def test_only_volumes_that_lean_are_straightened(data, spacing, grids) -> None:
    grid = data.draw(grids(spacing=(1.0, 6.0), degrees=25.0, gantry_tilt=20.0))
    chain = plan_canonical(np.zeros(grid.shape, np.int16), grid, spacing, None)
    leaning = _tilt(chain.orientation.target) > LARGEST_TILT_DEGREES
    upright = np.allclose(chain.grid.affine[:3, :3], np.diag(spacing[::-1]))
    assert leaning == (upright and _tilt(chain.orientation.target) > 1e-3)


@pytest.mark.parametrize(("degrees", "straightened"), [(9.5, False), (10.5, True)])
def test_a_lean_of_up_to_ten_degrees_stays(degrees, straightened) -> None:
    angle = np.deg2rad(degrees)
    affine = np.eye(4)
    affine[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    chain = plan_canonical(np.zeros((9, 9, 9), np.int16), Grid((9, 9, 9), affine), (1.0, 1.0, 1.0), None)
    assert np.allclose(chain.grid.affine[:3, :3], np.eye(3)) is straightened


def test_without_a_threshold_nothing_is_cropped() -> None:
    grid = Grid((20, 30, 40), np.diag([2.0, 2.0, 4.0, 1.0]))
    voxels = np.full(grid.shape, -1000, np.int16)
    voxels[8:12, 12:18, 15:25] = 50
    whole = plan_canonical(voxels, grid, (4.0, 4.0, 4.0), None)
    cropped = plan_canonical(voxels, grid, (4.0, 4.0, 4.0), THRESHOLD)
    assert whole.crop.target.same_as(grid)
    assert np.prod(cropped.grid.shape) < 0.5 * np.prod(whole.grid.shape)


def test_labels_never_leave_the_body_box() -> None:
    grid = Grid((20, 60, 60), np.diag([-2.0, 2.0, 4.0, 1.0]))
    voxels = np.full(grid.shape, -1000, np.int16)
    voxels[:, 20:40, 10:30] = 50
    chain = plan_canonical(voxels, grid, (3.0, 3.0, 3.0), THRESHOLD)
    restored = chain.restore(np.full(chain.grid.shape, 3, np.uint8))
    box = chain.orientation.invert(chain.crop.invert(np.full(chain.crop.target.shape, 3, np.uint8)))
    np.testing.assert_array_equal(restored, box)
    assert (restored[voxels > 0] == 3).all()


@settings(max_examples=COUNT, deadline=None)
@given(data=st.data(), spacing=Spacing)
def test_a_map_comes_back_to_its_place_without_steps(data, spacing, grids, places) -> None:
    grid = data.draw(grids(spacing=(1.0, 6.0), degrees=180.0, gantry_tilt=20.0, extent=EXTENT))
    chain = plan_canonical(np.zeros(grid.shape, np.int16), grid, spacing, None)
    centre = _centre(grid)

    def slope(where: Grid) -> np.ndarray:
        return 128 + (places(where) - centre) @ np.array([0.5, -0.9, 0.7])

    restored = chain.restore_map(np.rint(slope(chain.grid)).clip(0, 255).astype(np.uint8))
    assert restored.shape == grid.shape
    assert restored.dtype == np.uint8
    assert restored.flags.c_contiguous
    inside = np.linalg.norm(places(grid) - centre, axis=-1) < 0.5 * EXTENT - 2 * max(*spacing, *grid.spacing)
    np.testing.assert_allclose(restored[inside], slope(grid)[inside], atol=1.6)


def test_a_map_is_empty_outside_the_body_box() -> None:
    grid = Grid((20, 60, 60), np.diag([-2.0, 2.0, 4.0, 1.0]))
    voxels = np.full(grid.shape, -1000, np.int16)
    voxels[:, 20:40, 10:30] = 50
    chain = plan_canonical(voxels, grid, (3.0, 3.0, 3.0), THRESHOLD)
    restored = chain.restore_map(np.full(chain.grid.shape, 200, np.uint8))
    box = chain.orientation.invert(chain.crop.invert(np.full(chain.crop.target.shape, 200, np.uint8)))
    np.testing.assert_array_equal(restored, box)
