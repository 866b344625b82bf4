from __future__ import annotations

import pytest
import torch
from torch import nn

from multiorganseg_training.losses.prototypes import PrototypeClassifier
from multiorganseg_training.run.checkpoint import WeightAverage


def _network(value: float) -> nn.Module:
    network = nn.Sequential(nn.Linear(2, 1, bias=False), nn.BatchNorm1d(1))
    nn.init.constant_(network[0].weight, value)
    return network


def _weight(average: WeightAverage) -> float:
    return float(average.network[0].weight[0, 0])


def test_the_decay_rises():
    network = _network(0.0)
    average = WeightAverage(network, 0.5)
    nn.init.constant_(network[0].weight, 1.0)
    expected = 0.0
    for decay in (0.1, 2 / 11, 3 / 12, 4 / 13):
        average.update(network)
        expected = decay * expected + (1 - decay)
        assert _weight(average) == pytest.approx(expected)
    assert average.updates == 4


def test_the_decay_stops_at_its_limit():
    network = _network(0.0)
    average = WeightAverage(network, 0.5)
    average.updates = 1000
    nn.init.constant_(network[0].weight, 1.0)
    average.update(network)
    assert _weight(average) == pytest.approx(0.5)


def test_it_converges():
    network = _network(0.0)
    average = WeightAverage(network, 0.9)
    nn.init.constant_(network[0].weight, 3.0)
    for _ in range(200):
        average.update(network)
    assert _weight(average) == pytest.approx(3.0, abs=1e-5)


def test_buffers_are_copied():
    network = _network(1.0)
    average = WeightAverage(network, 0.9)
    network(torch.randn(8, 2))
    average.update(network)
    for buffer, source in zip(average.network.buffers(), network.buffers(), strict=True):
        assert torch.equal(buffer, source)


def test_the_average_is_a_network_of_its_own():
    network = _network(1.0)
    average = WeightAverage(network, 0.9)
    assert network.training
    assert not average.network.training
    assert not any(parameter.requires_grad for parameter in average.network.parameters())
    assert all(parameter.requires_grad for parameter in network.parameters())
    nn.init.constant_(network[0].weight, 7.0)
    assert _weight(average) == 1.0


def test_prototypes_follow_and_keep_their_length():
    classifier = PrototypeClassifier(4, 2, per_class=2, width=8)
    average = WeightAverage(classifier, 0.5)
    average.updates = 1000
    before = classifier.unlabelled.prototypes.clone()
    classifier.unlabelled.prototypes.copy_(-before.roll(1, dims=0))
    average.update(classifier)
    followed = average.network.unlabelled.prototypes
    expected = torch.nn.functional.normalize((before + classifier.unlabelled.prototypes) / 2, dim=-1)
    torch.testing.assert_close(followed, expected)
    torch.testing.assert_close(followed.norm(dim=-1), torch.ones(3, 2))
