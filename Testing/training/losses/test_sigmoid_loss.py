from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from multiorganseg.errors import TrainingError
from multiorganseg_training.data.batches import known_matrix
from multiorganseg_training.losses.known import known_map, tri_state
from multiorganseg_training.losses.partial import masked_bce, masked_dice

SPACES = [(5, 6), (3, 4, 5)]
REDUCTIONS = ["mean", "paper", "sum_batch"]


def _case(space: tuple[int, ...], classes: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn((2, classes, *space), generator=generator)
    return logits, torch.randint(0, classes + 1, (2, *space), generator=generator)


def test_the_three_reductions_by_hand():
    """Two samples of two voxels, two classes; the second class has a target in the second sample alone."""
    p = torch.tensor([[[0.9, 0.2], [0.7, 0.6]], [[0.5, 0.4], [0.8, 0.3]]])
    targets = torch.tensor([[[1, 0], [-1, -1]], [[-1, 0], [1, -1]]], dtype=torch.int8)
    logits, targets = p.logit()[:, :, None], targets[:, :, None]
    first = -(math.log(0.9) + math.log(0.8)), -math.log(0.6)
    second = 0.0, -math.log(0.8)
    mean = (sum(first) + sum(second)) / 4
    paper = ((first[0] / 2 + first[1] / 2) / 2 + (second[0] / 2 + second[1] / 2) / 2) / 2
    assert float(masked_bce(logits, targets)) == pytest.approx(mean)
    assert float(masked_bce(logits, targets, "paper")) == pytest.approx(paper)
    assert float(masked_bce(logits, targets, "sum_batch")) == pytest.approx(2 * paper)


def test_a_class_without_any_target_leaves_the_mean():
    logits, labels = _case((5, 6))
    targets = tri_state(labels, known_matrix([{1}, {1}], 3), exclusive=False)
    alone = functional.binary_cross_entropy_with_logits(logits[:, 0], (labels == 1).float())
    assert float(masked_bce(logits, targets, "paper")) == pytest.approx(float(alone))


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("reduction", ["mean", "paper"])
def test_everything_known_is_plain_cross_entropy(space, reduction):
    logits, labels = _case(space)
    targets = tri_state(labels, torch.ones((2, 3), dtype=torch.bool))
    one_hot = functional.one_hot(labels, 4).movedim(-1, 1)[:, 1:].float()
    plain = functional.binary_cross_entropy_with_logits(logits, one_hot)
    assert float(masked_bce(logits, targets, reduction)) == pytest.approx(float(plain))
    assert float(masked_bce(logits, targets, "sum_batch")) == pytest.approx(2 * float(plain))


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("scale", [1.0, 1e6])
def test_nothing_known_is_exactly_zero(space, reduction, scale):
    logits, labels = _case(space)
    logits = (logits * scale).requires_grad_()
    known = known_matrix([set(), set()], 3)
    targets = tri_state(labels, known)
    loss = masked_bce(logits, targets, reduction) + masked_dice(logits.sigmoid(), targets, known)
    loss.backward()
    assert float(loss.detach()) == 0
    assert logits.grad is not None
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_without_exclusion_unknown_channels_have_no_gradient(reduction):
    logits, labels = _case((3, 4, 5))
    logits.requires_grad_()
    known = known_matrix([{1}, {2, 3}], 3)
    targets = tri_state(labels, known, exclusive=False)
    (masked_bce(logits, targets, reduction) + masked_dice(logits.sigmoid(), targets, known)).backward()
    assert logits.grad is not None
    for sample in range(2):
        for channel in range(3):
            assert bool(logits.grad[sample, channel].any()) == bool(known[sample, channel])


def test_with_exclusion_unknown_channels_are_pushed_down_on_known_organs_alone():
    logits, labels = _case((5, 6))
    logits.requires_grad_()
    known = known_matrix([{1}, {1}], 3)
    targets = tri_state(labels, known)
    (masked_bce(logits, targets) + masked_dice(logits.sigmoid(), targets, known)).backward()
    assert logits.grad is not None
    assert torch.equal(logits.grad[:, 1] > 0, labels == 1)
    assert torch.equal(logits.grad[:, 1] != 0, labels == 1)


def test_weights_scale_voxels():
    logits, labels = _case((5, 6))
    targets = tri_state(labels, known_matrix([{1, 2, 3}, {1}], 3))
    half = masked_bce(logits, targets, weights=torch.full((2, 5, 6), 0.5))
    assert float(half) == pytest.approx(0.5 * float(masked_bce(logits, targets)))
    weights = torch.zeros(2, 5, 6)
    weights[0] = 1
    first = functional.binary_cross_entropy_with_logits(logits[:1], targets[:1].float(), reduction="sum")
    assert float(masked_bce(logits, targets, weights=weights)) == pytest.approx(
        float(first) / int((targets >= 0).sum())
    )


def test_dice_by_hand():
    p = torch.tensor([[[0.5, 0.25]], [[0.8, 0.1]]])[:, :, None]
    labels = torch.tensor([[[1, 0]], [[0, 0]]])
    known = known_matrix([{1}, set()], 1)
    loss = masked_dice(p, tri_state(labels, known), known)
    assert float(loss) == pytest.approx(1 - (2 * 0.5 + 1) / (0.75 + 1 + 1)), "the second sample stays out"


def test_dice_leaves_out_what_exclusion_tells_of_unknown_organs():
    logits, labels = _case((5, 6))
    known = known_matrix([{1}, {2}], 3)
    p = logits.sigmoid()
    with_exclusion = masked_dice(p, tri_state(labels, known), known)
    assert float(with_exclusion) == float(masked_dice(p, tri_state(labels, known, exclusive=False), known))


def test_a_map_of_known_sets_is_the_same_as_the_sets():
    logits, labels = _case((3, 4, 5))
    known = known_matrix([{1}, {2, 3}], 3)
    targets = tri_state(labels, known)
    p = logits.sigmoid()
    assert float(masked_dice(p, targets, known_map(known, (3, 4, 5)))) == float(
        masked_dice(p, targets, known)
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_full(dtype):
    logits, labels = _case((5, 6))
    targets = tri_state(labels, known_matrix([{1}, {2, 3}], 3))
    logits = logits.to(dtype)
    assert masked_bce(logits, targets).dtype == torch.float32
    assert float(masked_bce(logits, targets)) == float(masked_bce(logits.float(), targets))


def test_an_unknown_reduction_is_refused():
    logits, labels = _case((5, 6))
    with pytest.raises(TrainingError, match="No reduction"):
        masked_bce(logits, tri_state(labels, known_matrix([{1}, {2}], 3)), "median")
