"""What networks give back."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class NetworkOutput(NamedTuple):
    """What every network of the project gives back.

    Attributes:
        logits: Tensor (batch, channels, k, j, i) on the input's grid.
        features: Tensor (batch, features, k', j', i') before the last layer, on the input's grid or on a
            coarser one that the last layer refines.
    """

    logits: Tensor
    features: Tensor
