"""MONAI's DynUNet with features beside its logits."""

from __future__ import annotations

import math
from collections.abc import Sequence

from monai.networks.nets import DynUNet
from torch import Tensor, nn

from multiorganseg.networks.branching import BranchingNetwork, Maps, SkipDecoder, own_channels
from multiorganseg.networks.monai_unet import NORMS

MOST_STAGES, WIDEST = 9, 1024
KERNELS, STRIDES = frozenset({1, 3, 5, 7}), frozenset({1, 2})


class MonaiDynUNet(BranchingNetwork):
    """DynUNet in three dimensions; the outputs that supervise its training are left out.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the logits.
        filters: Width of each stage, from fine to coarse; at least three.
        kernels: Size of each stage's convolutions along each axis, odd.
        strides: By how much each stage shrinks its input along each axis; nothing by the first.
        norm: A key of `NORMS`.
        residual: Whether its blocks are residual.
        up_bias: Whether transposed convolutions have a bias.
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
        filters: Sequence[int] = (32, 64, 128),
        kernels: Sequence[Sequence[int]] = ((3, 3, 3),) * 3,
        strides: Sequence[Sequence[int]] = ((1, 1, 1), (2, 2, 2), (2, 2, 2)),
        norm: str = "affine_instance",
        residual: bool = False,
        up_bias: bool = False,
        branches: Sequence[int] = (),
        background: bool = True,
    ) -> None:
        super().__init__()
        fits = (
            3 <= len(filters) == len(kernels) == len(strides) <= MOST_STAGES
            and all(1 <= width <= WIDEST for width in filters)
            and all(len(kernel) == 3 and set(kernel) <= KERNELS for kernel in kernels)
            and all(len(stride) == 3 and set(stride) <= STRIDES for stride in strides)
            and set(strides[0]) == {1}
        )
        if not fits or norm not in NORMS:
            message = (
                f"filters {list(filters)}, kernels {list(kernels)}, strides {list(strides)}, norm {norm}"
            )
            raise ValueError(message)
        self.trunk = DynUNet(
            spatial_dims=3,
            in_channels=in_channels,
            out_channels=own_channels(out_channels, branches),
            kernel_size=[tuple(kernel) for kernel in kernels],
            strides=[tuple(stride) for stride in strides],
            upsample_kernel_size=[tuple(stride) for stride in strides[1:]],
            filters=tuple(filters),
            norm_name=NORMS[norm],
            res_block=residual,
            trans_bias=up_bias,
        )
        del self.trunk.skip_layers
        self.head = self.trunk.output_block.conv.conv
        self.trunk.output_block = nn.Identity()
        self.feature_channels = filters[0]
        k, j, i = (math.prod(steps) for steps in zip(*strides, strict=True))
        self.divisor = (k, j, i)
        self.branch_off(branches, filters, in_channels, background)

    def encode(self, image: Tensor) -> Maps:
        """Run the encoder on an image as `fold` gives it."""
        maps = []
        for block in (self.trunk.input_block, *self.trunk.downsamples, self.trunk.bottleneck):
            image = block(image)
            maps.append(image)
        return tuple(maps)

    def own_decoders(self) -> tuple[nn.Module]:
        """Return the decoder."""
        return (SkipDecoder(self.trunk.upsamples),)
