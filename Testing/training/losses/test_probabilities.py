from __future__ import annotations

import pytest
import torch

from multiorganseg.errors import TrainingError
from multiorganseg_training.losses.known import log_probs, organ_probs, probs, within_matrix


def test_sigmoids_by_hand():
    logits = torch.tensor([0.5, 0.2]).logit().reshape(1, 2, 1, 1)
    p = probs(logits, "sigmoid").flatten()
    assert p.tolist() == pytest.approx([0.4 / 1.1, 0.5 / 1.1, 0.2 / 1.1]), (
        "p0 = 0.5 · 0.8, divided by the sum"
    )
    assert organ_probs(logits, "sigmoid").flatten().tolist() == pytest.approx([0.5, 0.2])


def test_softmax_is_softmax():
    logits = torch.randn(2, 4, 3, 2, 5, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(probs(logits, "softmax"), logits.softmax(1))
    assert torch.allclose(organ_probs(logits, "softmax"), logits.softmax(1)[:, 1:])


def test_what_lies_inside_an_organ_counts_for_it_under_a_softmax():
    """1 liver, 2 a tumour in it, 3 a cyst in that."""
    p = torch.tensor([0.1, 0.3, 0.2, 0.4]).reshape(1, 4, 1, 1)
    within = within_matrix({2: 1, 3: 2}, 3)
    found = organ_probs(p.log(), "softmax", within).flatten()
    assert found.tolist() == pytest.approx([0.9, 0.6, 0.4])
    sigmoids = torch.tensor([0.5, 0.2, 0.7]).reshape(1, 3, 1, 1)
    assert torch.allclose(organ_probs(sigmoids.logit(), "sigmoid", within), sigmoids)


def test_one_sigmoid_is_itself():
    logits = torch.linspace(-8, 8, 9).reshape(1, 1, 9, 1)
    assert torch.allclose(probs(logits, "sigmoid")[:, 1:], logits.sigmoid(), atol=1e-6)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_extreme_logits_stay_finite(activation, dtype):
    logits = torch.tensor([[-6e4, 6e4, 0.0], [-6e4, -6e4, -6e4], [6e4, 6e4, 6e4]], dtype=dtype)
    logits = logits.reshape(3, 3, 1, 1).requires_grad_()
    result = log_probs(logits, activation)
    assert result.dtype == torch.float32
    assert result.isfinite().all()
    assert torch.allclose(result.exp().sum(1), torch.ones(()))
    result.clamp(min=-50).sum().backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_an_unknown_activation_is_refused():
    with pytest.raises(TrainingError, match="tanh"):
        probs(torch.zeros(1, 1, 1, 1), "tanh")
    with pytest.raises(TrainingError, match="tanh"):
        organ_probs(torch.zeros(1, 1, 1, 1), "tanh")
