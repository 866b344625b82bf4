from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from multiorganseg.volumes.volume import Grid

Grids = Callable[..., st.SearchStrategy[Grid]]

ORDERS = list(itertools.permutations(range(3)))
SIGNS = list(itertools.product((-1.0, 1.0), repeat=3))
LARGEST_GANTRY_TILT = 30.0


def _number(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high, allow_nan=False)


@st.composite
def _grids(
    draw: st.DrawFn,
    sizes: tuple[int, int] = (2, 12),
    spacing: tuple[float, float] = (0.1, 10.0),
    degrees: float = 180.0,
    gantry_tilt: float = LARGEST_GANTRY_TILT,
    extent: float | None = None,
) -> Grid:
    """Grids that are rotated by up to `degrees`, sheared, anisotropic, flipped and permuted.

    With `extent` the sizes follow from the spacing, so that every axis is that long in mm.
    """
    distances = np.array([draw(_number(np.log(spacing[0]), np.log(spacing[1]))) for _ in range(3)])
    distances = np.exp(distances)
    axis = np.array([draw(_number(-1, 1)) for _ in range(3)])
    axis = axis / np.linalg.norm(axis) if np.linalg.norm(axis) > 0.1 else np.array([0.0, 0.0, 1.0])
    rotation = Rotation.from_rotvec(np.deg2rad(draw(_number(0, degrees))) * axis).as_matrix()
    shear = np.eye(3)
    shear[1, 2] = np.tan(np.deg2rad(draw(_number(-gantry_tilt, gantry_tilt))))
    directions = rotation @ (shear / np.linalg.norm(shear, axis=0))
    directions = directions[:, draw(st.sampled_from(ORDERS))] * np.array(draw(st.sampled_from(SIGNS)))
    affine = np.eye(4)
    affine[:3, :3] = directions * distances
    affine[:3, 3] = [draw(_number(-500, 500)) for _ in range(3)]
    if extent is None:
        shape = [draw(st.integers(*sizes)) for _ in range(3)]
    else:
        shape = [int(np.ceil(extent / distance)) for distance in distances[::-1]]
    return Grid((shape[0], shape[1], shape[2]), affine)


@pytest.fixture(scope="session")
def grids() -> Grids:
    """A strategy of grids; see `_grids` for its arguments."""
    return _grids


@pytest.fixture(scope="session")
def places() -> Callable[[Grid], np.ndarray]:
    """The patient coordinates (k, j, i, 3) of every voxel centre of a grid."""

    def of(grid: Grid) -> np.ndarray:
        return grid.to_patient(np.moveaxis(np.indices(grid.shape), 0, -1))

    return of
