from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from multiorganseg.errors import TrainingError
from multiorganseg_training.data.mixing import BoxSpec, box_mask, draw_boxes


@settings(deadline=None, max_examples=50)
@given(
    space=st.lists(st.integers(1, 40), min_size=2, max_size=3),
    batch=st.integers(1, 4),
    seed=st.integers(0, 10_000),
    position=st.sampled_from(["same", "random"]),
)
def test_boxes_lie_inside_and_masks_show_them(space, batch, seed, position):
    boxes = draw_boxes(batch, space, np.random.default_rng(seed), BoxSpec(position=position))
    assert (boxes.low >= 0).all()
    assert (boxes.source >= 0).all()
    assert (boxes.size >= 1).all()
    assert (boxes.low + boxes.size <= space).all()
    assert (boxes.source + boxes.size <= space).all()
    if position == "same":
        assert not boxes.shift.any()
    mask = box_mask(boxes, space)
    assert mask.shape == (batch, *space)
    for sample, low, size in zip(mask, boxes.low, boxes.size, strict=True):
        box = tuple(slice(a, a + n) for a, n in zip(low, size, strict=True))
        assert bool(sample[box].all())
        assert int(sample.sum()) == size.prod()


@settings(deadline=None, max_examples=50)
@given(
    space=st.lists(st.integers(30, 120), min_size=2, max_size=3),
    seed=st.integers(0, 10_000),
    fraction=st.floats(0.1, 0.4),
)
def test_the_volume_is_the_fraction_but_for_rounding(space, seed, fraction):
    spec = BoxSpec(fraction=(fraction, fraction))
    boxes = draw_boxes(1, space, np.random.default_rng(seed), spec)
    wanted = fraction * np.prod(space)
    assert boxes.size.prod() <= wanted * (1 + 1e-9)
    assert (boxes.size[0] + 1).prod() >= wanted * (1 - 1e-9)


@settings(deadline=None, max_examples=50)
@given(
    space=st.lists(st.integers(60, 200), min_size=2, max_size=3),
    seed=st.integers(0, 10_000),
)
def test_aspects_stay_in_their_range(space, seed):
    boxes = draw_boxes(1, space, np.random.default_rng(seed), BoxSpec(aspect=(0.5, 2.0)))
    low, high = boxes.size[0] / space, (boxes.size[0] + 1) / space
    assert (high[:-1] / low[-1] >= 0.5 - 1e-9).all()
    assert (low[:-1] / high[-1] <= 2.0 + 1e-9).all()


def test_the_mean_area_of_the_published_boxes():
    """The fraction has the mean 0.21, and sides are rounded down."""
    boxes = draw_boxes(4000, (256, 256), np.random.default_rng(0))
    areas = boxes.size.prod(axis=1) / 256**2
    assert areas.mean() == pytest.approx(0.206, abs=0.005)
    assert areas.min() > 0.018
    assert areas.max() <= 0.4


@pytest.mark.parametrize("space", [(1, 256, 256), (256, 1, 256), (256, 256, 1)])
def test_boxes_of_single_slices_are_those_of_two_dimensions(space):
    boxes = draw_boxes(4000, space, np.random.default_rng(0))
    areas = boxes.size.prod(axis=1) / 256**2
    assert areas.mean() == pytest.approx(0.206, abs=0.005)
    assert areas.max() <= 0.4
    flat = draw_boxes(4000, (256, 256), np.random.default_rng(0))
    wide = [axis for axis, length in enumerate(space) if length > 1]
    assert np.array_equal(boxes.size[:, wide], flat.size)
    assert np.array_equal(boxes.low[:, wide], flat.low)


def test_a_space_of_one_voxel_is_its_own_box():
    boxes = draw_boxes(2, (1, 1, 1), np.random.default_rng(0), BoxSpec(position="random"))
    assert not boxes.low.any()
    assert (boxes.size == 1).all()


def test_the_same_generator_gives_the_same_boxes():
    first, again, other = (draw_boxes(2, (20, 30, 40), np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first.low, again.low)
    assert np.array_equal(first.size, again.size)
    assert not np.array_equal(first.low, other.low)


def test_random_positions_differ():
    boxes = draw_boxes(50, (32, 32), np.random.default_rng(0), BoxSpec(position="random"))
    assert (boxes.shift.any(axis=1)).mean() > 0.9


@pytest.mark.parametrize(
    "arguments",
    [{"fraction": (0.0, 0.4)}, {"fraction": (0.4, 0.2)}, {"aspect": (2.0, 3.0)}, {"position": "there"}],
)
def test_impossible_boxes_are_refused(arguments):
    with pytest.raises(TrainingError, match="No boxes"):
        BoxSpec(**arguments)


def test_boxes_stand_where_they_should():
    boxes = draw_boxes(1, (4, 6), np.random.default_rng(0))
    low, size = boxes.low[0], boxes.size[0]
    rows = torch.arange(4)[:, None]
    columns = torch.arange(6)[None]
    expected = (rows >= low[0]) & (rows < low[0] + size[0]) & (columns >= low[1])
    assert torch.equal(box_mask(boxes, (4, 6))[0], expected & (columns < low[1] + size[1]))
