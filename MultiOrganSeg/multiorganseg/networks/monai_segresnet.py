"""MONAI's SegResNet with features beside its logits."""

from __future__ import annotations

from collections.abc import Sequence

from monai.networks.nets import SegResNet
from torch import Tensor, nn

from multiorganseg.networks.output import NetworkOutput


class MonaiSegResNet(nn.Module):
    """SegResNet in three dimensions; its features are normalised and rectified, ready for the last layer.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the logits.
        filters: Width of the first level, a multiple of 8; each further level is twice as wide.
        blocks_down: Residual blocks of each level on the way down.
        blocks_up: The same on the way up, one level fewer.

    Attributes:
        divisor: What the sizes (k, j, i) of an image must be divisible by.
        feature_channels: Channels of the features.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        filters: int = 16,
        blocks_down: Sequence[int] = (1, 2, 2, 4),
        blocks_up: Sequence[int] = (1, 1, 1),
    ) -> None:
        super().__init__()
        self.trunk = SegResNet(
            spatial_dims=3,
            init_filters=filters,
            in_channels=in_channels,
            out_channels=out_channels,
            blocks_down=tuple(blocks_down),
            blocks_up=tuple(blocks_up),
        )
        *finish, self.head = self.trunk.conv_final
        self.trunk.conv_final = nn.Sequential(*finish)
        self.feature_channels = filters
        cell = 2 ** (len(blocks_down) - 1)
        self.divisor = (cell, cell, cell)

    def forward(self, image: Tensor) -> NetworkOutput:
        """Run the network.

        Args:
            image: Tensor (batch, in_channels, k, j, i); each size divisible by `divisor`.
        """
        features = self.trunk(image)
        return NetworkOutput(self.head(features), features)
