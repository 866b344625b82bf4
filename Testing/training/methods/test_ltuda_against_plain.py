"""LTUDA against the rendering, in numpy and Python loops, that its benchmark is measured with."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
import torch

from multiorganseg.networks.slice_unet import SliceUNet
from multiorganseg_training.methods import LTUDA, Batch, Setting

ORGANS = 3


@pytest.fixture(scope="module")
def plain(harness) -> ModuleType:
    return harness("plain_ltuda")


@pytest.mark.parametrize("prototypes", [False, True], ids=["stage 1", "stage 2"])
@pytest.mark.parametrize("seed", [0, 1])
def test_losses_gradients_and_prototypes_are_the_same(plain, prototypes, seed):
    torch.manual_seed(seed)
    known = torch.tensor([[True, False, False], [False, True, False], [False, True, False], [False] * 3])
    labels = torch.randint(0, ORGANS + 1, (4, 1, 16, 24))
    mine = torch.tensor([1, 2, 2, 0]).reshape(4, 1, 1, 1)
    batch = Batch(torch.randn(4, 1, 1, 16, 24), torch.where(labels == mine, labels, 0), known)
    network = SliceUNet(1, ORGANS, [8, 8]).eval()
    with torch.no_grad():
        network.head.weight.mul_(8)
    setting = Setting(network, "sigmoid", ORGANS, 8, torch.zeros((ORGANS, ORGANS), dtype=torch.bool))
    results = []
    for way in ("ours", "plain"):
        torch.manual_seed(seed)
        ours = LTUDA(setting, prototypes=prototypes, teacher_mode="eval", width=8, prototype_momentum=0.9)
        ours.eval()
        method = ours if way == "ours" else plain.PlainLTUDA(network, ORGANS, ours.classifier)
        assert (ours._fuse(batch)[0].labels[batch.labels == 0] > 0).any(), "the teacher claims organs"
        before = {name: tensor.clone() for name, tensor in ours.state_dict().items() if "prototypes" in name}
        numbers = np.random.default_rng(seed)
        network.zero_grad()
        loss = method(network, batch, numbers).loss if way == "ours" else method.loss(network, batch, numbers)
        loss.backward()
        assert not before or not all(
            torch.equal(tensor, ours.state_dict()[name]) for name, tensor in before.items()
        )
        banks = ours.classifier.state_dict() if ours.classifier else {}
        results.append((loss.detach(), [weight.grad.clone() for weight in network.parameters()], banks))
    torch.testing.assert_close(results[0][0], results[1][0])
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(results[0][2], results[1][2])
