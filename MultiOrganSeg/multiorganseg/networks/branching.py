"""Networks of one encoder and its decoders, on which further decoders with organs of their own can be put."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from multiorganseg.networks.output import NetworkOutput

Maps = tuple[Tensor, ...]
"""What an encoder gives: (batch, width, k', j', i') of each of its levels, from fine to coarse."""


class SkipDecoder(nn.ModuleList):
    """Blocks from coarse to fine, each of which takes the features so far and the next finer map."""

    def forward(self, maps: Maps) -> Tensor:
        """Return the features of the finest level."""
        features = maps[-1]
        for block, skip in zip(self, reversed(maps[:-1]), strict=True):
            features = block(features, skip)
        return features


def add_skips(maps: Maps, enlargements: Iterable[nn.Module], levels: Iterable[nn.Module]) -> Tensor:
    """Return the features of the finest level; each level adds the next finer map to what it enlarges."""
    features = maps[-1]
    for enlarge, level, skip in zip(enlargements, levels, reversed(maps[:-1]), strict=True):
        features = level(enlarge(features) + skip)
    return features


class Branch(nn.Module):
    """Organs that a network learned later: a decoder of their own beside each that it has.

    Args:
        organs: How many.
        decoders: Of the network; copied as they are.
        heads: A last layer for each.
    """

    def __init__(self, organs: int, decoders: Iterable[nn.Module], heads: Iterable[nn.Module]) -> None:
        super().__init__()
        self.organs = organs
        self.decoders = nn.ModuleList(copy.deepcopy(decoder) for decoder in decoders)
        self.heads = nn.ModuleList(heads)

    def forward(self, maps: Maps, number: int) -> Tensor:
        """Return the logits of its organs beside the network's decoder `number`."""
        logits: Tensor = self.heads[number](self.decoders[number](maps))
        return logits


class BranchingNetwork(nn.Module):
    """A network of one encoder and one or more decoders, with or without branches.

    The channels of its own organs come first, those of the branches after them, in their order. A branch
    takes nothing from the decoders before it and gives nothing to them, so that training a branch alone
    leaves the logits of all other organs as they are.

    Subclasses build encoder, decoders and last layers, and then call `branch_off`.

    Attributes:
        head: The first decoder's last layer.
        branches: One for each time that organs were added.
        decoder_count: How many decoders there are, branches apart.
        feature_channels: Channels of the features.
        divisor: What the sizes (k, j, i) of an image must be divisible by.
    """

    head: nn.Module
    branches: nn.ModuleList
    decoder_count: int = 1
    feature_channels: int
    divisor: tuple[int, ...]

    def encode(self, image: Tensor) -> Maps:
        """Run the encoder on (batch, in_channels, k, j, i)."""
        raise NotImplementedError

    def own_decoders(self) -> Sequence[nn.Module]:
        """Return the decoders, each of which makes features of what `encode` gives."""
        raise NotImplementedError

    def own_heads(self) -> Sequence[nn.Module]:
        """Return the last layer of each decoder, a single convolution with bias."""
        return (self.head,)

    def new_head(self, channels: int) -> nn.Module:
        """Build a last layer."""
        return nn.Conv3d(self.feature_channels, channels, kernel_size=1)

    def branch_off(self, organs: Sequence[int]) -> None:
        """Put branches on the network, with random weights.

        Args:
            organs: How many each of them has.
        """
        self.branches = nn.ModuleList(
            Branch(count, self.own_decoders(), [self.new_head(count) for _ in self.own_heads()])
            for count in organs
        )

    def all_branches(self) -> list[Branch]:
        """Return the branches, the newest one last."""
        return [branch for branch in self.branches if isinstance(branch, Branch)]

    def forward(self, image: Tensor) -> NetworkOutput:
        """Run the network with its first decoder.

        Args:
            image: Tensor (batch, in_channels, k, j, i); each size divisible by `divisor`.
        """
        return self.first_outputs(image, 1)[0]

    def outputs(self, image: Tensor) -> tuple[NetworkOutput, ...]:
        """Run all decoders, in training and in evaluation; `image` as in `forward`."""
        return self.first_outputs(image, self.decoder_count)

    def first_outputs(self, image: Tensor, count: int) -> tuple[NetworkOutput, ...]:
        """Run the first decoders; the features are those of the decoders themselves."""
        maps = self.encode(image)
        pairs = zip(self.own_decoders()[:count], self.own_heads(), strict=False)
        return tuple(self._output(image, maps, number, *pair) for number, pair in enumerate(pairs))

    def own_logits(self, image: Tensor, features: Tensor, head: nn.Module) -> Tensor:
        """Run a decoder's last layer on its features."""
        logits: Tensor = head(features)
        return logits

    def _output(
        self, image: Tensor, maps: Maps, number: int, decoder: nn.Module, head: nn.Module
    ) -> NetworkOutput:
        features = decoder(maps)
        logits = [
            self.own_logits(image, features, head),
            *(branch(maps, number) for branch in self.all_branches()),
        ]
        return NetworkOutput(torch.cat(logits, dim=1) if self.branches else logits[0], features)


def own_channels(out_channels: int, branches: Sequence[int]) -> int:
    """Return how many channels are left to the network's own decoders.

    Raises:
        ValueError: None are left, or a branch has none.
    """
    own = out_channels - sum(branches)
    if min(own, *branches, 1) < 1:
        msg = f"{out_channels} channels cannot be shared out among branches of {list(branches)}"
        raise ValueError(msg)
    return own
