"""Convolutions whose gradients are right in bfloat16 on a CPU where an image is thinner than the kernel."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

THIN_SINCE = 2


class ThinConvolution(nn.Conv3d):
    """A convolution that pads thin images by itself on a CPU.

    The CPU library's (oneDNN's) bfloat16 weight gradient of a padded 3D convolution is wrong, often by as
    much as its own size and at times infinite, when the image has at least two planes along k but fewer than
    the kernel. It is right for the same image with the planes of zeros already there.
    """

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        reach = (self.kernel_size[0] - 1) * self.dilation[0] + 1
        numbers = not isinstance(self.padding, str) and self.padding_mode == "zeros"
        if not numbers or input.device.type != "cpu" or not THIN_SINCE <= input.shape[-3] < reach:
            return super()._conv_forward(input, weight, bias)
        along_k, *others = (int(size) for size in self.padding)
        padded = functional.pad(input, (0, 0, 0, 0, along_k, along_k))
        return torch.conv3d(padded, weight, bias, self.stride, (0, *others), self.dilation, self.groups)


def guard_thin_convolutions(network: nn.Module) -> None:
    """Let every 3D convolution of a network, whose weights stay as they are, be a `ThinConvolution`."""
    for module in network.modules():
        if type(module) is nn.Conv3d:
            module.__class__ = ThinConvolution
