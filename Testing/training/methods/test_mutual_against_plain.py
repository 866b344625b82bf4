"""Mutual learning against the rendering, in Python loops, that its benchmark is measured with."""

from __future__ import annotations

from itertools import islice
from types import ModuleType

import numpy as np
import pytest
import torch

from multiorganseg.networks.vnet import VNet
from multiorganseg_training.methods import Batch, Mutual, Setting

PATCH = (8, 8, 8)


@pytest.fixture(scope="module")
def plain(harness) -> ModuleType:
    return harness("plain_mutual")


def _volumes() -> list[tuple[np.ndarray, np.ndarray]]:
    numbers = np.random.default_rng(0)
    labels = [numbers.integers(0, 2, (10, 14, 14), np.uint8) for _ in range(5)]
    return [(each + numbers.normal(size=each.shape).astype(np.float32), each) for each in labels]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_losses_and_gradients_are_the_same(plain, seed):
    torch.manual_seed(seed)
    network = VNet(1, 2, n_filters=4, stages=2, dropout=0.0).train()
    with torch.no_grad():
        for head in (network.head, *network.other_heads):
            head.weight.mul_(3)
    image, labels = next(iter(plain.patch_loader(_volumes(), 3, PATCH)))
    known = torch.tensor([[True], [True], [False], [False]])
    batch = Batch(image, labels * known.reshape(-1, 1, 1, 1), known)
    setting = Setting(network, "softmax", 1, network.feature_channels, torch.zeros((1, 1), dtype=torch.bool))
    method = Mutual(setting, min_voxels=1, ramp_steps=0)
    step = method(network, batch, np.random.default_rng(seed))
    assert 0.1 < float(step.logs["chosen"]) < 0.9
    assert float(step.logs["reliability"]) < 0.98
    results = []
    for loss in (step.loss, plain.plain_mutual_loss(network, image, labels)):
        network.zero_grad()
        loss.backward()
        results.append((loss.detach(), [weight.grad.clone() for weight in network.parameters()]))
    torch.testing.assert_close(results[0][0], results[1][0], rtol=1e-5, atol=0)
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-3, atol=1e-5)


def test_the_plain_patches_lie_in_the_volumes_and_keep_image_and_labels_together(plain):
    torch.manual_seed(0)
    volumes = [(labels.astype(np.float32), labels) for _, labels in _volumes()]
    seen = set()
    for image, labels in islice(plain.patch_loader(volumes, 3, PATCH), 6):
        assert image.shape == (4, 1, *PATCH)
        torch.testing.assert_close(image[:, 0], labels.float())
        seen |= {patch.numpy().tobytes() for patch in labels}
    assert len(seen) > 20


def test_the_plain_batches_take_two_annotated_volumes_and_two_others(plain):
    torch.manual_seed(0)
    batches = list(islice(plain.TwoStreams(range(3), range(3, 8)), 15))
    assert all(max(batch[:2]) < 3 <= min(batch[2:]) for batch in batches)
    annotated = [number for batch in batches for number in batch[:2]]
    assert all(sorted(annotated[place : place + 3]) == [0, 1, 2] for place in range(0, 30, 3))
