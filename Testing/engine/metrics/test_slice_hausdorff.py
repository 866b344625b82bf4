import math

import numpy as np
import pytest
import torch
from monai.metrics import compute_hausdorff_distance
from scipy import ndimage

from multiorganseg.metrics import slice_hausdorff

SHAPE = (6, 8, 9)


def test_by_hand():
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
