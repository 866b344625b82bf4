from __future__ import annotations

import pytest
import torch
from torch import nn

from multiorganseg.errors import BundleError
from multiorganseg.networks import build
from multiorganseg.networks.build import build_network, place_network
from multiorganseg.networks.names import ARCHITECTURES

ARGUMENTS = {"in_channels": 1, "out_channels": 3, "filters": [8, 8, 8]}


def test_every_name_on_the_whitelist_keeps_the_rules(architecture, small_network, small_image) -> None:
    arguments = {"decoders": ["transposed"]} if architecture == "vnet" else {}
    network = place_network(small_network(architecture, 3, **arguments).train(), torch.device("cpu"))
    output = network(small_image)
    assert output.logits.shape == (1, 3, *small_image.shape[2:])
    assert output.features.shape[1] == network.feature_channels
    output.logits.square().mean().backward()
    assert all(weight.grad is not None for weight in network.get_submodule("head").parameters())
    idle = [key for key, weight in network.named_parameters() if weight.grad is None]
    assert idle == []
    stored = network.state_dict()
    assert len({tensor.data_ptr() for tensor in stored.values() if tensor.numel()}) == len(stored)


def test_other_names_are_refused() -> None:
    with pytest.raises(BundleError, match=r"os\.system") as caught:
        build_network("os.system", {"command": "true"})
    assert ARCHITECTURES[0] in caught.value.next_step


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {**ARGUMENTS, "depth": 3},
        {**ARGUMENTS, "filters": 8},
        {**ARGUMENTS, "filters": []},
        {**ARGUMENTS, "filters": [8]},
        {**ARGUMENTS, "filters": [8, 8]},
        {**ARGUMENTS, "filters": [-8, 8, 8]},
        {**ARGUMENTS, "stem_stride": [1, 2]},
        {**ARGUMENTS, "stem_stride": "fast"},
        {**ARGUMENTS, "out_channels": -1},
        {**ARGUMENTS, "filters": ["a", "b", "c"]},
    ],
)
def test_arguments_that_do_not_fit_are_a_bundle_error(arguments) -> None:
    with pytest.raises(BundleError, match="do not fit"):
        build_network(ARCHITECTURES[0], arguments)


def test_a_network_on_paper_has_the_shapes_and_uses_no_randomness(
    small_network, small_image, architecture, monkeypatch
) -> None:
    papers, on_paper = [], build.network_on_paper
    monkeypatch.setattr(build, "_FITTING", set())
    monkeypatch.setattr(build, "network_on_paper", lambda *arguments: papers.append(on_paper(*arguments)))
    built = small_network(architecture, 3)
    monkeypatch.setattr(build, "network_on_paper", lambda *_: None)
    without = small_network(architecture, 3).state_dict()
    assert all(torch.equal(tensor, without[name]) for name, tensor in built.state_dict().items())
    paper = papers[0].eval()
    assert all(tensor.is_meta for tensor in paper.state_dict().values())
    shapes = [{name: t.shape for name, t in network.state_dict().items()} for network in (paper, built)]
    assert shapes[0] == shapes[1]
    with torch.no_grad():
        assert paper(small_image.to("meta")).logits.shape == built(small_image).logits.shape


def test_a_network_is_built_on_paper_once(monkeypatch) -> None:
    asked, on_paper = [], build.network_on_paper
    monkeypatch.setattr(build, "_FITTING", set())
    monkeypatch.setattr(build, "network_on_paper", lambda *given: asked.append(given) or on_paper(*given))
    for arguments in (ARGUMENTS, dict(reversed(ARGUMENTS.items())), {**ARGUMENTS, "out_channels": 4}):
        build_network("strided_dynunet", arguments)
    for _ in range(2):
        with pytest.raises(BundleError):
            build_network("strided_dynunet", {**ARGUMENTS, "filters": [8]})
    assert [given[1]["out_channels"] for given in asked] == [3, 4, 3, 3]


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
