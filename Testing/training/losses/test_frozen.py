from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from multiorganseg_training.losses.frozen import Annotation, frozen_part, new_organ_losses
from multiorganseg_training.losses.known import on_grid, organ_probs, probs, tri_state
from multiorganseg_training.losses.mutual import reliability
from multiorganseg_training.losses.partial import log_dice, partial_cross_entropy

OLD, NEW, SPACE = 4, 2, (4, 6, 6)
ORGANS = OLD + NEW


def _within(*pairs: tuple[int, int]) -> Tensor:
    within = torch.zeros((ORGANS, ORGANS), dtype=torch.bool)
    for inner, outer in pairs:
        within[inner, outer] = True
    return within


APART = _within()
NESTED = _within((4, 0), (1, 5), (4, 5))
"""The first new organ lies inside an old one and inside the second new one, which lies around an old one."""


def _pseudo_labelled(
    logits: Tensor, known: Tensor, within: Tensor, weights: Tensor, activation: str
) -> Tensor:
    """Return the loss of the pseudo-labels from all channels, as it is published."""
    after = organ_probs(logits, activation)
    before = organ_probs(logits[:, :-NEW], activation)
    total = torch.zeros(())
    for new in range(OLD, ORGANS):
        against = weights * before[:, ~within[new, :OLD]].amax(dim=1)
        unknown = ~known[:, new]
        total = total + (against * -torch.log1p(-after[:, new]))[unknown].sum() / unknown.sum().clamp(min=1)
    return total


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("within", [APART, NESTED], ids=["apart", "nested"])
@pytest.mark.parametrize("mixed", [False, True])
def test_the_losses_and_gradients_are_those_of_all_channels(activation, within, mixed):
    torch.manual_seed(1)
    shift = int(activation == "softmax")
    old = 3 * torch.randn((3, OLD + shift, *SPACE))
    added = (2 * torch.randn((3, NEW, *SPACE)) - 1).requires_grad_()
    features = torch.randn((3, 5, *SPACE))
    labels = torch.randint(0, ORGANS + 1, (3, *SPACE))
    known = torch.tensor([[1, 0, 0, 0, 1, 0], [0, 1, 0, 1, 0, 1], [0, 0, 0, 0, 0, 0]], dtype=torch.bool)
    targets = tri_state(labels, known, within=within)
    if mixed:
        shown = known[..., None, None, None].expand(-1, -1, *SPACE).clone()
        shown[0, :, 2:], labels[0, 2:], targets[0, :, 2:] = shown[1, :, 2:], labels[1, 2:], targets[1, :, 2:]
        known = shown

    ground = old[:, :1] if shift else 0.0
    logits = torch.cat([old, ground + added], dim=1)
    everywhere = known if mixed else known[..., None, None, None].expand(-1, -1, *SPACE)
    organs = organ_probs(logits, activation, within)[:, OLD:]
    expected = (
        partial_cross_entropy(logits, labels, targets, known, activation, within),
        log_dice(organs, targets[:, OLD:], known[:, OLD:]),
        _pseudo_labelled(
            logits, everywhere, within, reliability(features, probs(old, activation)), activation
        ),
    )
    frozen = frozen_part(old, features, Annotation(labels, targets, known), within, activation)
    ours = new_organ_losses(added, frozen, within[OLD:, OLD:], activation)
    for mine, theirs in zip(ours, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=2e-6, atol=2e-6)
        gradients = [torch.autograd.grad(loss, added, retain_graph=True)[0] for loss in (mine, theirs)]
        torch.testing.assert_close(*gradients, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_reliability_is_judged_on_the_grid_of_the_features(activation):
    torch.manual_seed(2)
    coarse = 3 * torch.randn((2, OLD + int(activation == "softmax"), *(grid := (4, 8, 8))))
    logits = coarse.repeat_interleave(2, 2).repeat_interleave(2, 3).repeat_interleave(2, 4)
    features = torch.randn((2, 5, *grid))
    labels = torch.zeros((2, *logits.shape[2:]), dtype=torch.int64)
    known = torch.zeros((2, ORGANS), dtype=torch.bool)
    annotation = Annotation(labels, tri_state(labels, known, within=APART), known)
    weights = on_grid(reliability(features, probs(coarse, activation))[:, None], labels.shape[1:])
    expected = weights * organ_probs(logits, activation).amax(dim=1, keepdim=True)
    labelled = frozen_part(logits, features, annotation, APART, activation).pseudo_labels
    torch.testing.assert_close(labelled, expected.expand_as(labelled))
    assert float(weights.std()) > 0.01


UNKNOWN = torch.zeros((1, 3), dtype=torch.bool)


def _pseudo_label_loss(old: Tensor, added: Tensor, known: Tensor, within: Tensor, activation: str) -> Tensor:
    labels = torch.zeros((1, 1), dtype=torch.long)
    annotation = Annotation(labels, tri_state(labels, known, within=within), known)
    frozen = frozen_part(old, None, annotation, within, activation)
    return new_organ_losses(added, frozen, within[2:, 2:], activation)[2]


SOFTMAX = (torch.tensor([0.2, 0.6, 0.2]).log().reshape(1, 3, 1), torch.tensor(5.0).log().reshape(1, 1, 1))
SIGMOID = (torch.tensor([0.2, 0.7]).logit().reshape(1, 2, 1), torch.tensor(0.75).logit().reshape(1, 1, 1))
"""Old organs of which one has 0.6 or 0.7, and a new one with p = ½ or ¾."""


def test_pseudo_labels_of_a_voxel_by_hand():
    apart = torch.zeros((3, 3), dtype=torch.bool)
    softmax = _pseudo_label_loss(*SOFTMAX, UNKNOWN, apart, "softmax")
    assert float(softmax) == pytest.approx(-0.6 * math.log(0.5))
    sigmoid = _pseudo_label_loss(*SIGMOID, UNKNOWN, apart, "sigmoid")
    assert float(sigmoid) == pytest.approx(-0.7 * math.log(0.25))


@pytest.mark.parametrize(("voxel", "activation"), [(SOFTMAX, "softmax"), (SIGMOID, "sigmoid")])
def test_annotated_organs_and_organs_around_say_nothing(voxel, activation):
    apart = torch.zeros((3, 3), dtype=torch.bool)
    annotated = torch.tensor([[False, False, True]])
    assert float(_pseudo_label_loss(*voxel, annotated, apart, activation)) == 0
    inside = apart.clone()
    inside[2, :2] = True
    assert float(_pseudo_label_loss(*voxel, UNKNOWN, inside, activation)) == 0


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_certainty_stays_finite(activation):
    apart = torch.zeros((3, 3), dtype=torch.bool)
    old = torch.full((1, 2 + (activation == "softmax"), 1), -90.0)
    old[:, -1] = 90.0
    added = torch.full((1, 1, 1), 300.0, requires_grad=True)
    loss = _pseudo_label_loss(old, added, UNKNOWN, apart, activation)
    loss.backward()
    assert bool(torch.isfinite(loss))
    assert bool(torch.isfinite(added.grad).all())
