"""Several networks, and one network on mirrored windows, as one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, combinations

import torch
from torch import Tensor, nn

from multiorganseg.networks.output import NetworkOutput, feature_stride


class Ensemble(nn.Module):
    """Averages logits over mirrored windows and over networks; its features are the first network's own.

    Args:
        networks: At least one.
        mirrored: Axes of (k, j, i) along which windows are mirrored, in all combinations.
        apart: Whether the logits of the networks are not averaged, but given one after the other.
    """

    def __init__(
        self, networks: Sequence[nn.Module], mirrored: Sequence[int] = (), *, apart: bool = False
    ) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.stride = feature_stride(networks[0])
        self._apart = apart
        self._flips = [
            tuple(axis + 2 for axis in axes)
            for axes in chain.from_iterable(combinations(mirrored, n) for n in range(1, len(mirrored) + 1))
        ]

    def forward(self, image: Tensor) -> NetworkOutput:
        """Run all of them on (batch, channels, k, j, i)."""
        outputs = [self._mirrored(network, image) for network in self.networks]
        logits = [output.logits for output in outputs]
        joined = torch.cat(logits, dim=1) if self._apart else torch.stack(logits).mean(dim=0)
        return NetworkOutput(joined, outputs[0].features)

    def _mirrored(self, network: nn.Module, image: Tensor) -> NetworkOutput:
        straight: NetworkOutput = network(image)
        total = straight.logits.float()
        for flips in self._flips:
            total = total + network(image.flip(flips)).logits.float().flip(flips)
        return NetworkOutput(total / (1 + len(self._flips)), straight.features)
