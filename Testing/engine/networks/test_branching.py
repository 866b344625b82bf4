from __future__ import annotations

import copy

import pytest
import torch

from multiorganseg.errors import BundleError
from multiorganseg.networks.build import build_network
from multiorganseg.networks.output import decoder_outputs

CHANNELS = 3


def test_branches_leave_the_own_channels_as_they_are(architecture, small_network, small_image, logits_of):
    plain = small_network(architecture, CHANNELS)
    branched = small_network(architecture, CHANNELS + 3, branches=[2, 1])
    added = branched.load_state_dict(plain.state_dict(), strict=False)
    assert added.unexpected_keys == []
    assert added.missing_keys
    assert all(name.startswith("branches.") for name in added.missing_keys)
    with torch.no_grad():
        assert torch.equal(branched(small_image).logits, logits_of(branched)[0])
    for before, after in zip(logits_of(plain), logits_of(branched), strict=True):
        assert after.shape == (1, CHANNELS + 3, *small_image.shape[2:])
        assert torch.equal(after[:, :CHANNELS], before)
        assert bool((after[:, CHANNELS:] != 0).any())


def test_training_a_branch_moves_its_channels_alone(architecture, small_network, small_image, logits_of):
    network = small_network(architecture, CHANNELS + 3, branches=[2, 1])
    before = logits_of(network)
    network.requires_grad_(False)
    newest = network.all_branches()[-1].requires_grad_(True)
    outputs = decoder_outputs(network, small_image)
    sum(output.logits[:, -1].square().mean() for output in outputs).backward()
    torch.optim.SGD(newest.parameters(), 1.0).step()
    assert all(parameter.grad is not None for parameter in newest.parameters())
    for old, new in zip(before, logits_of(network), strict=True):
        assert torch.equal(old[:, :-1], new[:, :-1])
        assert not torch.equal(old[:, -1], new[:, -1])


def test_a_copy_is_whole(architecture, small_network, logits_of):
    """Decoders that MONAI keeps in one module with the encoder are those of the copy, too."""
    network = small_network(architecture, CHANNELS + 1, branches=[1])
    twin = copy.deepcopy(network)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    assert bool((logits_of(twin)[0] != 0).any())
    assert bool((logits_of(network)[0] == 0).all())


@pytest.mark.parametrize("branches", [[0], [1, -1], ["one"], 1, [CHANNELS]])
def test_branches_that_cannot_be_are_refused(branches):
    arguments = {"in_channels": 1, "out_channels": CHANNELS, "filters": [4, 8, 8], "branches": branches}
    with pytest.raises(BundleError, match="do not fit"):
        build_network("strided_dynunet", arguments)
