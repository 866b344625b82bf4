"""MONAI's UNet with features beside its logits."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.networks.nets import UNet
from torch import Tensor, nn

from multiorganseg.networks.branching import BranchingNetwork, Maps, own_channels

ACTIVATIONS = ("PRELU", "RELU", "LEAKYRELU")
NORMS: Mapping[str, tuple[Any, ...] | str] = {
    "instance": "INSTANCE",
    "affine_instance": ("INSTANCE", {"affine": True}),
    "batch": "BATCH",
}
"""By name, what MONAI calls a normalisation."""
MOST_LEVELS, MOST_UNITS, WIDEST = 8, 4, 1024
KERNELS = (1, 3, 5, 7)


class MonaiUNet(BranchingNetwork):
    """UNet in three dimensions.

    Its features lie on the grid of the first level. Its last layer is the transposed convolution that
    enlarges them or, with residual units, what follows it: as many maps as channels, to which a convolution
    of them is added. That sum is one convolution here.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the logits.
        filters: Width of each level, from fine to coarse.
        strides: By how much each level but the coarsest shrinks its input, along each axis.
        kernel: Size of the convolutions, odd.
        up_kernel: Size of the transposed ones, odd.
        units: Convolutions of each residual unit; 0 for plain convolutions.
        norm: A key of `NORMS`.
        activation: One of `ACTIVATIONS`.
        bias: Whether convolutions have one; the last layer always has.
        branches: Organs of each branch; see `BranchingNetwork`.
        background: See `BranchingNetwork`.

    Attributes:
        divisor: What the sizes (k, j, i) of an image must be divisible by.
        feature_channels: Channels of the features.
        stride: Voxels between features along (k, j, i).

    Raises:
        ValueError: An argument is out of its range.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        filters: Sequence[int] = (16, 32, 64, 128, 256),
        strides: Sequence[Sequence[int]] = ((2, 2, 2),) * 4,
        kernel: int = 3,
        up_kernel: int = 3,
        units: int = 2,
        norm: str = "instance",
        activation: str = "PRELU",
        bias: bool = True,
        branches: Sequence[int] = (),
        background: bool = True,
    ) -> None:
        super().__init__()
        fits = (
            2 <= len(filters) == len(strides) + 1 <= MOST_LEVELS
            and all(1 <= width <= WIDEST for width in filters)
            and all(len(stride) == 3 and set(stride) <= {1, 2} for stride in strides)
            and {kernel, up_kernel} <= set(KERNELS)
            and up_kernel >= 3
            and 0 <= units <= MOST_UNITS
        )
        if not fits or norm not in NORMS or activation not in ACTIVATIONS:
            message = f"filters {list(filters)}, strides {list(strides)}, kernels {kernel}, {up_kernel}, "
            raise ValueError(message + f"units {units}, norm {norm}, activation {activation}")
        own = own_channels(out_channels, branches)
        self.trunk = UNet(
            spatial_dims=3,
            in_channels=in_channels,
            out_channels=own,
            channels=tuple(filters),
            strides=[tuple(stride) for stride in strides],  # type: ignore[misc]
            kernel_size=kernel,
            up_kernel_size=up_kernel,
            num_res_units=units,
            act=activation,
            norm=NORMS[norm],
            bias=bias,
        )
        self._depth = len(strides)
        self.stride = (strides[0][0], strides[0][1], strides[0][2])
        self.feature_channels = filters[0] + filters[int(len(filters) == 2)]
        up = self._levels()[0][2]
        self._levels()[0][2] = (
            nn.Sequential(up[0]) if units and isinstance(up, nn.Sequential) else nn.Sequential()
        )
        self.head: nn.Module = (
            nn.Conv3d(own, own, kernel, padding=kernel // 2)
            if units
            else nn.ConvTranspose3d(
                self.feature_channels,
                own,
                up_kernel,
                self.stride,
                padding=up_kernel // 2,
                output_padding=(self.stride[0] - 1, self.stride[1] - 1, self.stride[2] - 1),
            )
        )
        k, j, i = (math.prod(steps) for steps in zip(*strides, strict=True))
        self.divisor = (k, j, i)
        self.branch_off(branches, filters, in_channels, background)

    def encode(self, image: Tensor) -> Maps:
        """Run the encoder on an image as `fold` gives it."""
        maps = []
        for level in self._levels():
            image = level[0](image)
            maps.append(image)
        return (*maps, level[1].get_submodule("submodule")(image))

    def own_decoders(self) -> tuple[nn.Module]:
        """Return the decoder."""
        return (_Decoder(level[2] for level in reversed(self._levels()[1:])),)

    def own_logits(self, image: Tensor, features: Tensor, head: nn.Module) -> Tensor:
        """Enlarge the features and run the last layer."""
        logits: Tensor = head(self._levels()[0][2](features))
        return logits

    def new_head(self, channels: int, features: int = 0) -> nn.Module:
        """Build a last layer of a branch, which brings features to the image's grid."""
        return nn.ConvTranspose3d(features or self.feature_channels, channels, self.stride, self.stride)

    def _levels(self) -> list[nn.Sequential]:
        levels: list[nn.Sequential] = []
        level: nn.Module = self.trunk.model
        for _ in range(self._depth):
            assert isinstance(level, nn.Sequential)
            levels.append(level)
            level = level[1].get_submodule("submodule")
        return levels


class _Decoder(nn.ModuleList):
    """Enlarging layers from coarse to fine; each takes the next finer map and the features so far."""

    def forward(self, maps: Maps) -> Tensor:
        features = maps[-1]
        for enlarge, skip in zip(self, reversed(maps[1:-1]), strict=True):
            features = enlarge(torch.cat([skip, features], dim=1))
        return torch.cat([maps[0], features], dim=1)
