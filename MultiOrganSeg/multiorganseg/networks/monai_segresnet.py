"""MONAI's SegResNet with features beside its logits."""

from __future__ import annotations

from collections.abc import Sequence

from monai.networks.nets import SegResNet
from torch import Tensor, nn

from multiorganseg.networks.branching import BranchingNetwork, Maps, add_skips, own_channels


class MonaiSegResNet(BranchingNetwork):
    """SegResNet in three dimensions; its features are normalised and rectified, ready for the last layer.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the logits.
        filters: Width of the first level, a multiple of 8; each further level is twice as wide.
        blocks_down: Residual blocks of each level on the way down.
        blocks_up: The same on the way up, one level fewer.
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
        filters: int = 16,
        blocks_down: Sequence[int] = (1, 2, 2, 4),
        blocks_up: Sequence[int] = (1, 1, 1),
        branches: Sequence[int] = (),
        background: bool = True,
    ) -> None:
        super().__init__()
        self.trunk = SegResNet(
            spatial_dims=3,
            init_filters=filters,
            in_channels=in_channels,
            out_channels=own_channels(out_channels, branches),
            blocks_down=tuple(blocks_down),
            blocks_up=tuple(blocks_up),
        )
        *finish, self.head = self.trunk.conv_final
        self.trunk.conv_final = nn.Sequential(*finish)
        self.feature_channels = filters
        cell = 2 ** (len(blocks_down) - 1)
        self.divisor = (cell, cell, cell)
        widths = [filters * 2**level for level in range(len(blocks_down))]
        self.branch_off(branches, widths, in_channels, background)

    def encode(self, image: Tensor) -> Maps:
        """Run the encoder on an image as `fold` gives it."""
        return tuple(self.trunk.encode(image)[1])

    def own_decoders(self) -> tuple[nn.Module]:
        """Return the decoder."""
        return (_Decoder(self.trunk),)


class _Decoder(nn.Module):
    def __init__(self, trunk: SegResNet) -> None:
        super().__init__()
        self.enlargements = trunk.up_samples
        self.levels = trunk.up_layers
        self.finish = trunk.conv_final

    def forward(self, maps: Maps) -> Tensor:
        finished: Tensor = self.finish(add_skips(maps, self.enlargements, self.levels))
        return finished
