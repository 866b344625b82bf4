"""MONAI's DynUNet behind a strided stem: fine input and output, with the wide layers on a coarser grid."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.layers.factories import Norm
from monai.networks.nets import DynUNet
from torch import Tensor, nn
from torch.nn import functional

from multiorganseg.networks.output import NetworkOutput


class InstanceNorm(nn.InstanceNorm3d):
    """Instance normalisation that leaves a single training sample in channels-last memory.

    torch copies a channels-last tensor twice to normalise each instance: on a CPU a sixth of an iteration of
    training, a third of inference. The statistics of a batch of one are those of its instance, and batch
    normalisation needs no copy.
    """

    def forward(self, image: Tensor) -> Tensor:
        """Normalise a tensor (batch, channels, k, j, i)."""
        if len(image) == 1:
            return functional.batch_norm(
                image, None, None, self.weight, self.bias, training=True, eps=self.eps
            )
        return super().forward(image)


Norm.add_factory_callable("single_instance", lambda dim: InstanceNorm)


class StridedDynUNet(nn.Module):
    """U-Net whose first stage already works on a grid coarser by `stem_stride`.

    At equal receptive field it costs a fraction of a U-Net with a full-resolution stage, where the width
    of the first stage dominates; the last layer, a transposed convolution without overlap, gives each
    fine voxel of a coarse cell logits of its own.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the logits.
        filters: Width of each stage, from fine to coarse.
        stem_stride: Coarsening along (k, j, i) by the first convolution.

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
        stride = (stem_stride[0], stem_stride[1], stem_stride[2])
        self.head = nn.ConvTranspose3d(filters[0], out_channels, kernel_size=stride, stride=stride)

    def forward(self, image: Tensor) -> NetworkOutput:
        """Run the network.

        Args:
            image: Tensor (batch, in_channels, k, j, i); each size divisible by `divisor`.
        """
        features = self.trunk(image.contiguous(memory_format=torch.channels_last_3d))
        return NetworkOutput(self.head(features), features)
