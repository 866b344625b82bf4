from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from multiorganseg_training.run.build import ThinConvolution, guard_thin_convolutions


def _gradients(layer: nn.Conv3d, image: torch.Tensor, precision: torch.dtype) -> list[torch.Tensor]:
    image = image.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
        out = layer(image)
    weights = torch.linspace(-1, 1, out.numel()).reshape(out.shape)
    return [out.float(), *torch.autograd.grad((out.float() * weights).sum(), [image, *layer.parameters()])]


@pytest.mark.parametrize("planes", [1, 2, 3, 4, 5])
@pytest.mark.parametrize(
    ("kernel", "padding", "stride"),
    [(3, 1, 1), (5, 2, 1), ((3, 1, 1), (1, 0, 0), 1), (3, 1, 2)],
)
def test_its_bfloat16_gradients_are_those_of_float32(planes, kernel, padding, stride):
    torch.manual_seed(0)
    layer = nn.Conv3d(16, 16, kernel, stride=stride, padding=padding)
    guard_thin_convolutions(layer)
    image = torch.randn(2, 16, planes, 8, 8)
    for mine, exact in zip(
        _gradients(layer, image, torch.bfloat16), _gradients(layer, image, torch.float32), strict=True
    ):
        assert (mine - exact).norm() < 0.02 * exact.norm()


def test_in_float32_it_is_the_plain_convolution():
    torch.manual_seed(0)
    plain = nn.Conv3d(4, 4, 3, padding=1, dilation=(1, 2, 2))
    guarded = copy.deepcopy(plain)
    guard_thin_convolutions(guarded)
    image = torch.randn(1, 4, 2, 6, 6)
    for mine, exact in zip(
        _gradients(guarded, image, torch.float32), _gradients(plain, image, torch.float32), strict=True
    ):
        torch.testing.assert_close(mine, exact)


@pytest.mark.parametrize("arguments", [{"padding": "same"}, {"padding": 1, "padding_mode": "replicate"}])
def test_other_paddings_stay_as_they_are(arguments):
    torch.manual_seed(0)
    plain = nn.Conv3d(2, 2, 3, **arguments)
    guarded = copy.deepcopy(plain)
    guard_thin_convolutions(guarded)
    image = torch.randn(1, 2, 2, 6, 6)
    torch.testing.assert_close(guarded(image), plain(image))


def test_all_of_a_network_are_guarded_and_copied_with_it():
    network = nn.Sequential(
        nn.Conv3d(1, 2, 3), nn.ReLU(), nn.Sequential(nn.Conv3d(2, 2, 1)), nn.Conv2d(2, 2, 3)
    )
    names = list(network.state_dict())
    guard_thin_convolutions(network)
    kinds = [type(module) for module in copy.deepcopy(network).modules()]
    assert kinds.count(ThinConvolution) == 2
    assert nn.Conv3d not in kinds
    assert nn.Conv2d in kinds
    assert list(network.state_dict()) == names
