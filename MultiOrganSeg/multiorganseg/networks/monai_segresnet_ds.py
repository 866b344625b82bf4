"""MONAI's SegResNetDS, as Auto3DSeg trains it, with features beside its logits."""

from __future__ import annotations

from collections.abc import Sequence

from monai.networks.nets import SegResNetDS
from torch import Tensor, nn

from multiorganseg.networks.branching import BranchingNetwork, Maps, add_skips, own_channels

NORMS = ("INSTANCE", "BATCH")


class MonaiSegResNetDS(BranchingNetwork):
    """SegResNetDS in three dimensions; the coarser outputs that supervise its training are left out.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the logits.
        filters: Width of the first level; each further level is twice as wide.
        blocks_down: Residual blocks of each level on the way down.
        norm: One of `NORMS`.
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
        filters: int = 32,
        blocks_down: Sequence[int] = (1, 2, 2, 4, 4),
        norm: str = "INSTANCE",
        branches: Sequence[int] = (),
        background: bool = True,
    ) -> None:
        super().__init__()
        fits = 1 <= filters <= 128 and 2 <= len(blocks_down) <= 7 and all(1 <= n <= 16 for n in blocks_down)
        if not fits or norm not in NORMS:
            message = f"filters {filters}, blocks_down {list(blocks_down)}, norm {norm}"
            raise ValueError(message)
        self.trunk = SegResNetDS(
            init_filters=filters,
            in_channels=in_channels,
            out_channels=own_channels(out_channels, branches),
            blocks_down=tuple(blocks_down),
            norm=norm,
        )
        last = self.trunk.up_layers[-1]
        self.head = last["head"]  # type: ignore[index]
        last["head"] = nn.Identity()  # type: ignore[operator]
        self.feature_channels = filters
        cell = 2 ** (len(blocks_down) - 1)
        self.divisor = (cell, cell, cell)
        widths = [filters * 2**level for level in range(len(blocks_down))]
        self.branch_off(branches, widths, in_channels, background)

    def encode(self, image: Tensor) -> Maps:
        """Run the encoder on an image as `fold` gives it."""
        return tuple(self.trunk.encoder(image))

    def own_decoders(self) -> tuple[nn.Module]:
        """Return the decoder."""
        return (_Decoder(self.trunk.up_layers),)


class _Decoder(nn.Module):
    def __init__(self, levels: nn.ModuleList) -> None:
        super().__init__()
        self.enlargements = nn.ModuleList(level["upsample"] for level in levels)  # type: ignore[index]
        self.levels = nn.ModuleList(level["blocks"] for level in levels)  # type: ignore[index]

    def forward(self, maps: Maps) -> Tensor:
        return add_skips(maps, self.enlargements, self.levels)
