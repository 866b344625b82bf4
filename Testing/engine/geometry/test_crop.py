from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from multiorganseg.geometry.crop import Crop


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_the_box_keeps_its_place_and_comes_back(data, grids, places) -> None:
    grid = data.draw(grids())
    starts = [data.draw(st.integers(0, size - 1)) for size in grid.shape]
    stops = [data.draw(st.integers(first + 1, size)) for first, size in zip(starts, grid.shape, strict=True)]
    step = Crop(grid, tuple(slice(first, last) for first, last in zip(starts, stops, strict=True)))
    np.testing.assert_allclose(places(grid)[step.box], places(step.target), atol=1e-8)

    whole = np.arange(1, np.prod(grid.shape) + 1, dtype=np.uint16).reshape(grid.shape)
    part = step.apply(whole)
    assert part.shape == step.target.shape
    back = step.invert(part)
    assert back.dtype == np.uint16
    outside = np.ones(grid.shape, bool)
    outside[step.box] = False
    np.testing.assert_array_equal(back, np.where(outside, 0, whole))
