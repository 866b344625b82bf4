"""Voxel centres are shared in any order of axes, any extent and with rounded numbers, and not otherwise."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest

from multiorganseg.geometry.lattice import grid_with, shared_lattice
from multiorganseg.geometry.resample import restore_labels_nearest
from multiorganseg.volumes import Grid

AFFINE = np.array([[0.8, 0.1, 0.0, -20.0], [-0.1, 0.8, 0.3, 5.0], [0.0, 0.0, 2.5, 60.0], [0, 0, 0, 1.0]])
GRID = Grid((5, 6, 7), AFFINE)
LABELS = np.random.default_rng(2).integers(0, 5, GRID.shape).astype(np.uint8)


@pytest.mark.parametrize("order", list(permutations(range(3))))
@pytest.mark.parametrize("flips", list(product((1, -1), repeat=3)))
def test_every_order_and_direction_of_axes(order: tuple, flips: tuple) -> None:
    labels = LABELS.transpose(order)[tuple(slice(None, None, flip) for flip in flips)]
    corner = [0 if flip > 0 else size - 1 for flip, size in zip(flips, labels.shape, strict=True)]
    first = [0, 0, 0]
    for axis, index in zip(order, corner, strict=True):
        first[axis] = index
    affine = np.eye(4)
    columns = AFFINE[:3, 2::-1][:, list(order)] * flips
    affine[:3, :3] = columns[:, ::-1]
    affine[:3, 3] = GRID.to_patient(tuple(first))
    source = Grid(labels.shape, affine)
    lattice = shared_lattice(source, GRID)
    assert lattice is not None
    assert lattice.covers_target
    placed, lost = lattice.place(labels)
    assert lost == 0
    assert np.array_equal(placed, LABELS)
    assert np.array_equal(restore_labels_nearest(labels, source, GRID), LABELS)


def shifted(offset: tuple[float, float, float], shape: tuple[int, int, int]) -> Grid:
    affine = AFFINE.copy()
    affine[:3, 3] = GRID.to_patient(offset)
    return Grid(shape, affine)


def test_another_extent() -> None:
    lattice = shared_lattice(shifted((1, -2, 0), (3, 9, 7)), GRID)
    assert lattice is not None
    assert not lattice.covers_target
    labels = np.ones((3, 9, 7), np.uint8)
    placed, lost = lattice.place(labels)
    assert lost == 3 * 3 * 7
    assert placed.sum() == 3 * 6 * 7
    assert placed[1:4].all()
    apart = shared_lattice(shifted((50, 0, 0), (3, 9, 7)), GRID)
    assert apart is not None
    assert apart.place(labels)[1] == labels.size


@pytest.mark.parametrize(
    "change",
    [
        lambda affine: affine + np.eye(4, 4, 3) * 0.3,
        lambda affine: affine * [1.05, 1, 1, 1],
        lambda affine: affine @ np.diag([2, 1, 1, 1]),
        lambda affine: affine @ np.array([[1, 0.1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]),
    ],
)
def test_other_centres(change) -> None:
    assert shared_lattice(Grid(GRID.shape, change(AFFINE)), GRID) is None


def test_numbers_rounded_in_the_fourth_decimal() -> None:
    large = Grid((300, 512, 512), np.diag([0.68359375, 0.68359375, 1.25, 1.0]))
    rounded = Grid(large.shape, np.diag([0.6836, 0.6836, 1.25, 1.0]))
    assert shared_lattice(rounded, large) is not None
    assert shared_lattice(Grid(large.shape, np.diag([0.684, 0.684, 1.25, 1.0])), large) is None


def test_a_grid_grows_until_it_holds_the_labels() -> None:
    source = shifted((-3, 2, 5), (4, 4, 4))
    labels = np.zeros((4, 4, 4), np.uint8)
    assert grid_with(GRID, labels, source) == (GRID, (0, 0, 0))
    labels[1, 3, 3] = 1
    grid, before = grid_with(GRID, labels, source)
    assert before == (2, 0, 0)
    assert grid.shape == (7, 6, 9)
    assert restore_labels_nearest(labels, source, grid)[0, 5, 8] == 1
    assert np.allclose(grid.to_patient((2, 0, 0)), GRID.to_patient((0, 0, 0)))
