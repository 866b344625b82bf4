from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from multiorganseg.errors import TrainingError
from multiorganseg_training.extend.retention import retained_organs, retention

OLD, ORGANS = 2, 3
NONE_KNOWN = torch.tensor([[False, False, False]])


def _logits(*probabilities: float) -> Tensor:
    """Give softmax logits (1, channels, 1) of one voxel."""
    return torch.tensor(probabilities).log().reshape(1, -1, 1)


def _loss(logits: Tensor, former: Tensor, known: Tensor = NONE_KNOWN, activation: str = "softmax") -> Tensor:
    counts = torch.ones((len(logits), *logits.shape[2:]), dtype=torch.bool)
    retained = retained_organs(known, OLD)
    return retention(
        logits, former, retained, counts, torch.ones_like(counts, dtype=torch.float32), activation
    )


def test_the_trained_network_speaks_for_old_organs_that_are_not_annotated():
    known = torch.tensor([[True, False, True], [False, False, False]])
    assert retained_organs(known, OLD).tolist() == [[False, True, False], [True, True, False]]
    voxels = known[:, :, None].expand(-1, -1, 4)
    assert torch.equal(retained_organs(voxels, OLD)[..., 2], retained_organs(known, OLD))


def test_the_divergence_of_one_voxel_by_hand():
    former, now = _logits(0.5, 0.25, 0.25, 1e-30), _logits(0.25, 0.25, 0.25, 0.25)
    assert float(_loss(now, former)) == pytest.approx(0, abs=1e-6), "background went to the new organ"
    now = _logits(0.2, 0.5, 0.25, 0.05)
    expected = 0.5 * math.log(0.5 / 0.25) + 0.25 * math.log(0.25 / 0.5)
    assert float(_loss(now, former)) == pytest.approx(expected, rel=1e-5)


def test_an_annotated_old_organ_is_one_with_the_rest():
    former, now = _logits(0.5, 0.25, 0.2, 0.05), _logits(0.1, 0.6, 0.2, 0.1)
    assert float(_loss(now, former)) > 0.05
    assert float(_loss(now, former, torch.tensor([[True, False, False]]))) == pytest.approx(0, abs=1e-6)
    assert float(_loss(now, former, torch.tensor([[True, True, True]]))) == pytest.approx(0, abs=1e-6)


def test_sigmoids_by_hand():
    former = torch.tensor([0.0, math.log(3), -5.0]).reshape(1, 3, 1)
    now = torch.tensor([math.log(3), math.log(3), 7.0]).reshape(1, 3, 1)
    expected = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    assert float(_loss(now, former, activation="sigmoid")) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10_000))
def test_it_is_zero_with_zero_gradient_where_nothing_changed_and_else_positive(activation, seed):
    generator = torch.Generator().manual_seed(seed)
    channels = ORGANS + (activation == "softmax")
    former = 4 * torch.randn((2, channels, 2, 3), generator=generator)
    known = torch.rand((2, ORGANS), generator=generator) > 0.5
    logits = former.clone().requires_grad_()
    loss = _loss(logits, former, known, activation)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0, abs=1e-6)
    assert logits.grad is not None
    assert float(logits.grad.abs().max()) < 1e-6
    other = former + torch.randn(former.shape, generator=generator)
    assert float(_loss(other, former, known, activation)) >= -1e-6


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10_000), share=st.floats(0.01, 0.99))
def test_a_new_organ_may_take_what_was_background(seed, share):
    generator = torch.Generator().manual_seed(seed)
    former = 2 * torch.randn((1, ORGANS + 1, 2, 3), generator=generator)
    now = former.softmax(dim=1)
    rest = now[:, 0] + now[:, -1]
    now[:, 0], now[:, -1] = (1 - share) * rest, share * rest
    logits = now.log().requires_grad_()
    loss = _loss(logits, former)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0, abs=1e-5)
    assert logits.grad is not None
    assert float(logits.grad.abs().max()) < 1e-5


def test_only_voxels_that_count_with_their_weight():
    former, now = torch.zeros((1, 4, 3)), torch.zeros((1, 4, 3))
    now[0, 1] = torch.tensor([1.0, 5.0, 2.0])
    retained = retained_organs(NONE_KNOWN, OLD)
    counts = torch.tensor([[True, False, True]])
    whole = retention(now, former, retained, counts, torch.tensor([[1.0, 1.0, 0.5]]), "softmax")
    first, last = (float(_loss(now[..., [voxel]], former[..., [voxel]])) for voxel in (0, 2))
    assert float(whole) == pytest.approx((first + 0.5 * last) / 2, rel=1e-5)
    logits = now.clone().requires_grad_()
    nothing = retention(logits, former, retained, torch.zeros_like(counts), torch.ones((1, 3)), "softmax")
    nothing.backward()
    assert float(nothing.detach()) == 0
    assert logits.grad is not None
    assert float(logits.grad.abs().max()) == 0


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_claims_of_every_size_stay_finite(activation):
    channels = ORGANS + (activation == "softmax")
    former = torch.full((1, channels, 1), -200.0)
    former[0, 1] = 200
    logits = (-former).to(torch.bfloat16).requires_grad_()
    loss = _loss(logits, former, activation=activation)
    loss.backward()
    assert loss.dtype == torch.float32
    assert 100 < float(loss.detach()) < math.inf
    assert logits.grad is not None
    assert bool(logits.grad.isfinite().all())


def test_an_unknown_activation_is_refused():
    with pytest.raises(TrainingError, match="tanh"):
        _loss(torch.zeros((1, 4, 1)), torch.zeros((1, 4, 1)), activation="tanh")
