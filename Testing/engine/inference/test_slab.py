from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from multiorganseg.inference.slab import describe, uncertainty


def _bits(*shares: float) -> float:
    return -sum(share * math.log2(share) for share in shares)


@pytest.mark.parametrize(
    ("activation", "mean", "wanted"),
    [
        ("softmax", [1.0, 0.0], 0.0),
        ("softmax", [0.5, 0.5], 1.0),
        ("softmax", [0.9, 0.1], _bits(0.9, 0.1)),
        ("softmax", [0.9, 0.06, 0.04, 0.0], _bits(0.9, 0.06, 0.04)),
        ("softmax", [0.5, 0.5, *[0.0] * 12], 1.0),
        ("softmax", [0.25, 0.25, 0.25, 0.25], 1.0),
        ("sigmoid", [0.5, 0.0, 1.0], 0.0),
        ("sigmoid", [0.5, 0.5, 1.0], 1.0),
        ("sigmoid", [0.5, 0.05, 0.3], _bits(0.3, 0.7)),
    ],
)
def test_it_is_the_entropy_in_bits_at_most_one(activation: str, mean: list[float], wanted: float) -> None:
    before = torch.tensor([mean])
    assert float(uncertainty(before, activation)[0]) == pytest.approx(wanted, abs=1e-5)
    assert before.tolist() == torch.tensor([mean]).tolist()


@given(st.integers(0, 10_000), st.integers(2, 20), st.floats(0.1, 12))
def test_it_is_never_less_than_how_far_two_decoders_are_apart(
    seed: int, classes: int, certain: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    first, second = (certain * torch.randn((2, 200, classes), generator=generator)).softmax(dim=-1)
    uncertain = uncertainty((first + second) / 2, "softmax")
    apart = (first - second).abs().sum(dim=-1) / 2
    assert uncertain.shape == (200,)
    assert 0 <= float(uncertain.min()) <= float(uncertain.max()) <= 1
    assert bool((uncertain >= apart - 1e-4).all())


@given(st.integers(0, 10_000), st.integers(1, 8))
def test_it_is_so_for_independent_organs_too(seed: int, organs: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    first, second = torch.rand((2, 200, 1 + organs), generator=generator)
    uncertain = uncertainty((first + second) / 2, "sigmoid")
    assert bool((uncertain >= (first - second)[:, 1:].abs().amax(dim=-1) - 1e-4).all())


def test_the_provenance_says_when_there_is_but_one_decoder() -> None:
    assert "one decoder" in describe(1)
    assert "2 decoders" in describe(2)
