"""MONAI's SwinUNETR with features beside its logits."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

from monai.networks.nets import SwinUNETR
from torch import Tensor, nn

from multiorganseg.errors import BundleError
from multiorganseg.networks.output import NetworkOutput


class MonaiSwinUNETR(nn.Module):
    """SwinUNETR in three dimensions. MONAI needs the package einops for it.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the logits.
        feature_size: Width of the first level, a multiple of 12.
        depths: Transformer blocks of each stage.
        num_heads: Attention heads of each stage.
        window_size: Of the attention, in cells.

    Attributes:
        divisor: What the sizes (k, j, i) of an image must be divisible by.
        feature_channels: Channels of the features.

    Raises:
        BundleError: einops is not installed.
    """

    divisor = (32, 32, 32)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        feature_size: int = 24,
        depths: Sequence[int] = (2, 2, 2, 2),
        num_heads: Sequence[int] = (3, 6, 12, 24),
        window_size: int = 7,
    ) -> None:
        super().__init__()
        if importlib.util.find_spec("einops") is None:
            msg = "The architecture 'monai_swin_unetr' needs the package einops."
            raise BundleError(msg, next_step="Install it: pip install einops.")
        self.trunk = SwinUNETR(
            in_channels,
            out_channels,
            feature_size=feature_size,
            depths=tuple(depths),
            num_heads=tuple(num_heads),
            window_size=window_size,
        )
        self.head: nn.Module = self.trunk.out
        self.trunk.out = nn.Identity()  # type: ignore[assignment]
        self.feature_channels = feature_size

    def forward(self, image: Tensor) -> NetworkOutput:
        """Run the network.

        Args:
            image: Tensor (batch, in_channels, k, j, i); each size divisible by `divisor`.
        """
        features = self.trunk(image)
        return NetworkOutput(self.head(features), features)
