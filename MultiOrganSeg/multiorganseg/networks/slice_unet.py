"""The plain two-dimensional U-Net of LTUDA, which looks at each slice by itself."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from multiorganseg.networks.output import NetworkOutput

FILTERS = (64, 128, 256, 512, 512)


class SliceUNet(nn.Module):
    """Two-dimensional U-Net of LTUDA (Jiang et al. 2024).

    Each level is twice a 3×3 convolution with batch normalisation and ReLU; max-pooling leads down, bilinear
    interpolation with aligned corners up. Slices along k are samples of a batch to it: a patch of one slice
    and a slab of several are treated alike.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the logits.
        filters: Width of each level, from fine to coarse; those of the paper by default.

    Attributes:
        divisor: What the sizes (k, j, i) of an image must be divisible by.
        feature_channels: Channels of the features.
    """

    def __init__(self, in_channels: int, out_channels: int, filters: Sequence[int] = FILTERS) -> None:
        super().__init__()
        self.encoder = nn.ModuleList(_level(*widths) for widths in pairwise((in_channels, *filters)))
        decoder, below = [], filters[-1]
        for level in reversed(range(len(filters) - 1)):
            width = filters[max(level - 1, 0)]
            decoder.append(_level(below + filters[level], width))
            below = width
        self.decoder = nn.ModuleList(decoder)
        self.head = nn.Conv2d(below, out_channels, kernel_size=1)
        self.feature_channels = below
        cell = 2 ** (len(filters) - 1)
        self.divisor = (1, cell, cell)

    def forward(self, image: Tensor) -> NetworkOutput:
        """Run the network.

        Args:
            image: Tensor (batch, in_channels, k, j, i); each size divisible by `divisor`.
        """
        batch, _, depth = image.shape[:3]
        slices = image.movedim(2, 1).flatten(0, 1).contiguous(memory_format=torch.channels_last)
        features = self._features(slices)
        logits, features = (
            maps.unflatten(0, (batch, depth)).movedim(1, 2) for maps in (self.head(features), features)
        )
        return NetworkOutput(logits, features)

    def _features(self, slices: Tensor) -> Tensor:
        features: Tensor = self.encoder[0](slices)
        skips = []
        for level in self.encoder[1:]:
            skips.append(features)
            features = level(functional.max_pool2d(features, 2))
        for level, skip in zip(self.decoder, reversed(skips), strict=True):
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
