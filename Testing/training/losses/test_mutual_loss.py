from __future__ import annotations

import math

import pytest
import torch

from multiorganseg_training.losses.mutual import reliable_cross_entropy


def test_a_case_by_hand():
    logs = torch.tensor([[0.5, 0.25, 0.9], [0.5, 0.75, 0.1]]).log()[None]
    labels = torch.tensor([[1, 0, 1]])
    chosen = torch.tensor([[True, True, False]])
    weights = torch.tensor([[0.5, 1.0, 1.0]])
    loss = reliable_cross_entropy(logs, labels, chosen, weights)
    assert float(loss) == pytest.approx((0.5 * math.log(2) + math.log(4)) / 2, rel=1e-5)
    plain = reliable_cross_entropy(logs, labels, chosen)
    assert float(plain) == pytest.approx((math.log(2) + math.log(4)) / 2, rel=1e-5)


def test_nothing_chosen_is_nought_with_gradients_of_nought():
    logits = torch.randn(2, 3, 2, 2, 2, requires_grad=True)
    labels = torch.zeros((2, 2, 2, 2), dtype=torch.long)
    loss = reliable_cross_entropy(logits.log_softmax(1), labels, torch.zeros_like(labels, dtype=torch.bool))
    loss.backward()
    assert float(loss.detach()) == 0
    assert not logits.grad.any()


def test_unreliable_labels_count_less():
    logits = torch.randn(1, 2, 4, requires_grad=True)
    labels, chosen = torch.zeros((1, 4), dtype=torch.long), torch.ones((1, 4), dtype=torch.bool)
    whole = reliable_cross_entropy(logits.log_softmax(1), labels, chosen)
    half = reliable_cross_entropy(logits.log_softmax(1), labels, chosen, torch.full((1, 4), 0.5))
    torch.testing.assert_close(half, whole / 2)
