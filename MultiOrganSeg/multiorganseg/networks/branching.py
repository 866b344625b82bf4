"""Networks of one encoder and its decoders, on which further decoders with organs of their own can be put."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from multiorganseg.networks.output import NetworkOutput, feature_stride

SLOPE = 0.01

Maps = tuple[Tensor, ...]
"""What an encoder gives: (batch, width, k', j', i') of each of its levels, from fine to coarse."""


class SkipDecoder(nn.ModuleList):
    """Blocks from coarse to fine, each of which takes the features so far and the next finer map."""

    def forward(self, maps: Maps) -> Tensor:
        """Return the features of the finest level."""
        features = maps[-1]
        for block, skip in zip(self, reversed(maps[:-1]), strict=True):
            features = block(features, skip)
        return features


def add_skips(maps: Maps, enlargements: Iterable[nn.Module], levels: Iterable[nn.Module]) -> Tensor:
    """Return the features of the finest level; each level adds the next finer map to what it enlarges."""
    features = maps[-1]
    for enlarge, level, skip in zip(enlargements, levels, reversed(maps[:-1]), strict=True):
        features = level(enlarge(features) + skip)
    return features


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


def as_slices(image: Tensor) -> Tensor:
    """Return the slices along k of (batch, channels, k, j, i) as samples (batch · k, channels, j, i)."""
    return image.movedim(2, 1).flatten(0, 1).contiguous(memory_format=torch.channels_last)


def as_volumes(slices: Tensor, batch: int) -> Tensor:
    """Put slices (batch · k, channels, j, i) together again."""
    return slices.unflatten(0, (batch, -1)).movedim(1, 2)


DESIGN = os.environ.get("BRANCH_DESIGN", "narrow+decoded+detail").split("+")
"""A trial: narrow, wide, half (of the network's widths), or head (1×1 convolutions alone); with decoded, detail."""

BRANCH_WIDTHS = (32, 48, 64, 64, 64) if "wide" in DESIGN else (16, 24, 32, 48, 64)
"""Of a branch's levels, from fine to coarse; the last one for all coarser levels."""

DETAIL_WIDTH = 8


class Branch(nn.Module):
    """Organs that a network learned later, read from what its encoder and its first decoder say of an image.

    A narrow decoder of its own: a 1×1 convolution of each map of the encoder, and of the features of the
    network's first decoder, which know where the old organs are. From coarse to fine the next map is added,
    and a 3×3 convolution follows. On the finest grid filters of the image stand beside them, for detail that
    a network leaves out which was not trained for the organ; then two 3×3 convolutions and a last layer.

    Args:
        organs: How many.
        features: Channels of the first decoder's features.
        widths: Channels of each map, from fine to coarse.
        in_channels: Of the image.
        stride: Voxels of the image between those of the finest map, along each axis.
        new_head: Builds a layer of so many channels from so many features to the image's grid:
            `BranchingNetwork.new_head`.
    """

    def __init__(
        self,
        organs: int,
        features: int,
        widths: Sequence[int],
        in_channels: int,
        stride: Sequence[int],
        new_head: Callable[[int, int], nn.Module],
    ) -> None:
        super().__init__()
        self.organs = organs
        own = [BRANCH_WIDTHS[min(level, len(BRANCH_WIDTHS) - 1)] for level in range(len(widths))]
        if "half" in DESIGN:
            own = [max(8, width // 2) for width in widths]
        if "head" in DESIGN:
            own = [16] * len(widths)
        self.head = new_head(organs, own[0])
        flat = isinstance(self.head, nn.Conv2d)
        convolution, norm = (nn.Conv2d, nn.InstanceNorm2d) if flat else (nn.Conv3d, InstanceNorm)
        steps = tuple(stride[1:] if flat else stride)

        def normalised(width: int) -> tuple[nn.Module, nn.Module]:
            return norm(width, affine=True), nn.LeakyReLU(SLOPE, inplace=True)

        def layer(before: int, width: int) -> nn.Sequential:
            return nn.Sequential(convolution(before, width, 3, padding=1, bias=False), *normalised(width))

        def narrowed(before: Iterable[int], after: Iterable[int]) -> nn.ModuleList:
            pairs = zip(before, after, strict=True)
            return nn.ModuleList(convolution(*pair, 1, bias=False) for pair in pairs)

        self.decoded = convolution(features, own[0], 1, bias=False) if "decoded" in DESIGN else None
        self.maps = narrowed(widths, own)
        self.narrower = narrowed(own[1:], own[:-1])
        self.levels = nn.ModuleList(
            nn.Identity() if "head" in DESIGN else layer(width, width) for width in own[1:-1]
        )
        self.joined = nn.Sequential(*normalised(own[0]))
        size = tuple(step + 2 for step in steps)
        seen = DETAIL_WIDTH if "detail" in DESIGN else 0
        detail = convolution(in_channels, DETAIL_WIDTH, size, steps, padding=1, bias=False)  # type: ignore[arg-type]
        self.detail = nn.Sequential(detail, *normalised(DETAIL_WIDTH))
        self.body = nn.Sequential(layer(own[0] + seen, own[0]), layer(own[0], own[0]))

    def forward(self, image: Tensor, read: Maps) -> Tensor:
        """Return the logits (batch, organs, *space) of its organs, over that of the background.

        Args:
            image: (batch, in_channels, *space), as the encoder took it.
            read: The first decoder's features, on the finest map's grid, and the maps of the encoder.
        """
        decoded, *maps = read
        own = self.maps[-1](maps[-1])
        for level in reversed(range(1, len(maps) - 1)):
            own = self.levels[level - 1](self._finer(own, maps, level))
        own = self._finer(own, maps, 0)
        if self.decoded is not None:
            own = own + self.decoded(decoded)
        own = self.joined(own)
        if "detail" in DESIGN:
            own = torch.cat([own, self.detail(image)], dim=1)
        logits: Tensor = self.head(self.body(own))
        return logits

    def _finer(self, own: Tensor, maps: Sequence[Tensor], level: int) -> Tensor:
        skip: Tensor = self.maps[level](maps[level])
        return _enlarged(self.narrower[level](own), skip.shape[2:]) + skip


def _enlarged(features: Tensor, space: torch.Size) -> Tensor:
    mode = "trilinear" if len(space) == 3 else "bilinear"
    enlarged: Tensor = functional.interpolate(features, size=space, mode=mode, align_corners=False)
    return enlarged


class BranchingNetwork(nn.Module):
    """A network of one encoder and one or more decoders, with or without branches.

    The channels of its own organs come first, those of the branches after them, in their order. A branch
    takes nothing from the branches before it and gives nothing to them, so that training a branch alone
    leaves the logits of all other organs as they are.

    Subclasses build encoder, decoders and last layers, and then call `branch_off`.

    Attributes:
        head: The first decoder's last layer.
        branches: One for each time that organs were added.
        decoder_count: How many decoders there are, branches apart.
        feature_channels: Channels of the features.
        divisor: What the sizes (k, j, i) of an image must be divisible by.
        background: Whether the first channel is background, on whose logit those of branches build.
    """

    head: nn.Module
    branches: nn.ModuleList
    decoder_count: int = 1
    feature_channels: int
    divisor: tuple[int, ...]
    background: bool

    def encode(self, image: Tensor) -> Maps:
        """Run the encoder on an image as `fold` gives it."""
        raise NotImplementedError

    def own_decoders(self) -> Sequence[nn.Module]:
        """Return the decoders, each of which makes features of what `encode` gives."""
        raise NotImplementedError

    def own_heads(self) -> Sequence[nn.Module]:
        """Return the last layer of each decoder, a single convolution with bias."""
        return (self.head,)

    def new_head(self, channels: int, features: int = 0) -> nn.Module:
        """Build a last layer, on the network's own features or on so many."""
        return nn.Conv3d(features or self.feature_channels, channels, kernel_size=1)

    def fold(self, image: Tensor) -> Tensor:
        """Bring (batch, in_channels, k, j, i) to what the encoder takes: slices, or another layout."""
        return image

    def unfold(self, maps: Tensor, batch: int) -> Tensor:
        """Bring what the decoders give back to (batch, channels, k, j, i)."""
        return maps

    def branch_off(
        self,
        organs: Sequence[int],
        widths: Sequence[int],
        in_channels: int,
        background: bool,
    ) -> None:
        """Put branches on the network, with random weights.

        Args:
            organs: How many each of them has.
            widths: Channels of each map that `encode` gives.
            in_channels: Of the image.
            background: See the attribute.
        """
        self.background = background
        self.branches = nn.ModuleList(
            Branch(
                count,
                self.feature_channels,
                widths,
                in_channels,
                feature_stride(self),
                self.new_head,
            )
            for count in organs
        )

    def all_branches(self) -> list[Branch]:
        """Return the branches, the newest one last."""
        return [branch for branch in self.branches if isinstance(branch, Branch)]

    def forward(self, image: Tensor) -> NetworkOutput:
        """Run the network with its first decoder.

        Args:
            image: Tensor (batch, in_channels, k, j, i); each size divisible by `divisor`.
        """
        return self.first_outputs(image, 1)[0]

    def outputs(self, image: Tensor) -> tuple[NetworkOutput, ...]:
        """Run all decoders, in training and in evaluation; `image` as in `forward`."""
        return self.first_outputs(image, self.decoder_count)

    def first_outputs(self, image: Tensor, count: int) -> tuple[NetworkOutput, ...]:
        """Run the first decoders; the features are those of the decoders themselves."""
        maps = self.encode(self.fold(image))
        features = [decoder(maps) for decoder in self.own_decoders()[:count]]
        return self.decode(image, maps, features, self.all_branches())

    def decode(
        self, image: Tensor, maps: Maps, features: Sequence[Tensor], branches: Sequence[Branch]
    ) -> tuple[NetworkOutput, ...]:
        """Run the last layers, and some branches, on what encoder and decoders gave for an image.

        Args:
            image: As in `forward`.
            maps: What `encode` gave for it.
            features: What each of the first decoders, or of all, made of the maps.
            branches: Whose organs come after the network's own.
        """
        folded, batch = self.fold(image), len(image)
        added = [branch(folded, (features[0], *maps)) for branch in branches]
        outputs = []
        for each, head in zip(features, self.own_heads(), strict=False):
            logits = self.own_logits(folded, each, head)
            if added:
                ground = logits[:, :1] if self.background else 0.0
                logits = torch.cat([logits, *(ground + further for further in added)], dim=1)
            outputs.append(NetworkOutput(self.unfold(logits, batch), self.unfold(each, batch)))
        return tuple(outputs)

    def added(self, image: Tensor, read: Maps, branch: Branch) -> Tensor:
        """Return a branch's logits (batch, organs, k, j, i), over the background's where there is one.

        Args:
            image: As in `forward`.
            read: What the branch reads; see `Branch.forward`.
            branch: Of this network.
        """
        return self.unfold(branch(self.fold(image), read), len(image))

    def own_logits(self, image: Tensor, features: Tensor, head: nn.Module) -> Tensor:
        """Run a decoder's last layer on its features; the image is folded."""
        logits: Tensor = head(features)
        return logits


def own_channels(out_channels: int, branches: Sequence[int]) -> int:
    """Return how many channels are left to the network's own decoders.

    Raises:
        ValueError: None are left, or a branch has none.
    """
    own = out_channels - sum(branches)
    if min(own, *branches, 1) < 1:
        msg = f"{out_channels} channels cannot be shared out among branches of {list(branches)}"
        raise ValueError(msg)
    return own
