from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multiorganseg.inference.windows import SMALLEST_WEIGHT, centre_weights, plan_windows

Shapes = st.tuples(*[st.integers(1, 400)] * 3)
Windows = st.tuples(*[st.integers(8, 96)] * 3)


@given(shape=Shapes, window=Windows, overlap=st.floats(0.0, 0.75))
def test_windows_cover_everything_and_share_enough(shape, window, overlap) -> None:
    plan = plan_windows(shape, window, overlap)
    assert plan.count == math.prod(len(starts) for starts in plan.starts)
    for size, length, padded, starts in zip(shape, window, plan.shape, plan.starts, strict=True):
        assert padded == max(size, length)
        assert starts[0] == 0
        assert starts[-1] + length == padded
        steps = np.diff(starts)
        assert (steps > 0).all()
        assert (steps < length * (1 - overlap) + 1).all()
        assert (steps <= length).all()


@given(shape=Shapes, window=Windows, overlap=st.floats(0.0, 0.75))
def test_no_window_is_spent_that_is_not_needed(shape, window, overlap) -> None:
    plan = plan_windows(shape, window, overlap)
    for length, padded, starts in zip(window, plan.shape, plan.starts, strict=True):
        fewer = len(starts) - 2
        if fewer >= 0:
            assert fewer * length * (1 - overlap) < padded - length


def test_a_small_volume_takes_one_window() -> None:
    plan = plan_windows((5, 32, 10), (16, 32, 32), 0.5)
    assert plan.shape == (16, 32, 32)
    assert plan.starts == ((0,), (0,), (0,))
    assert plan.count == 1


@pytest.mark.parametrize("overlap", [0.0, 0.4, 0.6])
def test_windows_of_one_slice_take_each_slice_once(overlap) -> None:
    plan = plan_windows((7, 40, 32), (1, 32, 32), overlap)
    assert plan.starts == (tuple(range(7)), (0, 8), (0,))


def test_a_higher_quality_takes_more_windows() -> None:
    counts = [plan_windows((150, 240, 240), (48, 160, 192), overlap).count for overlap in (0.1, 0.4, 0.6)]
    assert counts == sorted(counts)
    assert counts[0] < counts[-1]


@pytest.mark.parametrize("window", [(16, 32, 32), (9, 17, 8)])
def test_the_centre_counts_most_and_no_corner_nothing(window) -> None:
    weights = centre_weights(window)
    assert weights.shape == window
    assert weights.dtype == np.float32
    assert weights.max() == 1
    assert weights[tuple(n // 2 for n in window)] == 1
    assert weights.min() >= np.float32(SMALLEST_WEIGHT)
    for axis in range(3):
        np.testing.assert_array_equal(weights, np.flip(weights, axis))
        centre = weights.take(window[axis] // 2, axis)
        assert (centre >= weights.take(0, axis)).all()
