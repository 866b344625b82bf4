from __future__ import annotations

import numpy as np
import pytest
from monai.data.utils import compute_importance_map, dense_patch_slices
from scipy.ndimage import gaussian_filter

from multiorganseg.inference.windows import delta_weights, gaussian_weights, plan_fixed_windows


@pytest.mark.parametrize("shape", [(20, 33, 48), (16, 16, 16), (17, 50, 31)])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.625])
def test_fixed_windows_are_those_of_monai(shape, overlap):
    window = (16, 12, 16)
    plan = plan_fixed_windows(shape, window, overlap)
    interval = tuple(max(1, int(size * (1 - overlap))) for size in window)
    theirs = dense_patch_slices(shape, window, interval)
    assert {tuple(part.start for part in parts) for parts in theirs} == {
        (k, j, i) for k in plan.starts[0] for j in plan.starts[1] for i in plan.starts[2]
    }


def test_a_volume_smaller_than_a_window_has_one():
    plan = plan_fixed_windows((5, 40, 16), (16, 16, 16), 0.5)
    assert plan.shape == (16, 40, 16)
    assert plan.starts[0] == plan.starts[2] == (0,)


def test_gaussian_weights_are_those_of_monai():
    window = (8, 12, 16)
    theirs = compute_importance_map(window, mode="gaussian", sigma_scale=0.125).numpy()
    np.testing.assert_allclose(gaussian_weights(window), theirs, rtol=1e-4)


@pytest.mark.parametrize("window", [(8, 12, 16), (1, 16, 24)])
def test_delta_weights_are_a_filtered_impulse(window):
    weights = delta_weights(window)
    impulse = np.zeros(window)
    impulse[tuple(size // 2 for size in window)] = 1
    axes = [size / 8 if size > 1 else 0 for size in window]
    wanted = gaussian_filter(impulse, axes, mode="constant")
    wanted = 10 * wanted / wanted.max()
    assert weights.max() == 10
    assert weights.min() > 0
    np.testing.assert_allclose(weights, np.maximum(wanted, weights.min()), rtol=1e-3, atol=1e-6)
