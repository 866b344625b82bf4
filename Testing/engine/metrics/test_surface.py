import math

import numpy as np
import pytest
import torch
from monai.metrics import (
    compute_average_surface_distance,
    compute_hausdorff_distance,
    compute_surface_dice,
)
from scipy import ndimage

from multiorganseg.metrics import average_surface_distance, hd95, normalized_surface_distance

SPACINGS = [(1.0, 1.0, 1.0), (5.0, 0.7, 0.8), (2.5, 1.3, 0.6)]


def blobs(seed):
    noise = np.random.default_rng(seed).normal(size=(2, 18, 26, 24))
    smooth = ndimage.gaussian_filter(noise, (0, 2.5, 3.0, 3.0))
    smooth[1] = 0.6 * smooth[0] + 0.4 * smooth[1]
    return smooth[0] > 0.02, smooth[1] > 0.02


def one_hot(mask):
    return torch.from_numpy(np.stack([~mask, mask])[None].astype(np.float32))


def box(shape, start, stop):
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))] = True
    return mask


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("seed", range(4))
def test_distances_agree_with_monai(seed, spacing):
    prediction, reference = blobs(seed)
    arguments = one_hot(prediction), one_hot(reference)
    expected_hd = compute_hausdorff_distance(*arguments, percentile=95, spacing=spacing).item()
    expected_asd = compute_average_surface_distance(*arguments, symmetric=True, spacing=spacing).item()
    assert expected_hd > 0
    assert hd95(prediction, reference, spacing) == pytest.approx(expected_hd, rel=1e-5)
    assert average_surface_distance(prediction, reference, spacing) == pytest.approx(expected_asd, rel=1e-5)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("tolerance", [0.35, 1.9, 4.1])
def test_surface_dice_agrees_with_monai(tolerance, spacing):
    for seed in range(3):
        prediction, reference = blobs(seed)
        expected = compute_surface_dice(
            one_hot(prediction), one_hot(reference), [tolerance], spacing=spacing, use_subvoxels=True
        ).item()
        ours = normalized_surface_distance(prediction, reference, spacing, tolerance)
        assert ours == pytest.approx(expected, abs=1e-4)
        assert 0.0 < ours <= 1.0


def test_shift_along_the_coarse_axis_counts_in_millimetres():
    shape = (12, 12, 12)
    reference = box(shape, (3, 3, 3), (8, 9, 9))
    prediction = box(shape, (4, 3, 3), (9, 9, 9))
    spacing = (5.0, 1.0, 1.0)
    assert hd95(prediction, reference, spacing) == pytest.approx(5.0)
    assert normalized_surface_distance(prediction, reference, spacing, 5.0) == 1.0
    assert normalized_surface_distance(prediction, reference, spacing, 4.9) < 0.9
    assert normalized_surface_distance(prediction, reference, (1.0, 1.0, 1.0), 1.0) == 1.0


def test_single_voxels_by_hand():
    shape = (5, 5, 8)
    prediction, reference = box(shape, (2, 2, 1), (3, 3, 2)), box(shape, (2, 2, 4), (3, 3, 5))
    assert hd95(prediction, reference, (2.0, 2.0, 0.5)) == pytest.approx(1.5)
    assert average_surface_distance(prediction, reference, (2.0, 2.0, 0.5)) == pytest.approx(1.5)
    assert normalized_surface_distance(prediction, reference, (2.0, 2.0, 0.5), 1.5) == 1.0
    assert normalized_surface_distance(prediction, reference, (2.0, 2.0, 0.5), 0.4) == 0.0


def test_tolerance_survives_rounding_of_the_spacing():
    shape = (5, 5, 12)
    spacing = (0.7, 0.7, 0.7)
    prediction, reference = box(shape, (1, 1, 1), (4, 4, 4)), box(shape, (1, 1, 4), (4, 4, 7))
    assert 3 * 0.7 > 2.1 - 1e-12
    assert normalized_surface_distance(prediction, reference, spacing, 2.1) == 1.0


def test_only_surface_that_is_large_moves_the_score():
    shape = (20, 20, 20)
    reference = box(shape, (2, 2, 2), (18, 18, 18))
    prediction = reference.copy()
    prediction[0, 0, 0] = True
    score = normalized_surface_distance(prediction, reference, (1.0, 1.0, 1.0), 1.0)
    assert 0.99 < score < 1.0


def test_masks_at_the_border_of_the_array_are_closed():
    full = np.ones((4, 4, 4), dtype=bool)
    assert hd95(full, full, (1.0, 1.0, 1.0)) == 0.0
    assert normalized_surface_distance(full, full, (1.0, 1.0, 1.0), 0.0) == 1.0


@pytest.mark.parametrize("metric", [hd95, average_surface_distance])
def test_distances_of_empty_masks_are_undefined(metric):
    empty, some = np.zeros((4, 4, 4), dtype=bool), box((4, 4, 4), (1, 1, 1), (2, 2, 2))
    for pair in ((empty, some), (some, empty), (empty, empty)):
        assert math.isnan(metric(*pair, (1.0, 1.0, 1.0)))


def test_surface_dice_of_empty_masks():
    empty, some = np.zeros((4, 4, 4), dtype=bool), box((4, 4, 4), (1, 1, 1), (2, 2, 2))
    assert normalized_surface_distance(empty, some, (1.0, 1.0, 1.0), 2.0) == 0.0
    assert normalized_surface_distance(some, empty, (1.0, 1.0, 1.0), 2.0) == 0.0
    assert math.isnan(normalized_surface_distance(empty, empty, (1.0, 1.0, 1.0), 2.0))
