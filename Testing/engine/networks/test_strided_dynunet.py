from __future__ import annotations

import pytest
import torch

from multiorganseg.networks.strided_dynunet import StridedDynUNet


def _network(**changes: object) -> StridedDynUNet:
    torch.manual_seed(0)
    return StridedDynUNet(**{"in_channels": 1, "out_channels": 5, "filters": (8, 16, 24), **changes})


@pytest.mark.parametrize("stride", [(1, 2, 2), (2, 2, 2), (1, 1, 1)])
def test_logits_are_as_fine_as_the_image(stride) -> None:
    image = torch.randn(2, 1, 8, 16, 24)
    output = _network(stem_stride=stride)(image)
    assert output.logits.shape == (2, 5, 8, 16, 24)
    assert output.features.shape == (2, 8, 8 // stride[0], 16 // stride[1], 24 // stride[2])
    logits, features = output
    assert logits is output.logits
    assert features is output.features


def test_every_weight_learns() -> None:
    network = _network()
    network(torch.randn(1, 1, 8, 16, 16)).logits.square().mean().backward()
    idle = [name for name, weight in network.named_parameters() if weight.grad is None]
    assert idle == []


def test_every_weight_is_stored_once() -> None:
    network = _network()
    stored = network.state_dict()
    assert len({tensor.data_ptr() for tensor in stored.values()}) == len(stored)
    assert sum(tensor.numel() for tensor in stored.values()) == sum(p.numel() for p in network.parameters())


def test_fine_voxels_of_a_coarse_cell_get_logits_of_their_own() -> None:
    logits = _network().eval()(torch.randn(1, 1, 8, 16, 16)).logits[0, :, 4, 8:10, 8:10]
    assert len(torch.unique(logits[0])) == 4


def test_it_sees_far() -> None:
    network = _network(filters=(8, 8, 8, 8)).eval()
    image = torch.randn(1, 1, 16, 32, 32, requires_grad=True)
    network(image).logits[0, 0, 8, 16, 16].backward()
    assert image.grad is not None
    assert image.grad[0, 0, 8, 16, 2].abs() > 0
