from __future__ import annotations

import math

import pytest
import torch
from monai.losses import DiceLoss
from torch.nn import functional

from multiorganseg_training.losses.partial import cross_entropy_and_dice

SHAPE = (2, 4, 6, 6)


def _case(classes: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn((2, classes, *SHAPE[1:]), generator=generator)
    return logits, torch.randint(0, classes, SHAPE, generator=generator)


def test_an_example_by_hand():
    probabilities = torch.tensor([[0.5, 0.25, 0.25], [0.2, 0.6, 0.2]])
    logits = probabilities.log().T.reshape(1, 3, 2, 1, 1) + 5.0
    labels = torch.tensor([0, 1]).reshape(1, 2, 1, 1)
    cross_entropy, dice = cross_entropy_and_dice(logits, labels)
    assert float(cross_entropy) == pytest.approx(-(math.log(0.5) + math.log(0.6)) / 2)
    assert float(dice) == pytest.approx(1 - (2 * 0.6 + 1) / (0.25 + 0.6 + 1 + 1)), "class 2 stays out"


def test_agreement_with_monai_where_all_classes_occur():
    logits, labels = _case()
    cross_entropy, dice = cross_entropy_and_dice(logits, labels)
    monai = DiceLoss(
        include_background=False, to_onehot_y=True, softmax=True, batch=True, smooth_nr=1.0, smooth_dr=1.0
    )
    assert float(dice) == pytest.approx(float(monai(logits, labels[:, None])), abs=1e-6)
    assert float(cross_entropy) == pytest.approx(float(functional.cross_entropy(logits, labels)), abs=1e-6)


def test_classes_that_do_not_occur_stay_out():
    logits, labels = _case()
    labels[labels == 3] = 0
    monai = DiceLoss(
        include_background=False,
        to_onehot_y=True,
        softmax=True,
        batch=True,
        smooth_nr=1.0,
        smooth_dr=1.0,
        reduction="none",
    )
    each = monai(logits, labels[:, None]).flatten()
    assert float(cross_entropy_and_dice(logits, labels)[1]) == pytest.approx(float(each[:2].mean()), abs=1e-6)


def test_a_perfect_prediction_costs_nothing():
    _, labels = _case()
    logits = 50.0 * functional.one_hot(labels, 4).movedim(-1, 1).float()
    assert all(float(part) < 1e-5 for part in cross_entropy_and_dice(logits, labels))


def test_without_foreground_the_dice_loss_is_zero_with_a_zero_gradient():
    logits, labels = _case()
    logits.requires_grad_()
    _, dice = cross_entropy_and_dice(logits, torch.zeros_like(labels))
    dice.backward()
    assert float(dice.detach()) == 0
    assert logits.grad is not None
    assert not logits.grad.any()


@pytest.mark.parametrize("scale", [1.0, 1e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_are_finite(scale, dtype):
    logits, labels = _case()
    logits = (logits * scale).to(dtype).requires_grad_()
    cross_entropy, dice = cross_entropy_and_dice(logits, labels)
    assert cross_entropy.dtype == dice.dtype == torch.float32
    (cross_entropy + dice).backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_the_gradient_is_the_derivative():
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn((1, 3, 2, 2, 2), generator=generator, requires_grad=True)
    labels = torch.randint(0, 3, (1, 2, 2, 2), generator=generator)
    _, dice = cross_entropy_and_dice(logits, labels)
    dice.backward()
    assert logits.grad is not None
    step = 1e-2 * logits.grad / logits.grad.norm()
    with torch.no_grad():
        rise = (
            cross_entropy_and_dice(logits + step, labels)[1]
            - cross_entropy_and_dice(logits - step, labels)[1]
        )
    assert float(rise) == pytest.approx(2e-2 * float(logits.grad.norm()), rel=0.02)
