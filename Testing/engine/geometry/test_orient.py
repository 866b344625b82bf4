from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from multiorganseg.geometry.orient import reorient
from multiorganseg.volumes.volume import Grid

COUNT = 60


def _directions(grid: Grid) -> np.ndarray:
    return grid.affine[:3, :3] / np.linalg.norm(grid.affine[:3, :3], axis=0)


@settings(max_examples=COUNT, deadline=None)
@given(data=st.data())
def test_every_voxel_keeps_its_place(data, grids, places) -> None:
    grid = data.draw(grids())
    step = reorient(grid)
    moved = np.stack([step.apply(places(grid)[..., axis]) for axis in range(3)], axis=-1)
    assert moved.shape[:3] == step.target.shape
    np.testing.assert_allclose(moved, places(step.target), atol=1e-8)


@settings(max_examples=COUNT, deadline=None)
@given(data=st.data())
def test_the_inverse_is_exact(data, grids) -> None:
    step = reorient(data.draw(grids()))
    there = np.arange(np.prod(step.source.shape)).reshape(step.source.shape)
    back = np.arange(np.prod(step.target.shape)).reshape(step.target.shape)
    np.testing.assert_array_equal(step.invert(step.apply(there)), there)
    np.testing.assert_array_equal(step.apply(step.invert(back)), back)


@settings(max_examples=COUNT, deadline=None)
@given(data=st.data())
def test_no_other_order_of_axes_lies_nearer_to_the_patient(data, grids) -> None:
    directions = _directions(reorient(data.draw(grids())).target)
    assert (np.diag(directions) > -1e-12).all()
    others = [np.abs(directions[range(3), order]).sum() for order in itertools.permutations(range(3))]
    assert np.diag(directions).sum() >= max(others) - 1e-9


@settings(max_examples=COUNT, deadline=None)
@given(data=st.data())
def test_a_canonical_grid_stays_as_it_is(data, grids) -> None:
    canonical = reorient(data.draw(grids(degrees=20.0, gantry_tilt=10.0))).target
    again = reorient(canonical)
    assert again.axes == (0, 1, 2)
    assert again.flipped == ()
    assert again.target.same_as(canonical, tolerance=0.0)


def test_a_sagittal_scan_is_turned() -> None:
    affine = np.array([[0, 0, 3.0, 10], [0, -1.0, 0, 20], [-2.0, 0, 0, 30], [0, 0, 0, 1]])
    step = reorient(Grid((4, 5, 6), affine))
    assert step.axes == (2, 1, 0)
    assert sorted(step.flipped) == [0, 1]
    assert step.target.shape == (6, 5, 4)
    np.testing.assert_array_equal(step.target.affine[:3, :3], np.diag([3.0, 1.0, 2.0]))
    np.testing.assert_array_equal(step.target.affine[:3, 3], [10, 16, 20])
