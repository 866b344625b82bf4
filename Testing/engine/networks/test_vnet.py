from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from multiorganseg.errors import BundleError
from multiorganseg.networks.build import build_network
from multiorganseg.networks.output import decoder_count, decoder_outputs
from multiorganseg.networks.vnet import UPSAMPLINGS, VNet

PUBLISHED = {
    ("transposed", "nearest"): (12_347_716, 87.8),
    ("transposed",): (9_448_866, 40.1),
}


def _network(**changes: object) -> VNet:
    torch.manual_seed(0)
    return VNet(**{"in_channels": 1, "out_channels": 3, "n_filters": 4, "stages": 3, **changes})


@pytest.mark.parametrize("decoders", PUBLISHED)
def test_size_and_cost_of_the_published_setting(decoders) -> None:
    parameters, giga = PUBLISHED[decoders]
    with torch.device("meta"):
        network = VNet(1, 2, decoders=decoders)
        assert sum(weight.numel() for weight in network.parameters()) == parameters
        with FlopCounterMode(display=False) as counter:
            network(torch.empty(1, 1, 112, 112, 80))
    assert counter.get_total_flops() / 2e9 == pytest.approx(giga, abs=0.05)


def test_in_evaluation_two_decoders_cost_what_one_does() -> None:
    with torch.device("meta"):
        network = VNet(1, 2).eval()
        with FlopCounterMode(display=False) as counter:
            network(torch.empty(1, 1, 112, 112, 80))
    assert counter.get_total_flops() / 2e9 == pytest.approx(40.1, abs=0.05)


@pytest.mark.parametrize("normalisation", ["batch", "instance", "none"])
@pytest.mark.parametrize(("dimensions", "shape"), [(3, (8, 12, 16)), (2, (1, 12, 16)), (2, (5, 8, 8))])
def test_each_decoder_answers_on_the_images_grid(normalisation, dimensions, shape) -> None:
    network = _network(decoders=UPSAMPLINGS, normalisation=normalisation, dimensions=dimensions)
    output = network(torch.randn(2, 1, *shape))
    assert len(output.others) == network.decoder_count - 1 == 2
    for each in (output, *output.others):
        assert each.logits.shape == (2, 3, *shape)
        assert each.features.shape == (2, network.feature_channels, *shape)
    assert all(size % step == 0 for size, step in zip(shape, network.divisor, strict=True))


def test_every_weight_of_every_decoder_learns() -> None:
    network = _network(decoders=UPSAMPLINGS)
    output = network(torch.randn(2, 1, 8, 8, 8))
    sum(each.logits.square().mean() for each in (output, *output.others)).backward()
    assert [name for name, weight in network.named_parameters() if weight.grad is None] == []
    assert network.get_submodule("head") is network.head


def test_evaluation_gives_the_first_decoder_and_outputs_all() -> None:
    network = _network().eval()
    image = torch.randn(1, 1, 8, 8, 8)
    output = network(image)
    assert output.others == ()
    first, second = network.outputs(image)
    assert torch.equal(first.logits, output.logits)
    assert torch.equal(first.features, output.features)
    assert not torch.allclose(first.logits, second.logits)
    torch.testing.assert_close(network.head(output.features), output.logits)


def test_all_decoders_can_be_asked_of_any_network() -> None:
    network, image = _network(decoders=UPSAMPLINGS).eval(), torch.randn(1, 1, 8, 8, 8)
    assert decoder_count(network) == len(decoder_outputs(network, image)) == 3
    alone = build_network("slice_unet", {"in_channels": 1, "out_channels": 2}).eval()
    assert decoder_count(alone) == 1
    image = torch.randn(1, 1, 1, 32, 32)
    (only,) = decoder_outputs(alone, image)
    assert torch.equal(only.logits, alone(image).logits)


def test_the_first_decoder_alone_keeps_its_weights() -> None:
    both, alone = _network().eval(), _network(decoders=["transposed"]).eval()
    missing = alone.load_state_dict(both.state_dict(), strict=False)
    assert missing.missing_keys == []
    image = torch.randn(1, 1, 8, 8, 8)
    assert torch.equal(both(image).logits, alone(image).logits)


def test_whole_channels_are_dropped_in_training_alone() -> None:
    network = _network(n_filters=16, dropout=0.5)
    image = torch.randn(2, 1, 8, 8, 8)
    dropped = (network(image).features.flatten(2).abs().amax(dim=2) == 0).float().mean()
    assert 0.25 < float(dropped) < 0.75
    network.eval()
    assert torch.equal(network(image).logits, network(image).logits)
    still = _network(dropout=0.0, normalisation="none").train()
    assert torch.equal(still(image).logits, still(image).logits)


def test_slices_do_not_see_each_other() -> None:
    network = _network(dimensions=2).eval()
    image = torch.randn(1, 1, 3, 8, 8)
    whole = network(image).logits
    torch.testing.assert_close(network(image[:, :, 1:2]).logits, whole[:, :, 1:2], rtol=1e-4, atol=1e-5)


def test_the_normalisation_is_that_asked_for() -> None:
    kinds = {"batch": nn.BatchNorm3d, "instance": nn.InstanceNorm3d}
    for name, kind in kinds.items():
        assert any(isinstance(module, kind) for module in _network(normalisation=name).modules())
    none = _network(normalisation="none")
    assert not any(isinstance(module, tuple(kinds.values())) for module in none.modules())


@pytest.mark.parametrize(
    "arguments",
    [
        {"decoders": []},
        {"decoders": "transposed"},
        {"decoders": ["linear"]},
        {"stages": 6},
        {"stages": 1},
        {"normalisation": "group"},
        {"dimensions": 1},
        {"dropout": 2.0},
        {"n_filters": "wide"},
    ],
)
def test_arguments_that_do_not_fit_are_a_bundle_error(arguments) -> None:
    with pytest.raises(BundleError, match="do not fit"):
        build_network("vnet", {"in_channels": 1, "out_channels": 2, **arguments})
