from __future__ import annotations

import pytest
import torch

from multiorganseg_training.losses.known import on_grid


def test_features_on_the_grid_are_not_touched():
    features = torch.rand((2, 3, 4, 6, 6))
    assert on_grid(features, (4, 6, 6)) is features


@pytest.mark.parametrize("fine", [(8,), (6, 8), (4, 6, 8)])
def test_a_ramp_stays_a_ramp_on_the_finer_grid(fine):
    """A coarse cell lies in the middle of its two fine ones."""
    coarse = tuple(size // 2 for size in fine)
    places = torch.meshgrid(*(2 * torch.arange(float(size)) + 0.5 for size in coarse), indexing="ij")
    found = on_grid(sum(places)[None, None], fine)[0, 0]
    wanted = sum(torch.meshgrid(*(torch.arange(float(size)) for size in fine), indexing="ij"))
    inside = tuple(slice(1, -1) for _ in fine)
    torch.testing.assert_close(found[inside], wanted[inside])


def test_a_single_slice_is_interpolated_within():
    features = torch.rand((2, 3, 1, 4, 5))
    flat = torch.nn.functional.interpolate(features[:, :, 0], size=(8, 10), mode="bilinear")
    torch.testing.assert_close(on_grid(features, (1, 8, 10))[:, :, 0], flat)


def test_gradients_flow_in_the_features_own_type():
    features = torch.rand((1, 2, 2, 4, 4)).to(torch.bfloat16).requires_grad_()
    finer = on_grid(features, (2, 8, 8))
    assert finer.dtype == torch.bfloat16
    finer.float().sum().backward()
    assert float(features.grad.float().sum()) == pytest.approx(2 * 2 * 8 * 8, rel=0.01)
