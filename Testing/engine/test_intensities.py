from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multiorganseg.intensities import AIR, map_window, zscore

WINDOW = (-160.0, 240.0)


def test_the_window_becomes_minus_one_to_one() -> None:
    voxels = np.array([-1024, -160, 40, 240, 3000], np.float32)
    before = voxels.copy()
    mapped = map_window(voxels, WINDOW)
    np.testing.assert_allclose(mapped, [AIR, AIR, 0, 1, 1], atol=1e-6)
    assert mapped.dtype == np.float32
    np.testing.assert_array_equal(voxels, before)


@given(low=st.floats(-1000, 0), width=st.floats(1, 3000), values=st.lists(st.floats(-2000, 4000), min_size=2))
def test_order_is_kept_within_the_range(low, width, values) -> None:
    voxels = np.sort(np.array(values, np.float32))
    mapped = map_window(voxels, (low, low + width))
    assert (np.diff(mapped) >= 0).all()
    assert mapped.min() >= -1 - 1e-3
    assert mapped.max() <= 1 + 1e-3


def test_standardised_voxels_have_mean_nought_and_deviation_one() -> None:
    voxels = np.random.default_rng(0).normal(300, 70, (8, 9, 10)).astype(np.float32)
    result = zscore(voxels)
    assert result.dtype == np.float32
    assert float(result.mean()) == pytest.approx(0, abs=1e-4)
    assert float(result.std()) == pytest.approx(1, abs=1e-4)
    np.testing.assert_allclose(zscore(voxels * 3 + 5), result, atol=1e-3)


def test_a_constant_volume_is_not_divided_by_nought() -> None:
    assert not zscore(np.full((2, 3, 4), 7, np.float32)).any()
