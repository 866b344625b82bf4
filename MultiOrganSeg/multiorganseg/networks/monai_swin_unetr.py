"""MONAI's SwinUNETR with features beside its logits."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

from monai.networks.nets import SwinUNETR
from torch import Tensor, nn

from multiorganseg.errors import BundleError
from multiorganseg.networks.branching import BranchingNetwork, Maps, SkipDecoder, own_channels


class MonaiSwinUNETR(BranchingNetwork):
    """SwinUNETR in three dimensions. MONAI needs the package einops for it.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the logits.
        feature_size: Width of the first level, a multiple of 12.
        depths: Transformer blocks of each stage.
        num_heads: Attention heads of each stage.
        window_size: Of the attention, in cells.
        branches: Organs of each branch; see `BranchingNetwork`.
        background: See `BranchingNetwork`.

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
        branches: Sequence[int] = (),
        background: bool = True,
    ) -> None:
        super().__init__()
        if importlib.util.find_spec("einops") is None:
            msg = "The architecture 'monai_swin_unetr' needs the package einops."
            raise BundleError(msg, next_step="Install it: pip install einops.")
        self.trunk = SwinUNETR(
            in_channels,
            own_channels(out_channels, branches),
            feature_size=feature_size,
            depths=tuple(depths),
            num_heads=tuple(num_heads),
            window_size=window_size,
        )
        self.head: nn.Module = self.trunk.out
        self.trunk.out = nn.Identity()  # type: ignore[assignment]
        self.feature_channels = feature_size
        widths = [feature_size * factor for factor in (1, 1, 2, 4, 8, 16)]
        self.branch_off(branches, widths, in_channels, background)

    def encode(self, image: Tensor) -> Maps:
        """Run the transformer and the convolutions of its levels on an image as `fold` gives it."""
        trunk = self.trunk
        hidden = trunk.swinViT(image, trunk.normalize)
        encoders = (trunk.encoder2, trunk.encoder3, trunk.encoder4)
        finer = (encoder(states) for encoder, states in zip(encoders, hidden, strict=False))
        return (trunk.encoder1(image), *finer, hidden[3], trunk.encoder10(hidden[4]))

    def own_decoders(self) -> tuple[nn.Module]:
        """Return the decoder."""
        trunk = self.trunk
        blocks = (trunk.decoder5, trunk.decoder4, trunk.decoder3, trunk.decoder2, trunk.decoder1)
        return (SkipDecoder(blocks),)
