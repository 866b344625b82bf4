from __future__ import annotations

import pytest
import torch

from multiorganseg.networks.branching import InstanceNorm
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


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("training", [True, False])
def test_normalisation_is_that_of_each_instance(batch: int, training: bool) -> None:
    torch.manual_seed(1)
    ours, theirs = InstanceNorm(6, affine=True), torch.nn.InstanceNorm3d(6, affine=True)
    for norm in (ours, theirs):
        norm.train(training)
        torch.nn.init.constant_(norm.weight, 1.5)
        torch.nn.init.constant_(norm.bias, -0.5)
    image = torch.randn(batch, 6, 4, 6, 8).add_(3).to(memory_format=torch.channels_last_3d).requires_grad_()
    copy = image.detach().clone().requires_grad_()
    (ours(image) ** 3).sum().backward()
    (theirs(copy) ** 3).sum().backward()
    torch.testing.assert_close(ours(image), theirs(copy))
    torch.testing.assert_close(image.grad, copy.grad, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("batch", [1, 3])
def test_normalising_keeps_the_memory_layout_and_copies_no_batch(batch: int, monkeypatch) -> None:
    monkeypatch.setattr(torch.nn.InstanceNorm3d, "forward", lambda *_: pytest.fail("two copies"))
    image = torch.randn(batch, 6, 4, 6, 8).to(memory_format=torch.channels_last_3d)
    assert InstanceNorm(6, affine=True)(image).is_contiguous(memory_format=torch.channels_last_3d)
