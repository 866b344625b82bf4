from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, map_coordinates

from multiorganseg.geometry import resample
from multiorganseg.geometry.resample import restore_labels, restore_labels_nearest, spacing_grid, upright_grid
from multiorganseg.volumes.volume import Grid

TIE = 1e-4
TIE_OF_NEARLY_SHARED_AXES = 0.06
UNSURE_BORDER = 0.03


def _random_labels(shape: tuple[int, int, int], count: int, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    fields = [gaussian_filter(generator.normal(size=shape), 1.0) for _ in range(count + 1)]
    return np.argmax(fields, axis=0).astype(np.uint8)


def _slowly(labels: np.ndarray, source: Grid, target: Grid, places) -> tuple[np.ndarray, np.ndarray]:
    """The argmax over linearly interpolated one-hot volumes, and by how much it won."""
    index = source.to_index(places(target))
    values = np.unique(labels)
    coordinates = np.moveaxis(index, -1, 0)
    scores = [
        map_coordinates((labels == value).astype(float), coordinates, order=1, mode="nearest")
        for value in values
    ]
    outside = ((index < -0.5) | (index > np.array(source.shape) - 0.5)).any(axis=-1)
    ranked = np.sort(scores, axis=0)
    margin = ranked[-1] - ranked[-2] if len(values) > 1 else np.ones(target.shape)
    border = np.minimum(np.abs(index + 0.5), np.abs(index - np.array(source.shape) + 0.5)).min(axis=-1)
    return np.where(outside, 0, values[np.argmax(scores, axis=0)]), np.where(
        border < UNSURE_BORDER, 0, margin
    )


@settings(max_examples=40, deadline=None)
@given(
    data=st.data(),
    shrink=st.floats(0.35, 1.4),
    count=st.integers(1, 6),
    seed=st.integers(0, 99),
    up=st.booleans(),
)
def test_it_is_the_argmax_over_interpolated_memberships(data, shrink, count, seed, up, grids, places) -> None:
    target = data.draw(grids(sizes=(2, 20), spacing=(1.0, 4.0)))
    source = (upright_grid if up else spacing_grid)(target, tuple(s / shrink for s in target.spacing))
    labels = _random_labels(source.shape, count, seed)
    wanted, margin = _slowly(labels, source, target, places)
    result = restore_labels(labels, source, target)
    assert result.dtype == labels.dtype
    clear = margin > (TIE_OF_NEARLY_SHARED_AXES if up else TIE)
    np.testing.assert_array_equal(result[clear], wanted[clear])


@settings(max_examples=20, deadline=None)
@given(data=st.data(), up=st.booleans())
def test_where_slabs_end_does_not_matter(data, up, grids) -> None:
    target = data.draw(grids(sizes=(4, 16), spacing=(1.0, 4.0)))
    source = (upright_grid if up else spacing_grid)(target, (3.0, 2.5, 2.0))
    labels = _random_labels(source.shape, 4, 0)
    at_once = restore_labels(labels, source, target)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resample, "SLAB_VOXELS", 1)
        np.testing.assert_array_equal(restore_labels(labels, source, target), at_once)


@settings(max_examples=30, deadline=None)
@given(data=st.data(), spacing=st.tuples(*[st.floats(0.5, 8.0)] * 3), up=st.booleans())
def test_what_fills_the_volume_fills_it_again(data, spacing, up, grids) -> None:
    target = data.draw(grids(sizes=(2, 10), spacing=(0.5, 8.0)))
    source = (upright_grid if up else spacing_grid)(target, spacing)
    result = restore_labels(np.full(source.shape, 700, np.uint16), source, target)
    assert result.dtype == np.uint16
    assert (result == 700).all()


def test_two_organs_that_meet_at_the_edge_of_the_image_leave_no_gap() -> None:
    source = Grid((2, 4, 8), np.diag([3.0, 3.0, 3.0, 1.0]))
    labels = np.ones(source.shape, np.uint8)
    labels[..., 4:] = 2
    result = restore_labels(labels, source, spacing_grid(source, (0.5, 0.5, 0.5)))
    assert set(np.unique(result)) == {1, 2}
    assert (result == 1).sum() == (result == 2).sum()


def test_nothing_is_invented_outside_the_source() -> None:
    source = Grid((4, 4, 4), np.eye(4))
    affine = np.eye(4)
    affine[:3, 3] = -3.0
    result = restore_labels(np.ones(source.shape, np.uint8), source, Grid((10, 10, 10), affine))
    wanted = np.zeros((10, 10, 10), np.uint8)
    wanted[3:7, 3:7, 3:7] = 1
    np.testing.assert_array_equal(result, wanted)


@settings(max_examples=20, deadline=None)
@given(data=st.data(), seed=st.integers(0, 99))
def test_the_same_grid_gives_the_same_labels(data, seed, grids) -> None:
    grid = data.draw(grids())
    labels = _random_labels(grid.shape, 5, seed)
    np.testing.assert_array_equal(restore_labels(labels, grid, grid), labels)
    np.testing.assert_array_equal(restore_labels_nearest(labels, grid, grid), labels)


def test_borders_are_smoother_than_with_nearest_neighbours() -> None:
    source = Grid((20, 20, 20), np.diag([4.0, 4.0, 4.0, 1.0]))
    target = spacing_grid(source, (1.0, 1.0, 1.0))
    radius, centre = 25.0, 38.0

    def ball(grid: Grid) -> np.ndarray:
        points = grid.to_patient(np.moveaxis(np.indices(grid.shape), 0, -1))
        return (np.linalg.norm(points - centre, axis=-1) < radius).astype(np.uint8)

    wanted = ball(target)
    wrong = {
        restore: int((restore(ball(source), source, target) != wanted).sum())
        for restore in (restore_labels, restore_labels_nearest)
    }
    assert wrong[restore_labels] < 0.75 * wrong[restore_labels_nearest]
