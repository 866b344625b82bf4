from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from multiorganseg.geometry.zoom import (
    axis_map,
    border_positions,
    interpolate_linear,
    resize_spline,
    resized_shape,
    separate_axis,
    spaced_shape,
)


def _volume(shape: tuple[int, int, int]) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def test_slices_that_are_far_apart_are_found():
    assert separate_axis((5.0, 1.0, 1.0), (1.0, 1.0, 1.0)) == 0
    assert separate_axis((1.0, 1.0, 1.0), (1.0, 1.0, 3.1)) == 2
    assert separate_axis((3.0, 1.0, 1.0), (1.0, 1.0, 1.0)) is None
    assert separate_axis((0.2, 1.0, 1.0), (1.0, 1.0, 5.0)) is None, (
        "two axes are as coarse; the first decides"
    )


def test_shapes_follow_from_the_spacing():
    assert resized_shape((72, 96, 112), (2.2, 1.7, 1.8), (3.0, 2.0, 2.0)) == (53, 82, 101)
    assert spaced_shape((112, 96, 72), (1.8, 1.7, 2.2), (2.0, 2.0, 3.0)) == (101, 82, 53)


@pytest.mark.parametrize("shape", [(7, 9, 8), (3, 12, 20), (5, 6, 7)])
def test_cubic_resizing_stays_in_its_range_and_keeps_what_fits(shape):
    volume = _volume((5, 6, 7))
    resized = resize_spline(volume, shape, None)
    assert resized.shape == shape
    assert volume.min() <= resized.min() <= resized.max() <= volume.max()
    if shape == volume.shape:
        np.testing.assert_array_equal(resized, volume)


def test_slices_are_repeated_and_not_mixed():
    volume = _volume((3, 6, 7))
    resized = resize_spline(volume, (6, 6, 7), 0)
    np.testing.assert_array_equal(resized, volume[[0, 0, 1, 1, 2, 2]])


def test_linear_interpolation_repeats_the_border():
    volume, shape = _volume((5, 6, 7)), (9, 4, 13)
    positions = [border_positions(n, m) for n, m in zip(shape, volume.shape, strict=True)]
    maps = [axis_map(p, m) for p, m in zip(positions, volume.shape, strict=True)]
    wanted = map_coordinates(volume, np.meshgrid(*positions, indexing="ij"), order=1, mode="nearest")
    np.testing.assert_allclose(interpolate_linear(volume, maps), wanted, atol=1e-5)
