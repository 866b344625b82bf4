"""Memory that a method needs at least, computed from the shapes alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

GIB = 2**30
PROCESS_BYTES = 0.6 * GIB

Shape = tuple[int, int, int]


def network_shape(shape: Sequence[int], spacing: Sequence[float], target: Sequence[float]) -> Shape:
    """Voxels (k, j, i) of the network's grid when a whole volume is resampled to `target` mm."""
    k, j, i = (max(1, round(n * s / t)) for n, s, t in zip(shape, spacing, target, strict=True))
    return k, j, i


def plain_bytes(channels: int, network: Sequence[int], full: Sequence[int]) -> float:
    """Peak of the plain way: float32 logits on both grids while they are interpolated, then the argmax.

    The interpreter with its libraries counts 0.6 GiB; the CT itself is left out.
    """
    full_logits = 4.0 * channels * math.prod(full)
    interpolating = full_logits + 4.0 * channels * math.prod(network)
    choosing = full_logits + 8.0 * math.prod(full)
    return PROCESS_BYTES + max(interpolating, choosing)


def nnunet_bytes(channels: int, network: Sequence[int], full: Sequence[int]) -> float:
    """Peak of nnU-Net's export: half-precision logits, their float64 copy and the half-precision result."""
    return PROCESS_BYTES + channels * ((2.0 + 8.0) * math.prod(network) + 2.0 * math.prod(full))
