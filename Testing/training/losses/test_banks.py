from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from multiorganseg_training.losses.prototypes import PrototypeBank


def _unit(*rows: tuple[float, ...]) -> torch.Tensor:
    return functional.normalize(torch.tensor(rows), dim=-1)


@pytest.fixture
def bank() -> PrototypeBank:
    """Two classes with two prototypes in the plane: east and north, west and south."""
    result = PrototypeBank(2, per_class=2, width=2, momentum=0.5)
    result.prototypes.copy_(torch.tensor([[[1.0, 0], [0, 1]], [[-1, 0], [0, -1]]]))
    return result


def test_the_start_is_random_of_unit_length_and_repeatable():
    first, again = (PrototypeBank(5, generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert first.prototypes.shape == (5, 5, 64)
    assert torch.allclose(first.prototypes.norm(dim=-1), torch.ones(5, 5))
    assert torch.equal(first.prototypes, again.prototypes)
    assert not list(first.parameters())
    assert list(first.state_dict()) == ["prototypes"]


def test_cosines_by_hand(bank):
    cosines = bank.similarities(_unit((3.0, 4.0)))
    assert torch.allclose(cosines, torch.tensor([[[0.6, 0.8], [-0.6, -0.8]]]))


def test_an_update_by_hand(bank):
    """East gets the sum of (0, 1) and (0, 1), west that of (3, 4)/5 and (3, −4)/5."""
    pixels = _unit((0.0, 1.0), (0.0, 1.0), (3.0, 4.0), (3.0, -4.0))
    bank.prototypes[1, 0] = torch.tensor([0.0, 1.0])
    bank.update(pixels, torch.tensor([0, 0, 2, 2]))
    half = 0.5**0.5
    expected = torch.tensor([[[half, half], [0, 1]], [[half, half], [0, -1]]])
    assert torch.allclose(bank.prototypes, expected)


def test_prototypes_without_pixels_stay(bank):
    before = bank.prototypes.clone()
    bank.update(torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64))
    assert torch.equal(bank.prototypes, before)


def test_an_update_leaves_the_backward_pass_alone(bank):
    pixels = _unit((3.0, 4.0)).requires_grad_()
    cosines = bank.similarities(pixels)
    expected = bank.prototypes[0, 0].clone()
    bank.update(pixels.detach(), torch.tensor([0]))
    cosines[0, 0, 0].backward()
    assert pixels.grad is not None
    assert torch.equal(pixels.grad[0], expected)


def test_banks_follow_and_copy(bank):
    other = PrototypeBank(2, per_class=2, width=2)
    other.prototypes.copy_(torch.tensor([[[0.0, 1], [1, 0]], [[0, 1], [0, -1]]]))
    other_before = other.prototypes.clone()
    teacher = PrototypeBank(2, per_class=2, width=2)
    teacher.prototypes.copy_(bank.prototypes)
    teacher.follow(other, 0.5)
    half = 0.5**0.5
    assert torch.allclose(teacher.prototypes[0], torch.tensor([[half, half], [half, half]]))
    bank.copy_class(other)
    assert torch.equal(bank.prototypes[0], other_before[0])
    assert bank.prototypes[1, 0].tolist() == [-1, 0]
    bank.update(_unit((1.0, 1.0)), torch.tensor([0]))
    assert torch.equal(other.prototypes, other_before), "a copy, not the same memory"


def test_mixed_precision_is_computed_in_full(bank):
    pixels = _unit((3.0, 4.001))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cosines = bank.similarities(pixels)
        bank.update(pixels, torch.tensor([0]))
    assert cosines.dtype == bank.prototypes.dtype == torch.float32
    assert float(cosines[0, 0, 0]) == float(pixels[0, 0])


def test_following_another_bank_by_hand(bank):
    """Halfway from east to north lies north-east, each prototype by itself."""
    other = PrototypeBank(2, per_class=2, width=2)
    other.prototypes.copy_(torch.tensor([[[0.0, 1], [0, 1]], [[0, 1], [-1, 0]]]))
    bank.follow(other, 0.5)
    half = 0.5**0.5
    expected = torch.tensor([[[half, half], [0, 1]], [[-half, half], [-half, -half]]])
    assert torch.allclose(bank.prototypes, expected)
