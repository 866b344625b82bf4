from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from multiorganseg.geometry.resample import Resample, index_map, spacing_grid, upright_grid
from multiorganseg.volumes.volume import Grid

COUNT = 40
DRIFT_IN_VOXELS = 0.01


def _spacing(low: float, high: float) -> st.SearchStrategy[tuple[float, float, float]]:
    return st.tuples(*[st.floats(low, high)] * 3)


def _inside(target: Grid, source: Grid, places) -> np.ndarray:
    index = source.to_index(places(target))
    return ((index >= 1e-6) & (index <= np.array(source.shape) - 1 - 1e-6)).all(axis=-1)


def _sitk(voxels: np.ndarray, grid: Grid) -> sitk.Image:
    image = sitk.GetImageFromArray(voxels)
    spacing = np.linalg.norm(grid.affine[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((grid.affine[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(grid.affine[:3, 3].tolist())
    return image


@settings(max_examples=COUNT, deadline=None)
@given(data=st.data(), spacing=_spacing(0.3, 12.0))
def test_another_spacing_keeps_the_border_and_the_axes(data, spacing, grids) -> None:
    grid = data.draw(grids())
    target = spacing_grid(grid, spacing)
    np.testing.assert_allclose(target.spacing, spacing, rtol=1e-9)
    low, high = np.full(3, -0.5), np.array(grid.shape) - 0.5
    np.testing.assert_allclose(target.to_index(grid.to_patient(low)), low, atol=1e-6)
    covered = target.to_index(grid.to_patient(high))
    surplus = np.array(target.shape) - 0.5 - covered
    assert (surplus > -1e-5).all()
    assert (surplus < 1).all()


@settings(max_examples=COUNT, deadline=None)
@given(data=st.data(), spacing=_spacing(0.5, 12.0))
def test_an_upright_grid_covers_the_volume_and_little_more(data, spacing, grids) -> None:
    grid = data.draw(grids())
    target = upright_grid(grid, spacing)
    np.testing.assert_array_equal(target.affine[:3, :3], np.diag(spacing[::-1]))
    corners = np.array(np.meshgrid(*[(-0.5, n - 0.5) for n in grid.shape])).reshape(3, -1).T
    index = target.to_index(grid.to_patient(corners))
    np.testing.assert_allclose(index.min(axis=0), -0.5, atol=1e-6)
    surplus = np.array(target.shape) - 0.5 - index.max(axis=0)
    assert (surplus > -1e-5).all()
    assert (surplus < 1).all()


@settings(max_examples=COUNT, deadline=None)
@given(data=st.data())
def test_indices_of_two_grids_meet_in_the_patient(data, grids, places) -> None:
    first, second = data.draw(grids(spacing=(0.5, 10.0))), data.draw(grids(spacing=(0.5, 10.0)))
    matrix, offset = index_map(first, second)
    index = np.moveaxis(np.indices(first.shape), 0, -1)
    np.testing.assert_allclose(second.to_patient(index @ matrix.T + offset), places(first), atol=1e-6)


@settings(max_examples=COUNT, deadline=None)
@given(data=st.data(), spacing=_spacing(0.8, 12.0), upright=st.booleans())
def test_a_constant_stays_constant(data, spacing, upright, grids) -> None:
    grid = data.draw(grids(spacing=(0.5, 10.0)))
    target = (upright_grid if upright else spacing_grid)(grid, spacing)
    result = Resample(grid, target).apply(np.full(grid.shape, -317, np.int16))
    assert result.dtype == np.float32
    assert result.shape == target.shape
    np.testing.assert_allclose(result, -317, rtol=1e-5)


@settings(max_examples=COUNT, deadline=None)
@given(data=st.data(), shrink=st.tuples(*[st.floats(0.4, 1.0)] * 3), upright=st.booleans())
def test_a_ramp_in_the_patient_stays_the_same_ramp(data, shrink, upright, grids, places) -> None:
    grid = data.draw(grids(spacing=(1.0, 8.0)))
    spacing = tuple(s * factor for s, factor in zip(grid.spacing, shrink, strict=True))
    if upright:
        spacing = (min(spacing),) * 3
    target = (upright_grid if upright else spacing_grid)(grid, spacing)
    assume(np.prod(target.shape) < 200_000)
    slope = np.array([1.0, -2.0, 0.5])
    centre = grid.to_patient(tuple(0.5 * np.array(grid.shape)))
    result = Resample(grid, target).apply(((places(grid) - centre) @ slope).astype(np.float32))
    inside = _inside(target, grid, places)
    wanted = (places(target) - centre) @ slope
    drift = DRIFT_IN_VOXELS * np.abs(slope @ grid.affine[:3, :3]).sum()
    np.testing.assert_allclose(result[inside], wanted[inside], atol=drift + 1e-3)


@pytest.mark.parametrize("degrees", [0.0, 25.0])
def test_without_coarsening_it_agrees_with_simpleitk(degrees, places) -> None:
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([1.5, 2.0, 4.0])
    affine[:3, 3] = [-30, 12, 99]
    grid = Grid((9, 14, 17), affine)
    voxels = np.random.default_rng(3).normal(0, 300, grid.shape).astype(np.float32)
    target = upright_grid(grid, (2.2, 1.1, 0.9)) if degrees else spacing_grid(grid, (2.2, 1.1, 0.9))
    reference = _sitk(np.zeros(target.shape, np.float32), target)
    wanted = sitk.GetArrayFromImage(sitk.Resample(_sitk(voxels, grid), reference, sitk.Transform()))
    inside = _inside(target, grid, places)
    assert inside.sum() > 1000
    np.testing.assert_allclose(Resample(grid, target).apply(voxels)[inside], wanted[inside], atol=0.05)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_stripes_finer_than_the_target_become_their_mean(axis) -> None:
    grid = Grid((24, 24, 24), np.eye(4))
    stripes = (np.indices(grid.shape)[axis] % 2 * 1000).astype(np.int16)
    target = spacing_grid(grid, tuple(2.0 if a == axis else 1.0 for a in range(3)))
    result = Resample(grid, target).apply(stripes)
    inner = tuple(slice(1, -1) if a == axis else slice(None) for a in range(3))
    np.testing.assert_allclose(result[inner], 500, atol=0.01)


@settings(max_examples=20, deadline=None)
@given(factors=st.tuples(*[st.floats(1.0, 4.0)] * 3), seed=st.integers(0, 1000))
def test_coarsening_keeps_the_mean_of_noise(factors, seed) -> None:
    grid = Grid((32, 33, 34), np.diag([0.7, 0.8, 1.5, 1.0]))
    voxels = np.random.default_rng(seed).normal(40, 20, grid.shape).astype(np.float32)
    spacing = tuple(s * factor for s, factor in zip(grid.spacing, factors, strict=True))
    result = Resample(grid, spacing_grid(grid, spacing)).apply(voxels)
    assert abs(float(result.mean()) - 40) < 1.0
    if min(factors) > 2.5:
        assert result.std() < 0.5 * voxels.std()


def test_views_and_integers_give_what_a_copy_in_floats_gives() -> None:
    voxels = np.random.default_rng(0).integers(-1024, 3000, (10, 12, 14)).astype(np.int16)
    view = np.flip(voxels.transpose(2, 0, 1), (0, 2))
    grid = Grid(view.shape, np.diag([1.0, 1.2, 3.0, 1.0]))
    step = Resample(grid, spacing_grid(grid, (2.0, 2.0, 2.0)))
    np.testing.assert_array_equal(step.apply(view), step.apply(np.ascontiguousarray(view, np.float32)))
