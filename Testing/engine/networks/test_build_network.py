from __future__ import annotations

import pytest
import torch

from multiorganseg.errors import BundleError
from multiorganseg.networks.build import build_network
from multiorganseg.networks.names import ARCHITECTURES
from multiorganseg.networks.placing import place_network

ARGUMENTS = {"in_channels": 1, "out_channels": 3, "filters": [8, 8, 8]}


SMALL: dict[str, dict[str, object]] = {
    "strided_dynunet": {"filters": [8, 8, 8]},
    "slice_unet": {"filters": [8, 8, 8]},
    "monai_segresnet": {"filters": 8, "blocks_down": [1, 1, 1], "blocks_up": [1, 1]},
    "vnet": {"n_filters": 4, "stages": 3, "decoders": ["transposed"]},
    "monai_swin_unetr": {"feature_size": 12, "depths": [1, 1, 1, 1], "num_heads": [1, 2, 4, 8]},
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_name_on_the_whitelist_keeps_the_rules(name) -> None:
    if name == "monai_swin_unetr":
        pytest.importorskip("einops", reason="MONAI's SwinUNETR needs einops")
    torch.manual_seed(0)
    network = build_network(name, {"in_channels": 1, "out_channels": 3, **SMALL.get(name, {})})
    shape = (*network.divisor[:2], 2 * network.divisor[2])
    network = place_network(network, torch.device("cpu"))
    output = network(torch.randn(1, 1, *shape))
    assert output.logits.shape == (1, 3, *shape)
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
