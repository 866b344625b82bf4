from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from multiorganseg.networks.vnet import VNet
from multiorganseg_training.losses.partial import cross_entropy_and_dice
from multiorganseg_training.methods import Batch, MeanTeacher, Setting, Step, build_method


def _network(activation: str = "softmax") -> VNet:
    torch.manual_seed(0)
    channels = 2 if activation == "softmax" else 1
    return VNet(
        1, channels, n_filters=4, stages=2, decoders=["transposed"], dropout=0.0, normalisation="none"
    )


def _method(network: VNet, activation: str = "softmax", **arguments: Any) -> MeanTeacher:
    setting = Setting(network, activation, 1, network.feature_channels, torch.zeros((1, 1), dtype=torch.bool))
    method = build_method("mean_teacher", arguments, setting)
    assert isinstance(method, MeanTeacher)
    return method


@pytest.fixture
def batch() -> Batch:
    """One labelled and one unlabelled patch."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randn((2, 1, 4, 4, 6), generator=generator)
    labels = (image[:, 0] > 0).long()
    labels[1] = 0
    return Batch(image, labels, torch.tensor([[True], [False]]))


def _step(method: MeanTeacher, network: VNet, batch: Batch, seed: int = 0) -> Step:
    return method(network, batch, np.random.default_rng(seed))


def test_without_consistency_it_is_supervised_learning_of_what_is_labelled(batch):
    network = _network()
    step = _step(_method(network, consistency=0.0), network, batch)
    expected = sum(cross_entropy_and_dice(network(batch.image[:1]).logits, batch.labels[:1]))
    torch.testing.assert_close(step.loss, expected)


def test_an_equal_teacher_without_noise_agrees(batch):
    network = _network()
    assert float(_step(_method(network, noise=0.0), network, batch).logs["difference"]) == 0
    assert float(_step(_method(network, noise=0.5), network, batch).logs["difference"]) > 0


def test_consistency_teaches_from_unlabelled_patches(batch):
    network = _network()
    method = _method(network, ramp_steps=0, noise=0.5)
    unlabelled = Batch(batch.image[1:], batch.labels[1:], batch.known[1:])
    step = _step(method, network, unlabelled)
    torch.testing.assert_close(step.loss.detach(), 0.1 * step.logs["difference"])
    step.loss.backward()
    assert network.head.weight.grad.abs().sum() > 0
    assert not any(weight.requires_grad for weight in method.parameters())


def test_noise_comes_from_the_generator(batch):
    network = _network()
    method = _method(network, noise=0.5)
    first, again, other = (_step(method, network, batch, seed).logs["difference"] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_teacher_follows_with_a_rising_decay():
    network = _network()
    method = _method(network, teacher_decay=0.75)
    followed = []
    for value in (1.0, 0.0, 0.0, 0.0, 0.0):
        torch.nn.init.constant_(network.head.bias, value)
        method.after_step(network)
        followed.append(float(method.teacher.module.head.bias[0].detach()))
    assert followed == pytest.approx([1, 1 / 2, 1 / 3, 1 / 4, 3 / 16])
    assert int(method.iteration) == 5


def test_sigmoids_too(batch):
    network = _network("sigmoid")
    step = _step(_method(network, "sigmoid"), network, batch)
    step.loss.backward()
    assert torch.isfinite(step.loss)
