from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st

from multiorganseg.volumes import Grid, Volume

AFFINE = np.array(
    [[0.7, 0.1, 0.3, -120.0], [-0.05, 0.8, 0.9, 44.0], [0.02, -0.1, 2.5, 910.0], [0.0, 0.0, 0.0, 1.0]]
)
Points = st.tuples(*[st.floats(-500, 500)] * 3)


@given(index=Points)
def test_index_and_patient_are_inverse(index) -> None:
    grid = Grid((5, 6, 7), AFFINE)
    np.testing.assert_allclose(grid.to_index(grid.to_patient(index)), index, atol=1e-8)


def test_indices_run_k_j_i_and_the_affine_i_j_k() -> None:
    grid = Grid((5, 6, 7), AFFINE)
    np.testing.assert_allclose(grid.to_patient((3, 2, 1)), AFFINE[:3, :3] @ [1, 2, 3] + AFFINE[:3, 3])
    many = np.array([[[0, 0, 0], [3, 2, 1]]])
    assert grid.to_patient(many).shape == (1, 2, 3)
    np.testing.assert_allclose(grid.to_patient(many)[0, 1], grid.to_patient((3, 2, 1)))


def test_it_agrees_with_simpleitk() -> None:
    image = sitk.Image(7, 6, 5, sitk.sitkInt16)
    angle = 0.4
    direction = [np.cos(angle), -np.sin(angle), 0, np.sin(angle), np.cos(angle), 0, 0, 0, -1]
    image.SetDirection(direction)
    image.SetSpacing((0.7, 1.1, 3.0))
    image.SetOrigin((-11, 22, 33))
    affine = np.eye(4)
    affine[:3, :3] = np.array(direction).reshape(3, 3) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    grid = Grid((5, 6, 7), affine)
    wanted = image.TransformContinuousIndexToPhysicalPoint((1.5, 2.0, 3.25))
    np.testing.assert_allclose(grid.to_patient((3.25, 2.0, 1.5)), wanted)
    assert grid.spacing == pytest.approx((3.0, 1.1, 0.7))
    assert grid.voxel_volume == pytest.approx(0.7 * 1.1 * 3.0)


def test_shear_counts_in_the_volume_of_a_voxel() -> None:
    affine = np.eye(4)
    affine[1, 2] = np.tan(np.deg2rad(30))
    grid = Grid((2, 2, 2), affine)
    assert grid.voxel_volume == pytest.approx(1.0)
    assert grid.spacing == pytest.approx((1 / np.cos(np.deg2rad(30)), 1.0, 1.0))


@pytest.mark.parametrize(("moved", "same"), [(0.0, True), (5e-4, True), (5e-3, False)])
def test_grids_are_the_same_within_a_tolerance(moved, same) -> None:
    affine = AFFINE.copy()
    affine[0, 3] += moved
    assert Grid((5, 6, 7), AFFINE).same_as(Grid((5, 6, 7), affine)) is same
    assert Grid((5, 6, 7), AFFINE).same_as(Grid((5, 6, 7), affine), tolerance=1.0)
    assert not Grid((5, 6, 7), AFFINE).same_as(Grid((7, 6, 5), AFFINE))


def test_the_far_corner_is_compared_too() -> None:
    turned = AFFINE.copy()
    turned[0, 2] += 1e-4
    assert Grid((5, 6, 7), AFFINE).same_as(Grid((5, 6, 7), turned))
    assert not Grid((500, 6, 7), AFFINE).same_as(Grid((500, 6, 7), turned))


def test_a_volume_knows_its_grid() -> None:
    volume = Volume(np.zeros((4, 3, 2), np.int16), AFFINE, source="somewhere")
    assert volume.grid.shape == (4, 3, 2)
    np.testing.assert_array_equal(volume.grid.affine, AFFINE)
