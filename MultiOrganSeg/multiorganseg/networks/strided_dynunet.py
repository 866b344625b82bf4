"""MONAI's DynUNet behind a strided stem: fine input and output, with the wide layers on a coarser grid."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.layers.factories import Norm
from monai.networks.nets import DynUNet
from monai.networks.nets.dynunet import DynUNetSkipLayer
from torch import Tensor, nn
from torch.nn import functional

from multiorganseg.networks.branching import BranchingNetwork, Maps, SkipDecoder, own_channels


class InstanceNorm(nn.InstanceNorm3d):
    """Instance normalisation that leaves samples in channels-last memory.

    torch copies a channels-last tensor twice to normalise each instance: on a CPU a third of an iteration of
    training and of inference. The statistics of a batch of one are those of its instance, and batch
    normalisation needs no copy; so samples are normalised one by one.
    """

    def forward(self, image: Tensor) -> Tensor:
        """Normalise a tensor (batch, channels, k, j, i)."""
        if len(image) == 1:
            return self._one(image)
        if image.is_contiguous(memory_format=torch.channels_last_3d):
            return torch.cat([self._one(sample) for sample in image.split(1)])
        return super().forward(image)

    def _one(self, sample: Tensor) -> Tensor:
        return functional.batch_norm(sample, None, None, self.weight, self.bias, training=True, eps=self.eps)


Norm.add_factory_callable("single_instance", lambda dim: InstanceNorm)


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
    ) -> None:
        super().__init__()
        stages = len(filters)
        unet = DynUNet(
            spatial_dims=3,
            in_channels=in_channels,
            out_channels=1,
            kernel_size=[3] * stages,
            strides=[list(stem_stride), *[2] * (stages - 1)],
            upsample_kernel_size=[2] * (stages - 1),
            filters=list(filters),
            norm_name=("single_instance", {"affine": True}),
        )
        self.trunk = unet.skip_layers
        self.feature_channels = filters[0]
        self.divisor = tuple(step * 2 ** (stages - 1) for step in stem_stride)
        self.stride = (stem_stride[0], stem_stride[1], stem_stride[2])
        self.head = self.new_head(own_channels(out_channels, branches))
        self.branch_off(branches)

    def encode(self, image: Tensor) -> Maps:
        """Run the encoder on (batch, in_channels, k, j, i)."""
        maps = []
        image = image.contiguous(memory_format=torch.channels_last_3d)
        for layer in self._levels():
            maps.append(layer.downsample(image))
            image = maps[-1]
        return (*maps, layer.next_layer(image))

    def own_decoders(self) -> tuple[nn.Module]:
        """Give the decoder."""
        return (SkipDecoder(layer.upsample for layer in reversed(self._levels())),)

    def new_head(self, channels: int) -> nn.Module:
        """Build a last layer, which brings the features to the image's grid."""
        return nn.ConvTranspose3d(self.feature_channels, channels, self.stride, self.stride)

    def _levels(self) -> list[DynUNetSkipLayer]:
        levels, layer = [], self.trunk
        while isinstance(layer, DynUNetSkipLayer):
            levels.append(layer)
            layer = layer.next_layer
        return levels
