"""Features on the grid of the labels."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional

MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}


def on_grid(features: Tensor, space: Sequence[int]) -> Tensor:
    """Interpolate features linearly to a finer grid over the same field; those on it are given back as is.

    Args:
        features: (batch, channels, *coarse), of one to three dimensions.
        space: Shape of the grid wanted.

    Returns:
        (batch, channels, *space), of the same type.
    """
    if features.shape[2:] == tuple(space):
        return features
    return functional.interpolate(features, size=tuple(space), mode=MODES[len(space)], align_corners=False)
