"""The trunk of MONAI's DynUNet, without MONAI: importing it takes as long as segmenting a small scan.

Parameters have the names that they have in MONAI, so that weights fit both; a test compares the two.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from multiorganseg.networks.branching import InstanceNorm

SLOPE = 0.01
KERNEL = 3
ENLARGED = 2


class Block(nn.Module):
    """Two convolutions, each normalised and rectified.

    Args:
        in_channels: Of the input.
        out_channels: Of the output.
        stride: Of the first convolution, along (k, j, i).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: Sequence[int]) -> None:
        super().__init__()
        strides = (stride[0], stride[1], stride[2])
        self.conv1 = _named(nn.Conv3d(in_channels, out_channels, KERNEL, strides, padding=1, bias=False))
        self.conv2 = _named(nn.Conv3d(out_channels, out_channels, KERNEL, padding=1, bias=False))
        self.lrelu = nn.LeakyReLU(SLOPE, inplace=True)
        self.norm1 = InstanceNorm(out_channels, affine=True)
        self.norm2 = InstanceNorm(out_channels, affine=True)

    def forward(self, image: Tensor) -> Tensor:
        """Run on (batch, in_channels, k, j, i)."""
        image = self.lrelu(self.norm1(self.conv1(image)))
        output: Tensor = self.lrelu(self.norm2(self.conv2(image)))
        return output


class UpBlock(nn.Module):
    """Enlarges features twice along each axis, joins them with a finer map, and runs a block on both.

    Args:
        in_channels: Of the coarse features.
        out_channels: Of the finer map and of the output.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.transp_conv = _named(
            nn.ConvTranspose3d(in_channels, out_channels, ENLARGED, ENLARGED, bias=False)
        )
        self.conv_block = Block(2 * out_channels, out_channels, (1, 1, 1))

    def forward(self, features: Tensor, skip: Tensor) -> Tensor:
        """Return (batch, out_channels, k, j, i) on the grid of `skip`."""
        joined: Tensor = self.conv_block(torch.cat((self.transp_conv(features), skip), dim=1))
        return joined


class Level(nn.Module):
    """One level of the U: a block down, the levels below it, a block up.

    Args:
        downsample: The encoder's block.
        next_layer: The level below, or the block at the bottom.
        upsample: The decoder's block.
    """

    def __init__(self, downsample: Block, next_layer: Level | Block, upsample: UpBlock) -> None:
        super().__init__()
        self.downsample = downsample
        self.next_layer = next_layer
        self.upsample = upsample


def build_trunk(in_channels: int, filters: Sequence[int], stem_stride: Sequence[int]) -> Level:
    """Build the levels with random weights.

    Args:
        in_channels: Of the image.
        filters: Width of each stage, from fine to coarse; at least three.
        stem_stride: Of the first convolution; all further stages halve.

    Raises:
        ValueError: There are fewer than three stages.
    """
    if len(filters) < 3:
        msg = f"filters must name at least three stages, not {len(filters)}"
        raise ValueError(msg)
    widths = [in_channels, *filters]
    strides = [tuple(stem_stride), *[(2, 2, 2)] * (len(filters) - 1)]
    blocks = [
        Block(before, width, stride) for before, width, stride in zip(widths, filters, strides, strict=False)
    ]
    below: Level | Block = blocks[-1]
    for number in range(len(filters) - 2, -1, -1):
        up = UpBlock(filters[number + 1], filters[number])
        below = Level(blocks[number], below, up)
    assert isinstance(below, Level)
    for module in below.modules():
        if isinstance(module, (nn.Conv3d, nn.ConvTranspose3d)):
            nn.init.kaiming_normal_(module.weight, a=SLOPE)
    return below


def _named(convolution: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict(conv=convolution))
