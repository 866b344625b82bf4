from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from multiorganseg_training.losses.partial import log_dice, masked_dice

KNOWN = torch.tensor([[True]])
TARGETS = torch.tensor([1, 1, 0, 0], dtype=torch.int8).reshape(1, 1, 4)


def _pull(loss, probability: float) -> float:
    """Gradient of a loss to the logit of the organ's voxels, which all have one probability."""
    logits = torch.full((1, 1, 4), math.log(probability / (1 - probability)), requires_grad=True)
    loss(logits.sigmoid()).backward()
    gradient: Tensor = logits.grad
    return float(-gradient[0, 0, :2].sum())


def test_by_hand():
    probabilities = torch.tensor([0.5, 0.25, 0.25, 0.0]).reshape(1, 1, 4)
    expected = -math.log((2 * 0.75 + 0.01) / (1.0 + 2 + 0.01))
    assert float(log_dice(probabilities, TARGETS, KNOWN)) == pytest.approx(expected, rel=1e-5)


def test_a_small_probability_is_pulled_up_where_the_dice_lets_it_lie():
    small = 3e-2
    assert _pull(lambda p: log_dice(p, TARGETS, KNOWN), small) > 0.8
    assert _pull(lambda p: masked_dice(p, TARGETS, KNOWN), small) < 0.06


def test_organs_that_are_not_known_or_do_not_occur_do_not_count():
    probabilities = torch.full((1, 3, 4), 0.2, requires_grad=True)
    targets = torch.stack([TARGETS[0, 0], TARGETS[0, 0], torch.zeros(4, dtype=torch.int8)])[None]
    known = torch.tensor([[True, False, True]])
    loss = log_dice(probabilities, targets, known)
    alone = log_dice(probabilities[:, :1], targets[:, :1], known[:, :1])
    assert float(loss.detach()) == pytest.approx(float(alone.detach()))
    loss.backward()
    assert float(probabilities.grad[:, 1:].abs().sum()) == 0


def test_nothing_known_gives_zero_with_gradients():
    probabilities = torch.full((1, 1, 4), 0.2, requires_grad=True)
    loss = log_dice(probabilities, TARGETS, torch.tensor([[False]]))
    loss.backward()
    assert float(loss.detach()) == float(probabilities.grad.abs().sum()) == 0


def test_an_organ_missed_altogether_stays_finite():
    probabilities = torch.zeros((1, 1, 4_000_000), requires_grad=True)
    targets = torch.zeros((1, 1, 4_000_000), dtype=torch.int8)
    targets[..., 0] = 1
    wrong = torch.ones_like(targets, dtype=torch.float32)
    wrong[..., 0] = 0
    loss = log_dice(probabilities + wrong, targets, KNOWN)
    loss.backward()
    assert math.isfinite(float(loss.detach()))
    assert bool(probabilities.grad.isfinite().all())
