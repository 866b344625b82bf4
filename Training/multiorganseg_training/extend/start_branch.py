"""A branch for further organs on a trained network."""

from __future__ import annotations

import torch
from torch import nn

from multiorganseg.networks.branching import BranchingNetwork
from multiorganseg_training.extend.widen import PRIOR, further_channels


def start_branch(network: BranchingNetwork, activation: str, prior: float = PRIOR) -> None:
    """Set the weights of a network's last branch: its decoders are those of the network.

    Its organs start as those of `widen_state`; beside them the network says of its own organs what it said
    before.

    Args:
        network: Trained but for its last branch.
        activation: "softmax" (channel 0 is background) or "sigmoid".
        prior: In (0, 1).
    """
    branch = network.all_branches()[-1]
    for own, started in zip(network.own_decoders(), branch.decoders, strict=True):
        started.load_state_dict(own.state_dict())
    with torch.no_grad():
        for own, started in zip(network.own_heads(), branch.heads, strict=True):
            axes = (int(isinstance(started, nn.ConvTranspose3d)), 0)
            for trained, wanted, axis in zip(own.parameters(), started.parameters(), axes, strict=True):
                wanted.copy_(further_channels(trained, axis, branch.organs, activation, prior))
