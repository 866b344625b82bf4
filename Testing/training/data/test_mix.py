from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from multiorganseg_training.data.batches import known_matrix
from multiorganseg_training.data.mixing import BoxSpec, box_mask, draw_boxes, mix
from multiorganseg_training.losses.known import known_map, tri_state


def test_all_maps_are_mixed_alike():
    """Images whose value tells sample and place show where everything else came from."""
    space = (4, 5, 6)
    generator = torch.Generator().manual_seed(0)
    image = torch.arange(3.0)[:, None, None, None, None].expand(3, 1, *space)
    labels = torch.randint(0, 3, (3, *space), generator=generator)
    known = known_matrix([{1}, {2}, {1, 2}], 2)
    targets, weights = tri_state(labels, known), torch.rand((3, *space), generator=generator)
    mask = torch.rand((3, *space), generator=generator) < 0.4
    partner = torch.tensor([1, 2, 0])
    mixed = mix(mask, partner, image, labels, targets, known_map(known, space), weights)
    came_from = mixed[0][:, 0].long()
    assert torch.equal(
        came_from, torch.where(mask, partner[:, None, None, None], torch.arange(3)[:, None, None, None])
    )
    for sample in range(3):
        here = came_from == sample
        for before, after in zip((labels, targets, weights), (mixed[1], mixed[2], mixed[4]), strict=True):
            assert before.dtype == after.dtype
            for target in range(3):
                voxels = here[target]
                assert torch.equal(after[target][..., voxels], before[sample][..., voxels])
    assert torch.equal(mixed[3][:, 0], known[:, 0][came_from])


@settings(deadline=None, max_examples=50)
@given(
    space=st.lists(st.integers(2, 12), min_size=2, max_size=3),
    seed=st.integers(0, 1000),
    position=st.sampled_from(["same", "random"]),
)
def test_the_box_shows_the_source_of_the_partner(space, seed, position):
    boxes = draw_boxes(2, space, np.random.default_rng(seed), BoxSpec(position=position))
    mask = box_mask(boxes, space)
    image = torch.rand((2, 1, *space), generator=torch.Generator().manual_seed(seed))
    (mixed,) = mix(mask, torch.tensor([1, 0]), image, shift=boxes.shift)
    for sample in range(2):
        size = boxes.size[sample]
        box = tuple(slice(a, a + n) for a, n in zip(boxes.low[sample], size, strict=True))
        source = tuple(slice(a, a + n) for a, n in zip(boxes.source[sample], size, strict=True))
        assert torch.equal(mixed[(sample, 0, *box)], image[(1 - sample, 0, *source)])
        outside = ~mask[sample]
        assert torch.equal(mixed[sample, 0][outside], image[sample, 0][outside])


def test_the_gradient_reaches_both_samples():
    image = torch.zeros((2, 1, 2, 2), requires_grad=True)
    mask = torch.tensor([[[True, False], [False, False]]] * 2)
    (mixed,) = mix(mask, torch.tensor([1, 0]), image)
    mixed[0].sum().backward()
    assert image.grad is not None
    assert image.grad[:, 0].tolist() == [[[0, 1], [1, 1]], [[1, 0], [0, 0]]]


def test_the_given_tensors_stay_as_they_are():
    image = torch.zeros((2, 1, 3, 3))
    (mixed,) = mix(torch.zeros((2, 3, 3), dtype=torch.bool), torch.tensor([1, 0]), image)
    mixed += 1
    assert not image.any()
