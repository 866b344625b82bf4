from __future__ import annotations

from itertools import permutations, product

import nibabel
import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

from multiorganseg.geometry.axis_order import (
    axis_order,
    canonical_order,
    from_canonical,
    network_feet,
    orientations,
)
from multiorganseg.geometry.orient import reorient
from multiorganseg.volumes.volume import Grid

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
