"""V-Net with one encoder and one or more decoders that differ in how they enlarge."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from multiorganseg.networks.branching import BranchingNetwork, InstanceNorm, Maps, add_skips, own_channels
from multiorganseg.networks.output import NetworkOutput

CONVOLUTIONS = (1, 2, 3, 3, 3)
DECODER_CONVOLUTIONS = (1, 2, 3, 3)
TRANSPOSED, NEAREST, TRILINEAR = "transposed", "nearest", "trilinear"
UPSAMPLINGS = (TRANSPOSED, NEAREST, TRILINEAR)
NORMALISATIONS = ("batch", "instance", "none")


class DecoderOutputs(NamedTuple):
    """What a network with several decoders gives back.

    Attributes:
        logits: Tensor (batch, channels, k, j, i) of the first decoder.
        features: Tensor (batch, features, k, j, i) of the first decoder, before its last layer.
        others: Of the other decoders, in training; empty in evaluation.
    """

    logits: Tensor
    features: Tensor
    others: tuple[NetworkOutput, ...] = ()


class VNet(BranchingNetwork):
    """V-Net without residual blocks whose skips are added (Su et al. 2024).

    Stages hold 1, 2, 3, 3 and 3 convolutions and double in width from one to the next. The decoders share the
    encoder. With the defaults and two decoders it is the published network: 12.348 M parameters, 9.449 M with
    the first decoder alone. In evaluation only the first decoder runs; `outputs` runs all.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the logits.
        n_filters: Width of the first stage.
        decoders: How each decoder enlarges: "transposed" (convolution), "nearest" or "trilinear" (followed by
            a convolution).
        stages: How many, from 2 to 5; the image is halved once less.
        normalisation: "batch", "instance" or "none".
        dropout: Probability with which a channel of the coarsest stage and of the last features is dropped
            in training.
        dimensions: 3, or 2 for slices, which are then the planes along k.
        branches: Organs of each branch; see `BranchingNetwork`.
        background: See `BranchingNetwork`.

    Attributes:
        divisor: What the sizes (k, j, i) of an image must be divisible by.
        feature_channels: Channels of the features.
        decoder_count: How many decoders there are.
        head: The first decoder's last layer.

    Raises:
        ValueError: An argument is unknown or out of range.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        n_filters: int = 16,
        decoders: Sequence[str] = (TRANSPOSED, NEAREST),
        stages: int = 5,
        normalisation: str = "batch",
        dropout: float = 0.5,
        dimensions: int = 3,
        branches: Sequence[int] = (),
        background: bool = True,
    ) -> None:
        super().__init__()
        _require("decoders", decoders and set(decoders) <= set(UPSAMPLINGS))
        _require("stages", stages in range(2, len(CONVOLUTIONS) + 1))
        _require("normalisation", normalisation in NORMALISATIONS)
        _require("dimensions", dimensions in (2, 3))
        flat = dimensions == 2
        widths = [n_filters * 2**stage for stage in range(stages)]
        self.stages = nn.ModuleList(
            _convolutions(
                in_channels if stage == 0 else width, width, CONVOLUTIONS[stage], flat, normalisation
            )
            for stage, width in enumerate(widths)
        )
        self.reductions = nn.ModuleList(
            _block(nn.Conv3d(fine, coarse, _size(2, flat), _size(2, flat)), normalisation)
            for fine, coarse in pairwise(widths)
        )
        self.decoders = nn.ModuleList(_Decoder(widths, how, flat, normalisation, dropout) for how in decoders)
        self.feature_channels = n_filters
        self.decoder_count = len(decoders)
        channels = own_channels(out_channels, branches)
        self.head = self.new_head(channels)
        self.other_heads = nn.ModuleList(self.new_head(channels) for _ in decoders[1:])
        self.dropout = nn.Dropout3d(dropout)
        self.divisor = _size(2 ** (stages - 1), flat)
        self.branch_off(branches, widths, in_channels, background)

    def forward(self, image: Tensor) -> DecoderOutputs:  # type: ignore[override]
        """Run the network: all decoders in training, the first one in evaluation.

        Args:
            image: Tensor (batch, in_channels, k, j, i); each size divisible by `divisor`.
        """
        first, *others = self.first_outputs(image, self.decoder_count if self.training else 1)
        return DecoderOutputs(first.logits, first.features, tuple(others))

    def fold(self, image: Tensor) -> Tensor:
        """Bring (batch, in_channels, k, j, i) to the memory layout in which convolutions are fastest."""
        return image.contiguous(memory_format=torch.channels_last_3d)

    def encode(self, image: Tensor) -> Maps:
        """Run the encoder on an image as `fold` gives it."""
        maps = []
        for stage, reduce in zip(self.stages, self.reductions, strict=False):
            maps.append(stage(image))
            image = reduce(maps[-1])
        return (*maps, self.dropout(self.stages[-1](image)))

    def own_decoders(self) -> Sequence[nn.Module]:
        """Return the decoders."""
        return list(self.decoders)

    def own_heads(self) -> Sequence[nn.Module]:
        """Return the last layer of each decoder."""
        return [self.head, *self.other_heads]


class _Decoder(nn.Module):
    def __init__(self, widths: list[int], how: str, flat: bool, normalisation: str, dropout: float) -> None:
        super().__init__()
        pairs = list(zip(widths, widths[1:], DECODER_CONVOLUTIONS, strict=False))[::-1]
        self.enlargements = nn.ModuleList(
            _enlargement(coarse, fine, how, flat, normalisation) for fine, coarse, _ in pairs
        )
        self.stages = nn.ModuleList(
            _convolutions(fine, fine, count, flat, normalisation) for fine, _, count in pairs
        )
        self.dropout = nn.Dropout3d(dropout)

    def forward(self, maps: Maps) -> Tensor:
        """Return the features on the image's grid from the maps of the encoder's stages."""
        features: Tensor = self.dropout(add_skips(maps, self.enlargements, self.stages))
        return features


def _enlargement(coarse: int, fine: int, how: str, flat: bool, normalisation: str) -> nn.Module:
    if how == TRANSPOSED:
        return _block(nn.ConvTranspose3d(coarse, fine, _size(2, flat), _size(2, flat)), normalisation)
    smooth = {"mode": "trilinear", "align_corners": False} if how == TRILINEAR else {"mode": "nearest"}
    enlarge = nn.Upsample(scale_factor=tuple(map(float, _size(2, flat))), **smooth)
    return nn.Sequential(enlarge, _convolutions(coarse, fine, 1, flat, normalisation))


def _convolutions(first: int, width: int, count: int, flat: bool, normalisation: str) -> nn.Sequential:
    kernel = _size(3, flat)
    padding = (0 if flat else 1, 1, 1)
    return nn.Sequential(
        *(
            _block(nn.Conv3d(width if number else first, width, kernel, padding=padding), normalisation)
            for number in range(count)
        )
    )


def _block(convolution: nn.Conv3d | nn.ConvTranspose3d, normalisation: str) -> nn.Sequential:
    width = convolution.out_channels
    norms = {"batch": nn.BatchNorm3d, "instance": InstanceNorm}
    norm = [norms[normalisation](width, affine=True)] if normalisation in norms else []
    return nn.Sequential(convolution, *norm, nn.ReLU(inplace=True))


def _size(size: int, flat: bool) -> tuple[int, int, int]:
    return (1 if flat else size, size, size)


def _require(name: str, holds: object) -> None:
    if not holds:
        msg = f"{name} is not one that a V-Net can have"
        raise ValueError(msg)
