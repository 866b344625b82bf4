from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from multiorganseg_training.data.mixing import carve_mask, carve_region, signed_distance


def test_the_signed_distance_of_a_block():
    region = np.zeros((1, 9), np.bool_)
    region[:, 2:7] = True
    assert signed_distance(region)[0].tolist() == [2, 1, -1, -2, -3, -2, -1, 1, 2]
    assert signed_distance(region, (1.0, 2.0))[0].tolist() == [4, 2, -2, -4, -6, -4, -2, 2, 4]


@settings(deadline=None, max_examples=50)
@given(
    shape=st.lists(st.integers(5, 12), min_size=2, max_size=3),
    seed=st.integers(0, 10_000),
)
def test_a_carved_region_lies_between_its_core_and_its_surroundings(shape, seed):
    generator = np.random.default_rng(seed)
    region = np.zeros(shape, np.bool_)
    region[tuple(slice(1, max(2, n - 2)) for n in shape)] = True
    distance = signed_distance(region)
    deepest = distance.min()
    carved = carve_region(region, generator)
    assert carved[distance < deepest / 2].all()
    assert not carved[distance >= -deepest].any()
    assert carved[distance == deepest].all()
    threshold = distance[carved].max()
    assert (carved == (distance <= threshold)).all(), "a level set of the distance"


def test_regions_shrink_and_grow():
    region = np.zeros((21, 21), np.bool_)
    region[6:15, 6:15] = True
    generator = np.random.default_rng(0)
    sizes = [int(carve_region(region, generator).sum()) for _ in range(60)]
    assert min(sizes) == 25, "voxels deeper than half of the depth of 5 always stay"
    assert max(sizes) > region.sum()
    grown = np.mean([size > region.sum() for size in sizes])
    assert grown == pytest.approx(4 / 7.5, abs=0.2), "λ in (1, 5) of (−2.5, 5)"


@pytest.mark.parametrize("filled", [False, True])
def test_nothing_and_everything_stay(filled):
    region = np.full((4, 4), filled)
    assert np.array_equal(carve_region(region, np.random.default_rng(0)), region)


def test_the_partner_is_carved_at_its_own_place():
    labels = torch.zeros((3, 12, 12), dtype=torch.int64)
    labels[0, 1:4, 1:4] = 1
    labels[1, 6:11, 6:11] = 2
    mask = carve_mask(labels, torch.tensor([1, 2, 0]), np.random.default_rng(0))
    assert mask[0, 8, 8]
    assert not mask[0, :4, :4].any()
    assert not mask[1].any(), "the partner has no organ"
    assert mask[2, 2, 2]
    assert not mask[2, 6:, 6:].any()


def test_all_organs_are_chosen():
    labels = torch.zeros((1, 12, 12), dtype=torch.int64)
    labels[0, 1:4, 1:4], labels[0, 8:11, 8:11] = 1, 7
    generator = np.random.default_rng(0)
    chosen = {bool(carve_mask(labels, torch.tensor([0]), generator)[0, 2, 2]) for _ in range(20)}
    assert chosen == {False, True}
