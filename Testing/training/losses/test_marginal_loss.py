from __future__ import annotations

import math

import pytest
import torch

from multiorganseg_training.data.batches import known_matrix
from multiorganseg_training.losses.known import known_map, organ_probs, tri_state, within_matrix
from multiorganseg_training.losses.partial import (
    cross_entropy_and_dice,
    exclusion,
    marginal_cross_entropy,
    masked_dice,
)

SPACES = [(5, 6), (3, 4, 5)]


def _case(space: tuple[int, ...], classes: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn((2, classes + 1, *space), generator=generator)
    return logits, torch.randint(0, classes + 1, (2, *space), generator=generator)


def _all_terms(logits: torch.Tensor, labels: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    targets, p = tri_state(labels, known), organ_probs(logits, "softmax")
    dice, overlap = masked_dice(p, targets, known), exclusion(p, targets, known)
    return marginal_cross_entropy(logits, labels, known) + dice + overlap


def test_probabilities_are_merged_not_logits():
    logits = torch.tensor([1.0, 2.0, -1.0, 0.5]).reshape(1, 4, 1, 1)
    known = known_matrix([{1}], 3)
    background = torch.zeros((1, 1, 1), dtype=torch.int64)
    p = logits.flatten().softmax(0)
    merged = float(marginal_cross_entropy(logits, background, known))
    assert merged == pytest.approx(-math.log(float(p[0] + p[2] + p[3])))
    summed_logits = torch.tensor([1.0 - 1.0 + 0.5, 2.0]).softmax(0)
    assert merged != pytest.approx(-math.log(float(summed_logits[0])), abs=0.1)
    assert float(marginal_cross_entropy(logits, background + 1, known)) == pytest.approx(
        -math.log(float(p[1]))
    )


def test_labels_of_unknown_organs_belong_to_the_rest():
    logits, labels = _case((5, 6))
    known = known_matrix([{1}, {1}], 3)
    hidden = labels.where(labels == 1, 0)
    assert float(marginal_cross_entropy(logits, labels, known)) == float(
        marginal_cross_entropy(logits, hidden, known)
    )


def test_everything_known_is_the_plain_loss():
    logits, labels = _case((3, 4, 5))
    known = torch.ones((2, 3), dtype=torch.bool)
    cross_entropy, dice = cross_entropy_and_dice(logits, labels)
    p, targets = organ_probs(logits, "softmax"), tri_state(labels, known)
    assert float(marginal_cross_entropy(logits, labels, known)) == pytest.approx(float(cross_entropy))
    assert float(masked_dice(p, targets, known)) == pytest.approx(float(dice))
    assert float(exclusion(p, targets, known)) == 0


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("scale", [1.0, 1e6])
def test_nothing_known_is_exactly_zero(space, scale):
    logits, labels = _case(space)
    logits = (logits * scale).requires_grad_()
    loss = _all_terms(logits, labels, known_matrix([set(), set()], 3))
    loss.backward()
    assert float(loss.detach()) == 0
    assert logits.grad is not None
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_a_sample_of_which_nothing_is_known_does_not_dilute_the_mean():
    logits, labels = _case((5, 6))
    both = marginal_cross_entropy(logits, labels, known_matrix([{1, 2}, set()], 3))
    alone = marginal_cross_entropy(logits[:1], labels[:1], known_matrix([{1, 2}], 3))
    assert float(both) == pytest.approx(float(alone))


@pytest.mark.parametrize("scale", [1.0, 1e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_gradients_are_finite(scale, dtype):
    logits, labels = _case((5, 6))
    logits = (logits * scale).to(dtype).requires_grad_()
    loss = _all_terms(logits, labels, known_matrix([{1}, {2, 3}], 3))
    assert loss.dtype == torch.float32
    loss.backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_the_gradient_is_the_derivative():
    logits, labels = _case((2, 3))
    known = known_matrix([{1}, {2, 3}], 3)
    logits.requires_grad_()
    _all_terms(logits, labels, known).backward()
    assert logits.grad is not None
    step = 1e-2 * logits.grad / logits.grad.norm()
    with torch.no_grad():
        rise = _all_terms(logits + step, labels, known) - _all_terms(logits - step, labels, known)
    assert float(rise) == pytest.approx(2e-2 * float(logits.grad.norm()), rel=0.02)


def test_exclusion_by_hand():
    p = torch.tensor([[0.7, 0.1], [0.2, 0.6]]).reshape(1, 2, 1, 2)
    labels = torch.tensor([[[1, 0]]])
    known = known_matrix([{1}], 2)
    overlap = exclusion(p, tri_state(labels, known), known)
    assert float(overlap) == pytest.approx(2 * 0.2 / (0.2 + 0.6 + 1 + 1))


def test_mixed_samples_are_judged_voxel_by_voxel():
    logits, labels = _case((5, 6))
    known = known_matrix([{1}, {2, 3}], 3)
    spread = known_map(known, (5, 6))
    assert float(marginal_cross_entropy(logits, labels, spread)) == pytest.approx(
        float(marginal_cross_entropy(logits, labels, known))
    )
    left = torch.zeros((2, 5, 6), dtype=torch.bool)
    left[:, :, :3] = True
    mixed = torch.where(left[:, None], spread, spread.flip(0))
    half = logits.shape[-1] // 2
    parts = [
        marginal_cross_entropy(logits[..., :half], labels[..., :half], known),
        marginal_cross_entropy(logits[..., half:], labels[..., half:], known.flip(0)),
    ]
    assert float(marginal_cross_entropy(logits, labels, mixed)) == pytest.approx(float(sum(parts)) / 2)


def test_weights_scale_voxels():
    logits, labels = _case((5, 6))
    known = known_matrix([{1}, {2, 3}], 3)
    weights = torch.zeros(2, 5, 6)
    weights[1] = 2
    second = marginal_cross_entropy(logits[1:], labels[1:], known[1:])
    assert float(marginal_cross_entropy(logits, labels, known, weights)) == pytest.approx(float(second))


@pytest.mark.parametrize("spread", [False, True])
def test_an_annotated_organ_says_nothing_against_one_inside_it(spread):
    """The liver (1) is annotated, a tumour in it (2) is not; 3 is another organ, not annotated either."""
    p = torch.tensor([0.1, 0.3, 0.4, 0.2])
    logits = p.log().reshape(1, 4, 1, 1).expand(1, 4, 1, 2).clone().requires_grad_()
    labels, known, within = torch.tensor([[[1, 0]]]), known_matrix([{1}], 3), within_matrix({2: 1}, 3)
    known = known_map(known, (1, 2)) if spread else known
    loss = marginal_cross_entropy(logits, labels, known, within=within)
    assert float(loss.detach()) == pytest.approx(-(math.log(0.3 + 0.4) + math.log(0.1 + 0.2)) / 2)
    loss.backward()
    assert logits.grad is not None
    assert float(logits.grad[0, 2, 0, 0]) < 0, "on the liver a tumour is as good"
    assert float(logits.grad[0, 2, 0, 1]) > 0, "outside of the liver there is none"
    plain = marginal_cross_entropy(logits, labels, known)
    assert float(plain.detach()) == pytest.approx(-(math.log(0.3) + math.log(0.1 + 0.4 + 0.2)) / 2)


def test_with_every_organ_annotated_nesting_changes_no_cross_entropy():
    logits, labels = _case((3, 4, 5))
    known, within = known_matrix([{1, 2, 3}] * 2, 3), within_matrix({2: 1}, 3)
    torch.testing.assert_close(
        marginal_cross_entropy(logits, labels, known, within=within),
        torch.nn.functional.cross_entropy(logits, labels),
    )


def test_the_dice_of_an_organ_counts_those_inside_it():
    """A softmax that is sure of a tumour in the liver has the liver right, and its tumour."""
    labels = torch.tensor([[[1, 1, 2, 0]]])
    within = within_matrix({2: 1}, 2)
    logits = 20.0 * torch.nn.functional.one_hot(torch.tensor([[[1, 2, 2, 0]]]), 3).movedim(-1, 1).float()
    organs = organ_probs(logits, "softmax", within)
    for known in (known_matrix([{1}], 2), known_matrix([{1, 2}], 2)):
        targets = tri_state(torch.where(known[0, 1], labels, labels.clamp(max=1)), known, within=within)
        assert float(masked_dice(organs[:, :1], targets[:, :1], known[:, :1])) == pytest.approx(0, abs=1e-5)
    assert torch.allclose(organ_probs(logits, "softmax", torch.zeros_like(within)), logits.softmax(1)[:, 1:])
