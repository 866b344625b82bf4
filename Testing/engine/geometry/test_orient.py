from __future__ import annotations

import itertools
from itertools import permutations, product

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

from multiorganseg.geometry.orient import (
    axis_order,
    canonical_order,
    from_canonical,
    network_feet,
    orientations,
    reorient,
)
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


LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "LAS", "PIR", "SAL"])
@pytest.mark.parametrize("turn", list(permutations(range(3))))
def test_arrays_are_turned_as_nibabel_turns_them(orientation, turn):
    for signs in product((1, -1), repeat=3):
        array = np.arange(60).reshape(3, 4, 5)
        affine = np.eye(4)
        affine[:3, :3] = np.eye(3)[:, list(turn)] * signs
        order = axis_order(Grid(array.shape, affine), orientation, (0, 1, 2))
        there = io_orientation(LPS_TO_RAS @ affine)
        turned = nibabel.apply_orientation(array.T, ornt_transform(there, axcodes2ornt(orientation)))
        np.testing.assert_array_equal(order.apply(array), turned.T)
        np.testing.assert_array_equal(order.invert(order.apply(array)), array)


@pytest.mark.parametrize("orientation", ["", "RAS", "PIR"])
@pytest.mark.parametrize("axes", list(permutations(range(3))))
def test_through_the_canonical_array_it_is_the_same_way(orientation, axes):
    array = np.arange(60).reshape(3, 4, 5)
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0, -1, 0], [0, 0, 1], [-1, 0, 0]])
    grid = Grid(array.shape, affine)
    straight = axis_order(grid, orientation, axes)
    through = from_canonical(grid, orientation, axes)
    np.testing.assert_array_equal(straight.apply(array), through.apply(reorient(grid).apply(array)))
    assert straight.stored_sizes(straight.sizes((1.0, 2.0, 3.0))) == (1.0, 2.0, 3.0)
    if not orientation:
        np.testing.assert_array_equal(straight.apply(array), array.transpose(axes))


def test_there_are_eight_directions():
    assert len(set(orientations())) == 8
    assert {"RAS", "LPS"} <= set(orientations())


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "PIR"])
@pytest.mark.parametrize("axes", list(permutations(range(3))))
def test_a_turned_grid_has_its_voxels_where_they_were(orientation, axes):
    grid = Grid((3, 4, 5), np.array([[1.5, 0, 0, 5], [0, 2, 0, -7], [0, 0, 3, 11], [0, 0, 0, 1.0]]))
    order = canonical_order(orientation, axes)
    turned = order.turn(grid)
    for part in range(3):
        points = grid.to_patient(np.indices(grid.shape).reshape(3, -1).T)[:, part].reshape(grid.shape)
        there = turned.to_patient(np.indices(turned.shape).reshape(3, -1).T)[:, part].reshape(turned.shape)
        np.testing.assert_allclose(there, order.apply(points))


@pytest.mark.parametrize(
    ("orientation", "axes", "feet"),
    [
        ("LPS", (0, 1, 2), (0, True)),
        ("RAS", (0, 1, 2), (0, True)),
        ("RAI", (0, 1, 2), (0, False)),
        ("RAS", (2, 1, 0), (2, True)),
        ("PIR", (0, 1, 2), (1, False)),
        ("", (0, 1, 2), None),
    ],
)
def test_along_which_axis_patients_lie(orientation, axes, feet):
    assert network_feet(orientation, axes) == feet
