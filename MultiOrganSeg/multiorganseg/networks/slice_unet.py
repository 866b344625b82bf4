"""The plain two-dimensional U-Net of LTUDA, which looks at each slice by itself."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from multiorganseg.networks.branching import BranchingNetwork, Maps, as_slices, as_volumes, own_channels

FILTERS = (64, 128, 256, 512, 512)


class SliceUNet(BranchingNetwork):
    """Two-dimensional U-Net of LTUDA (Jiang et al. 2024).

    Each level is twice a 3×3 convolution with batch normalisation and ReLU; max-pooling leads down, bilinear
    interpolation with aligned corners up. Slices along k are samples of a batch to it: a patch of one slice
    and a slab of several are treated alike.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the logits.
        filters: Width of each level, from fine to coarse; those of the paper by default.
        branches: Organs of each branch; see `BranchingNetwork`.
        background: See `BranchingNetwork`.

    Attributes:
        divisor: What the sizes (k, j, i) of an image must be divisible by.
        feature_channels: Channels of the features.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        filters: Sequence[int] = FILTERS,
        branches: Sequence[int] = (),
        background: bool = True,
    ) -> None:
        super().__init__()
        self.encoder = nn.ModuleList(_level(*widths) for widths in pairwise((in_channels, *filters)))
        decoder, below = [], filters[-1]
        for level in reversed(range(len(filters) - 1)):
            width = filters[max(level - 1, 0)]
            decoder.append(_level(below + filters[level], width))
            below = width
        self.decoder = _Decoder(decoder)
        self.feature_channels = below
        self.head = self.new_head(own_channels(out_channels, branches))
        cell = 2 ** (len(filters) - 1)
        self.divisor = (1, cell, cell)
        self.branch_off(branches, filters, in_channels, background)

    def encode(self, image: Tensor) -> Maps:
        """Run the encoder on slices (batch · k, in_channels, j, i)."""
        maps = [self.encoder[0](image)]
        for level in self.encoder[1:]:
            maps.append(level(functional.max_pool2d(maps[-1], 2)))
        return tuple(maps)

    def own_decoders(self) -> tuple[nn.Module]:
        """Return the decoder."""
        return (self.decoder,)

    def new_head(self, channels: int, features: int = 0) -> nn.Module:
        """Build a last layer."""
        return nn.Conv2d(features or self.feature_channels, channels, kernel_size=1)

    def fold(self, image: Tensor) -> Tensor:
        """Return all slices of (batch, in_channels, k, j, i) as samples."""
        return as_slices(image)

    def unfold(self, maps: Tensor, batch: int) -> Tensor:
        """Put the slices (batch · k, channels, j, i) together again."""
        return as_volumes(maps, batch)


class _Decoder(nn.ModuleList):
    def forward(self, maps: Maps) -> Tensor:
        features = maps[-1]
        for level, skip in zip(self, reversed(maps[:-1]), strict=True):
            finer = functional.interpolate(features, scale_factor=2.0, mode="bilinear", align_corners=True)
            features = level(torch.cat([skip, finer], dim=1))
        return features


def _level(in_channels: int, width: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (in_channels, width):
        layers += [
            nn.Conv2d(channels, width, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)
