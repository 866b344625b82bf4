import math

import numpy as np
import pytest
from scipy import ndimage

from multiorganseg.metrics import average_surface_distance, hd95, voxel_distances


def line(*places):
    mask = np.zeros((3, 3, 12), bool)
    mask[1, 1, list(places)] = True
    return mask


def test_by_hand():
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
