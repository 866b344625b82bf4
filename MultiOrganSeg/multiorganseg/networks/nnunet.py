"""The two U-Nets of nnU-Net, re-implemented: plain convolutions, or a residual encoder.

Isensee et al. 2021 (nnU-Net) and 2024 (residual encoders). Both have instance normalisation, leaky ReLU and
transposed convolutions; widths, kernels, strides and depths are data.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from multiorganseg.networks.branching import (
    BranchingNetwork,
    InstanceNorm,
    Maps,
    SkipDecoder,
    as_slices,
    as_volumes,
    own_channels,
)
from multiorganseg.networks.nnunet_arguments import NnUNetArguments

EPSILON = 1e-5
SLOPE = 0.01

_CONVOLUTIONS: dict[int, type[nn.Module]] = {2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED: dict[int, type[nn.Module]] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_NORMS: dict[int, type[nn.Module]] = {2: nn.InstanceNorm2d, 3: InstanceNorm}
_POOLS: dict[int, type[nn.Module]] = {2: nn.AvgPool2d, 3: nn.AvgPool3d}


class NnUNet(BranchingNetwork):
    """U-Net of nnU-Net in two or three dimensions.

    In two dimensions slices along the first axis are samples of a batch to it.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the logits.
        filters: Width of each stage, from fine to coarse.
        kernels: Kernel of each stage along each axis, odd; two numbers in two dimensions.
        strides: Coarsening of each stage along each axis, 1 or 2.
        encoder: Convolutions of each stage, or residual blocks where `residual`.
        decoder: Convolutions of each stage on the way up, one stage fewer, from coarse to fine.
        residual: Whether the encoder has residual blocks.
        branches: Organs of each branch; see `BranchingNetwork`.
        background: See `BranchingNetwork`.

    Attributes:
        divisor: What the sizes (k, j, i) of an image must be divisible by.
        feature_channels: Channels of the features.

    Raises:
        ValueError: An argument is out of its range.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        filters: Sequence[int],
        kernels: Sequence[Sequence[int]],
        strides: Sequence[Sequence[int]],
        encoder: Sequence[int],
        decoder: Sequence[int],
        residual: bool = False,
        branches: Sequence[int] = (),
        background: bool = True,
    ) -> None:
        super().__init__()
        said = NnUNetArguments(
            in_channels, out_channels, filters, kernels, strides, encoder, decoder, residual
        )
        self._dims = said.dims
        widths = [said.filters[0] if residual else in_channels, *said.filters]
        stages: list[nn.Module] = []
        for number, count in enumerate(said.encoder):
            size = (widths[number], widths[number + 1], said.kernels[number])
            make = _residual_stage if residual else _plain_stage
            stages.append(make(*size, said.strides[number], count))
        self.stem = (
            _plain_stage(in_channels, widths[0], said.kernels[0], (1,) * self._dims, 1) if residual else None
        )
        self.encoder = nn.ModuleList(stages)
        coarse_to_fine = range(len(said.filters) - 1, 0, -1)
        self.decoder = SkipDecoder(
            _UpStage(
                said.filters[level],
                said.filters[level - 1],
                said.strides[level],
                said.kernels[level - 1],
                count,
            )
            for level, count in zip(coarse_to_fine, said.decoder, strict=True)
        )
        self.feature_channels = said.filters[0]
        self.divisor = said.divisor
        self.head = self.new_head(own_channels(out_channels, branches))
        self.branch_off(branches, said.filters, in_channels, background)

    def encode(self, image: Tensor) -> Maps:
        """Run the encoder on (batch, in_channels, k, j, i), or on slices (batch · k, in_channels, j, i)."""
        maps, features = [], image if self.stem is None else self.stem(image)
        for stage in self.encoder:
            features = stage(features)
            maps.append(features)
        return tuple(maps)

    def own_decoders(self) -> tuple[nn.Module]:
        """Return the decoder."""
        return (self.decoder,)

    def new_head(self, channels: int, features: int = 0) -> nn.Module:
        """Build a last layer."""
        return _CONVOLUTIONS[self._dims](features or self.feature_channels, channels, kernel_size=1)

    def fold(self, image: Tensor) -> Tensor:
        """Return (batch, in_channels, k, j, i), or its slices where the network has two dimensions."""
        if self._dims == 2:
            return as_slices(image)
        return image.contiguous(memory_format=torch.channels_last_3d)

    def unfold(self, maps: Tensor, batch: int) -> Tensor:
        """Put slices together again."""
        return maps if self._dims == 3 else as_volumes(maps, batch)


class _Convolution(nn.Module):
    """Convolution, instance normalisation and, unless it is the last of a residual block, leaky ReLU."""

    def __init__(
        self,
        in_channels: int,
        width: int,
        kernel: Sequence[int],
        stride: Sequence[int],
        *,
        bias: bool = True,
        rectify: bool = True,
    ) -> None:
        super().__init__()
        dims = len(kernel)
        padding = tuple((size - 1) // 2 for size in kernel)
        self.conv = _CONVOLUTIONS[dims](in_channels, width, tuple(kernel), tuple(stride), padding, bias=bias)
        self.norm = _NORMS[dims](width, eps=EPSILON, affine=True)
        self.rectify = nn.LeakyReLU(SLOPE, inplace=True) if rectify else nn.Identity()

    def forward(self, image: Tensor) -> Tensor:
        return cast(Tensor, self.rectify(self.norm(self.conv(image))))


class _ResidualBlock(nn.Module):
    """Two convolutions beside a way round them, which is averaged and widened where it must be."""

    def __init__(self, in_channels: int, width: int, kernel: Sequence[int], stride: Sequence[int]) -> None:
        super().__init__()
        ones = (1,) * len(kernel)
        self.first = _Convolution(in_channels, width, kernel, stride)
        self.second = _Convolution(width, width, kernel, ones, rectify=False)
        coarser = max(stride) > 1
        self.pool = _POOLS[len(kernel)](tuple(stride), tuple(stride)) if coarser else nn.Identity()
        self.project: nn.Module = nn.Identity()
        if in_channels != width:
            self.project = _Convolution(in_channels, width, ones, ones, bias=False, rectify=False)
        self.rectify = nn.LeakyReLU(SLOPE, inplace=True)

    def forward(self, image: Tensor) -> Tensor:
        around = self.project(self.pool(image))
        return cast(Tensor, self.rectify(self.second(self.first(image)) + around))


class _UpStage(nn.Module):
    def __init__(
        self, coarse: int, width: int, stride: Sequence[int], kernel: Sequence[int], count: int
    ) -> None:
        super().__init__()
        self.enlarge = _TRANSPOSED[len(kernel)](coarse, width, tuple(stride), tuple(stride))
        self.level = _plain_stage(2 * width, width, kernel, (1,) * len(kernel), count)

    def forward(self, features: Tensor, skip: Tensor) -> Tensor:
        return cast(Tensor, self.level(torch.cat([self.enlarge(features), skip], dim=1)))


def _plain_stage(
    in_channels: int, width: int, kernel: Sequence[int], stride: Sequence[int], count: int
) -> nn.Sequential:
    ones = (1,) * len(kernel)
    first = _Convolution(in_channels, width, kernel, stride)
    return nn.Sequential(first, *(_Convolution(width, width, kernel, ones) for _ in range(count - 1)))


def _residual_stage(
    in_channels: int, width: int, kernel: Sequence[int], stride: Sequence[int], count: int
) -> nn.Sequential:
    ones = (1,) * len(kernel)
    first = _ResidualBlock(in_channels, width, kernel, stride)
    return nn.Sequential(first, *(_ResidualBlock(width, width, kernel, ones) for _ in range(count - 1)))
