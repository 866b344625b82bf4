"""What the arguments of `NnUNet` may be, checked before a network of that size is built."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

STAGES = (2, 9)
WIDTH = (1, 1024)
KERNEL = (1, 7)
BLOCKS = (1, 16)
CHANNELS = (1, 1024)
MOST_PARAMETERS = 700_000_000


@dataclass(frozen=True)
class NnUNetArguments:
    """Arguments of `multiorganseg.networks.nnunet.NnUNet`; see there.

    Raises:
        ValueError: One is out of its range, or all together make a network that is too large.
    """

    in_channels: int
    out_channels: int
    filters: Sequence[int]
    kernels: Sequence[Sequence[int]]
    strides: Sequence[Sequence[int]]
    encoder: Sequence[int]
    decoder: Sequence[int]
    residual: bool = False

    def __post_init__(self) -> None:
        """Check all of them."""
        _within("in_channels", [self.in_channels], CHANNELS)
        _within("out_channels", [self.out_channels], CHANNELS)
        stages = len(self.filters)
        _within("the number of stages", [stages], STAGES)
        _within("filters", self.filters, WIDTH)
        _within("encoder", self.encoder, BLOCKS)
        _within("decoder", self.decoder, BLOCKS)
        lengths = (len(self.kernels), len(self.strides), len(self.encoder), len(self.decoder) + 1)
        if lengths != (stages,) * 4:
            message = f"kernels, strides, encoder and decoder do not fit {stages} stages"
            raise ValueError(message)
        for name, values, limits in (("kernels", self.kernels, KERNEL), ("strides", self.strides, (1, 2))):
            for value in values:
                if len(value) != self.dims or self.dims not in (2, 3):
                    message = f"{name} must have two or three numbers each, all the same"
                    raise ValueError(message)
                _within(name, value, limits)
        if any(size % 2 == 0 for kernel in self.kernels for size in kernel):
            message = "kernels must be odd"
            raise ValueError(message)
        if type(self.residual) is not bool:
            message = "residual must be true or false"
            raise ValueError(message)
        if self.parameters > MOST_PARAMETERS:
            message = f"the network would have {self.parameters:,} parameters, more than {MOST_PARAMETERS:,}"
            raise ValueError(message)

    @property
    def dims(self) -> int:
        """Dimensions: 2 or 3."""
        return len(self.kernels[0])

    @property
    def divisor(self) -> tuple[int, ...]:
        """What the sizes (k, j, i) of an image must be divisible by."""
        steps = [math.prod(stride[axis] for stride in self.strides) for axis in range(self.dims)]
        return (*[1] * (3 - self.dims), *steps)

    @property
    def parameters(self) -> int:
        """Number of weights of the convolutions, which nearly all are."""
        total, width = 0, self.in_channels
        for filters, kernel, count in zip(self.filters, self.kernels, self.encoder, strict=True):
            layers = 2 * count if self.residual else count
            total += math.prod(kernel) * filters * (width + (layers - 1) * filters)
            width = filters
        for level, count in zip(range(len(self.filters) - 1, 0, -1), self.decoder, strict=True):
            fine = self.filters[level - 1]
            total += math.prod(self.strides[level]) * self.filters[level] * fine
            total += math.prod(self.kernels[level - 1]) * fine * fine * (count + 1)
        return total


def _within(name: str, values: Sequence[int], limits: tuple[int, int]) -> None:
    if isinstance(values, str) or not all(
        type(value) is int and limits[0] <= value <= limits[1] for value in values
    ):
        message = f"{name} must be whole numbers in {limits[0]}…{limits[1]}, not {values}"
        raise ValueError(message)
