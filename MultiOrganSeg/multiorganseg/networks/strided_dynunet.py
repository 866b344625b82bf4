"""A DynUNet behind a strided stem: fine input and output, with the wide layers on a coarser grid."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from multiorganseg.networks.branching import BranchingNetwork, Maps, SkipDecoder, own_channels
from multiorganseg.networks.dynunet import Level, build_trunk


class StridedDynUNet(BranchingNetwork):
    """U-Net whose first stage already works on a grid coarser by `stem_stride`.

    At equal receptive field it costs a fraction of a U-Net with a full-resolution stage, where the width
    of the first stage dominates; the last layer, a transposed convolution without overlap, gives each
    fine voxel of a coarse cell logits of its own.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the logits.
        filters: Width of each stage, from fine to coarse.
        stem_stride: Coarsening along (k, j, i) by the first convolution.
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
        filters: Sequence[int],
        stem_stride: Sequence[int] = (1, 2, 2),
        branches: Sequence[int] = (),
        background: bool = True,
    ) -> None:
        super().__init__()
        stages = len(filters)
        self.trunk = build_trunk(in_channels, filters, stem_stride)
        self.feature_channels = filters[0]
        self.divisor = tuple(step * 2 ** (stages - 1) for step in stem_stride)
        self.stride = (stem_stride[0], stem_stride[1], stem_stride[2])
        self.head = self.new_head(own_channels(out_channels, branches))
        self.branch_off(branches, filters, in_channels, background)

    def fold(self, image: Tensor) -> Tensor:
        """Bring (batch, in_channels, k, j, i) to the memory layout in which convolutions are fastest."""
        return image.contiguous(memory_format=torch.channels_last_3d)

    def encode(self, image: Tensor) -> Maps:
        """Run the encoder on an image as `fold` gives it."""
        maps = []
        for layer in self._levels():
            maps.append(layer.downsample(image))
            image = maps[-1]
        return (*maps, layer.next_layer(image))

    def own_decoders(self) -> tuple[nn.Module]:
        """Return the decoder."""
        return (SkipDecoder(layer.upsample for layer in reversed(self._levels())),)

    def new_head(self, channels: int, features: int = 0) -> nn.Module:
        """Build a last layer, which brings the features to the image's grid."""
        return nn.ConvTranspose3d(features or self.feature_channels, channels, self.stride, self.stride)

    def _levels(self) -> list[Level]:
        levels: list[Level] = []
        layer: nn.Module = self.trunk
        while isinstance(layer, Level):
            levels.append(layer)
            layer = layer.next_layer
        return levels
