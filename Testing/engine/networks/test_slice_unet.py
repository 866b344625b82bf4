from __future__ import annotations

import pytest
import torch

from multiorganseg.networks.slice_unet import SliceUNet


def _network(**changes: object) -> SliceUNet:
    torch.manual_seed(0)
    return SliceUNet(**{"in_channels": 1, "out_channels": 4, "filters": (8, 8, 12, 16), **changes})


def test_the_papers_network_has_13_39_million_parameters() -> None:
    with torch.device("meta"):
        network = SliceUNet(1, 4)
    count = sum(weight.numel() for weight in network.parameters())
    assert count == 13_390_404
    assert round(count / 1e6, 2) == 13.39
    assert network.feature_channels == 64
    assert network.divisor == (1, 16, 16)


@pytest.mark.parametrize("shape", [(2, 1, 1, 16, 24), (1, 1, 3, 8, 16)])
def test_logits_and_features_are_as_fine_as_the_image(shape) -> None:
    output = _network()(torch.randn(shape))
    assert output.logits.shape == (shape[0], 4, *shape[2:])
    assert output.features.shape == (shape[0], 8, *shape[2:])


def test_each_slice_is_seen_by_itself() -> None:
    network = _network().eval()
    slab = torch.randn(2, 1, 3, 16, 16)
    with torch.no_grad():
        whole = network(slab).logits
        single = [network(slab[:, :, k : k + 1]).logits for k in range(3)]
    torch.testing.assert_close(whole, torch.cat(single, dim=2))


def test_the_head_turns_features_into_logits() -> None:
    network = _network().eval()
    with torch.no_grad():
        output = network(torch.randn(1, 1, 1, 16, 16))
        expected = network.head(output.features[:, :, 0])[:, :, None]
    torch.testing.assert_close(output.logits, expected)


def test_it_sees_far() -> None:
    image = torch.randn(1, 1, 1, 32, 32, requires_grad=True)
    _network().eval()(image).logits[0, 0, 0, 16, 16].backward()
    assert image.grad is not None
    assert image.grad[0, 0, 0, 16, 1].abs() > 0


def test_every_level_shrinks_by_two_and_keeps_its_width() -> None:
    network = _network(filters=(8, 16, 32))
    widths = [level[0].out_channels for level in network.encoder]
    assert widths == [8, 16, 32]
    assert [level[0].in_channels for level in network.decoder] == [48, 16]
    assert [level[0].out_channels for level in network.decoder] == [8, 8]
