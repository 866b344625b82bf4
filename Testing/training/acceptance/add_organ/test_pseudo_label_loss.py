from __future__ import annotations

import math

import pytest
import torch

from multiorganseg_training.losses.pseudo_labels import pseudo_label_loss

OLD, ORGANS = 2, 3
APART = torch.zeros((ORGANS, ORGANS), dtype=torch.bool)
UNKNOWN = torch.tensor([[False, False, False]])
ONE = torch.ones((1, 1))


def _softmax(*probabilities: float) -> torch.Tensor:
    return torch.tensor(probabilities).log().reshape(1, -1, 1)


def _sigmoid(*probabilities: float) -> torch.Tensor:
    return torch.tensor(probabilities).logit().reshape(1, -1, 1)


def test_a_voxel_by_hand():
    loss = pseudo_label_loss(_softmax(0.1, 0.3, 0.1, 0.5), OLD, UNKNOWN, APART, ONE, "softmax")
    assert float(loss) == pytest.approx(-0.6 * math.log(0.5)), (
        "before there was the new organ, p was 0.3 / 0.5"
    )
    loss = pseudo_label_loss(_sigmoid(0.2, 0.7, 0.75), OLD, UNKNOWN, APART, ONE, "sigmoid")
    assert float(loss) == pytest.approx(-0.7 * math.log(0.25))


@pytest.mark.parametrize("logits", [_softmax(0.1, 0.3, 0.1, 0.5), _sigmoid(0.2, 0.7, 0.5)])
def test_weights_annotations_and_outer_organs(logits):
    activation = "softmax" if logits.shape[1] > ORGANS else "sigmoid"
    whole = float(pseudo_label_loss(logits, OLD, UNKNOWN, APART, ONE, activation))
    half = pseudo_label_loss(logits, OLD, UNKNOWN, APART, 0.5 * ONE, activation)
    assert float(half) == pytest.approx(whole / 2)
    annotated = torch.tensor([[False, False, True]])
    assert float(pseudo_label_loss(logits, OLD, annotated, APART, ONE, activation)) == 0
    inside = APART.clone()
    inside[2, 0] = inside[2, 1] = True
    assert float(pseudo_label_loss(logits, OLD, UNKNOWN, inside, ONE, activation)) == 0


def test_the_mean_is_over_voxels_that_do_not_know_the_organ():
    logits = _softmax(0.1, 0.3, 0.1, 0.5).expand(1, -1, 4)
    known = torch.zeros((1, ORGANS, 4), dtype=torch.bool)
    known[0, 2, :3] = True
    one = pseudo_label_loss(logits[..., :1], OLD, UNKNOWN, APART, ONE, "softmax")
    many = pseudo_label_loss(logits, OLD, known, APART, torch.ones((1, 4)), "softmax")
    assert float(many) == pytest.approx(float(one))


def test_the_gradient_pushes_new_organs_away_and_nothing_else_is_asked_of_old_ones():
    logits = _sigmoid(0.2, 0.7, 0.5).requires_grad_(True)
    pseudo_label_loss(logits, OLD, UNKNOWN, APART, ONE, "sigmoid").backward()
    assert logits.grad[0, :OLD, 0].tolist() == [0, 0]
    assert float(logits.grad[0, 2, 0]) == pytest.approx(0.7 * 0.5)


def test_certainty_stays_finite():
    logits = torch.tensor([0.0, 90.0, 0.0, 100.0]).reshape(1, -1, 1).requires_grad_(True)
    loss = pseudo_label_loss(logits, OLD, UNKNOWN, APART, ONE, "softmax")
    loss.backward()
    assert bool(torch.isfinite(loss))
    assert bool(torch.isfinite(logits.grad).all())
