"""A DynUNet behind a strided stem: fine input and output, with the wide layers on a coarser grid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from multiorganseg.networks.branching import BranchingNetwork, InstanceNorm, Maps, SkipDecoder, own_channels
from multiorganseg.networks.dynunet import Level, build_trunk

WINDOW, FIXED = "window", "fixed"
FIXED_SHARE = 0.5
FOLLOWED = 0.03


class FixedNorm(nn.Module):
    """Normalisation by statistics that were learned, so that no voxel depends on what else a window shows.

    In training a window is normalised by its own statistics, which the learned ones follow, or by the
    learned ones: as `by_window` says. The first `1 / FOLLOWED` windows are averaged evenly.

    Args:
        num_features: Channels.
        affine: Whether each channel is scaled and shifted.

    Attributes:
        by_window: Whether a training window is normalised by its own statistics.
    """

    running_mean: Tensor
    running_var: Tensor
    updates: Tensor

    def __init__(self, num_features: int, affine: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(num_features)) if affine else None
        self.bias = nn.Parameter(torch.zeros(num_features)) if affine else None
        self.eps = 1e-5
        self.by_window = True
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    def forward(self, image: Tensor) -> Tensor:
        """Normalise a tensor (batch, channels, k, j, i)."""
        follow = self.training and (self.by_window or int(self.updates) * FOLLOWED < 1)
        if follow:
            self.updates += 1
        momentum = max(FOLLOWED, 1 / max(int(self.updates), 1)) if follow else 0.0
        return functional.batch_norm(
            image,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            training=follow,
            momentum=momentum,
            eps=self.eps,
        )

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *others: Any) -> None:
        """Take statistics without their count, as bundles hold them, for settled ones."""
        state_dict.setdefault(prefix + "updates", torch.tensor(round(1 / FOLLOWED)))
        super()._load_from_state_dict(state_dict, prefix, *others)


class Detail(nn.Module):
    """Further features for the last layer: what the finest voxels tell, weighed by the features around them.

    Filters of the image, with the stride of the stem, are multiplied with as many maps that the features
    give. Their part of the last layer starts with zeros: they add nothing at first.

    Args:
        in_channels: Of the image.
        features: Channels of the features.
        out_channels: Of the logits.
        filters: How many filters.
        stride: From the image's grid to the features'.
    """

    def __init__(
        self, in_channels: int, features: int, out_channels: int, filters: int, stride: tuple[int, int, int]
    ) -> None:
        super().__init__()
        size = (stride[0] + 2, stride[1] + 2, stride[2] + 2)
        self.fine = nn.Conv3d(in_channels, filters, size, stride, padding=1)
        self.context = nn.Conv3d(features, filters, 1)
        self.head = nn.ConvTranspose3d(filters, out_channels, stride, stride, bias=False)
        nn.init.zeros_(self.head.weight)

    def forward(self, image: Tensor, features: Tensor) -> Tensor:
        """Return further features (batch, filters, k', j', i') on the grid of `features`."""
        fine = functional.leaky_relu(self.fine(image), 0.1).contiguous(memory_format=torch.channels_last_3d)
        further: Tensor = fine * self.context(features)
        return further

    def logits(self, image: Tensor, features: Tensor, head: nn.Module) -> Tensor:
        """Return the logits that a last layer makes of the features and the further ones at once."""
        assert isinstance(head, nn.ConvTranspose3d)
        weight = torch.cat([head.weight, self.head.weight])
        return functional.conv_transpose3d(
            torch.cat([features, self(image, features)], dim=1), weight, head.bias, self.head.stride
        )


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
        statistics: What normalises features: those of each "window", or "fixed" ones learned in training, in
            which half of the windows are normalised by their own; see `FixedNorm`.
        detail: Filters of the image that refine the logits; see `Detail`. 0 for none.
        background: See `BranchingNetwork`.

    Raises:
        ValueError: The statistics are unknown.

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
        statistics: str = WINDOW,
        detail: int = 0,
        background: bool = True,
    ) -> None:
        super().__init__()
        if statistics not in (WINDOW, FIXED):
            msg = f"statistics must be {WINDOW} or {FIXED}, not {statistics}"
            raise ValueError(msg)
        stages = len(filters)
        make_norm = FixedNorm if statistics == FIXED else lambda width: InstanceNorm(width, affine=True)
        self.trunk = build_trunk(in_channels, filters, stem_stride, make_norm)
        self.feature_channels = filters[0]
        self.divisor = tuple(step * 2 ** (stages - 1) for step in stem_stride)
        self.stride = (stem_stride[0], stem_stride[1], stem_stride[2])
        own = own_channels(out_channels, branches)
        self.head = self.new_head(own)
        self.detail = Detail(in_channels, filters[0], own, detail, self.stride) if detail else None
        self.branch_off(branches, filters, in_channels, background, make_norm)

    def fold(self, image: Tensor) -> Tensor:
        """Bring (batch, in_channels, k, j, i) to the memory layout in which convolutions are fastest."""
        return image.contiguous(memory_format=torch.channels_last_3d)

    def encode(self, image: Tensor) -> Maps:
        """Run the encoder on an image as `fold` gives it."""
        maps = []
        if self.training:
            self._choose_statistics()
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

    def own_logits(self, image: Tensor, features: Tensor, head: nn.Module) -> Tensor:
        """Run the last layer, with the further features where there is a `detail`."""
        if self.detail is None:
            return super().own_logits(image, features, head)
        return self.detail.logits(image, features, head)

    def _choose_statistics(self) -> None:
        norms = [module for module in self.modules() if isinstance(module, FixedNorm)]
        if norms:
            by_window = bool(torch.rand(()) >= FIXED_SHARE)
            for norm in norms:
                norm.by_window = by_window

    def _levels(self) -> list[Level]:
        levels: list[Level] = []
        layer: nn.Module = self.trunk
        while isinstance(layer, Level):
            levels.append(layer)
            layer = layer.next_layer
        return levels
