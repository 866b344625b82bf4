from __future__ import annotations

import torch
from torch import nn

from multiorganseg.networks.placing import place_network


def test_channels_lie_innermost_in_two_and_in_three_dimensions() -> None:
    network = nn.ModuleList([nn.Conv2d(4, 6, 3), nn.Conv3d(4, 6, 3), nn.Linear(4, 6)])
    before = {name: weight.clone() for name, weight in network.state_dict().items()}
    optimised = list(network.parameters())
    assert place_network(network, torch.device("cpu")) is network
    assert all(one is other for one, other in zip(optimised, network.parameters(), strict=True))
    assert network[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert network[1].weight.is_contiguous(memory_format=torch.channels_last_3d)
    for name, weight in network.state_dict().items():
        assert torch.equal(weight, before[name])


def test_the_device_is_that_asked_for() -> None:
    network = place_network(nn.Conv2d(1, 1, 1), torch.device("meta"))
    assert {tensor.device.type for tensor in network.parameters()} == {"meta"}
