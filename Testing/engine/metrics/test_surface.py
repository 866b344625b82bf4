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

from multiorganseg.metrics import (
    average_surface_distance,
    hd95,
    normalized_surface_distance,
    slice_hausdorff,
    voxel_distances,
)

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


SHAPE = (6, 8, 9)


def test_slices_by_hand():
    prediction, reference = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    reference[1, 2, 2] = prediction[1, 2, 5] = True
    reference[2, 3:6, 3:6] = prediction[2, 3:6, 3:6] = True
    reference[3, 0, 0] = prediction[3, 3, 4] = True
    reference[4, 6, 6] = True
    prediction[0, 7, 7] = prediction[5, 7, 7] = True
    measured = slice_hausdorff(prediction, reference)
    assert measured.mean == pytest.approx((3 + 0 + 5) / 3)
    assert (measured.slices, measured.skipped) == (4, 1)


def test_the_largest_distance_counts_and_not_a_percentile():
    reference = np.zeros((1, 40, 40), bool)
    reference[0, :20, :20] = True
    prediction = reference.copy()
    prediction[0, 0, 35] = True
    assert slice_hausdorff(prediction, reference).mean == 16.0
    assert slice_hausdorff(reference, prediction).mean == 16.0


def test_boundaries_lie_in_the_plane():
    prediction = np.ones((3, 7, 7), bool)
    reference = prediction.copy()
    reference[:, 3, 3] = False
    assert slice_hausdorff(prediction, reference).mean == 2.0


def test_a_gap_in_the_reference_is_skipped():
    prediction, reference = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    prediction[1:4, 2, 2] = True
    reference[[1, 3], 2, 4] = True
    measured = slice_hausdorff(prediction, reference)
    assert (measured.mean, measured.slices, measured.skipped) == (2.0, 3, 1)


def test_empty_masks():
    some, empty = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    some[2:4, 1, 1] = True
    missed = slice_hausdorff(empty, some)
    assert math.isnan(missed.mean)
    assert (missed.slices, missed.skipped) == (2, 2)
    for prediction in (some, empty):
        invented = slice_hausdorff(prediction, empty)
        assert math.isnan(invented.mean)
        assert (invented.slices, invented.skipped) == (0, 0)


@pytest.mark.parametrize("seed", range(3))
def test_each_slice_agrees_with_monai(seed):
    noise = np.random.default_rng(seed).normal(size=(2, 7, 30, 26))
    prediction, reference = ndimage.gaussian_filter(noise, (0, 0, 3, 3)) > 0.01
    batch = [
        torch.from_numpy(np.stack([~mask, mask], axis=1).astype(np.float32))
        for mask in (prediction, reference)
    ]
    expected = compute_hausdorff_distance(*batch).numpy()
    assert expected.min() > 0
    assert slice_hausdorff(prediction, reference).mean == pytest.approx(expected.mean(), rel=1e-5)


def line(*places):
    mask = np.zeros((3, 3, 12), bool)
    mask[1, 1, list(places)] = True
    return mask


def test_voxels_by_hand():
    measured = voxel_distances(line(1), line(4, 9))
    assert measured.asd == 3.0
    assert measured.hd95 == pytest.approx(3 + 0.9 * 5)


def test_the_mean_has_a_direction_and_the_percentile_has_none():
    there, back = voxel_distances(line(1), line(4, 9)), voxel_distances(line(4, 9), line(1))
    assert back.asd == pytest.approx((3 + 8) / 2)
    assert back.hd95 == there.hd95


def test_it_differs_from_the_symmetric_distances():
    unit = (1.0, 1.0, 1.0)
    assert hd95(line(1), line(4, 9), unit) == pytest.approx(3 + 0.95 * 5)
    assert average_surface_distance(line(1), line(4, 9), unit) == pytest.approx((3 + 3 + 8) / 3)


def test_as_by_distance_transforms():
    noise = np.random.default_rng(4).normal(size=(2, 16, 20, 18))
    prediction, reference = ndimage.gaussian_filter(noise, (0, 2, 2, 2)) > 0.02
    borders = [mask & ~ndimage.binary_erosion(mask) for mask in (prediction, reference)]
    there = ndimage.distance_transform_edt(~borders[1])[borders[0]]
    back = ndimage.distance_transform_edt(~borders[0])[borders[1]]
    measured = voxel_distances(prediction, reference)
    assert measured.asd == pytest.approx(there.mean())
    assert measured.hd95 == pytest.approx(np.percentile(np.hstack([there, back]), 95))


def test_empty_masks_have_no_distance():
    for pair in ((line(), line(2)), (line(2), line()), (line(), line())):
        measured = voxel_distances(*pair)
        assert math.isnan(measured.hd95)
        assert math.isnan(measured.asd)
