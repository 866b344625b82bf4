"""Intensities as the networks see them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from multiorganseg.bundles.original import Intensity

AIR = -1.0


def map_window(voxels: NDArray[np.float32], window: tuple[float, float]) -> NDArray[np.float32]:
    """Clip to a window and map it linearly to [−1, 1].

    Args:
        voxels: Array of any shape, in HU for CT; left unchanged.
        window: Lower and upper end.
    """
    low, high = window
    mapped = np.clip(voxels, low, high)
    mapped -= low
    mapped *= 2 / (high - low)
    mapped -= 1
    return mapped


def zscore(voxels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Subtract the mean of the volume and divide by its standard deviation."""
    return (voxels - voxels.mean()) / max(float(voxels.std()), 1e-6)


SMALLEST_DEVIATION = 1e-8


def normalise(
    voxels: NDArray[np.float32], intensity: Intensity, inside: NDArray[np.bool_] | None = None
) -> NDArray[np.float32]:
    """Normalise one channel.

    Args:
        voxels: Array of any shape; left unchanged.
        intensity: How.
        inside: What counts for a `masked` "zscore"; else what is not 0.
    """
    said = intensity.values
    if intensity.kind == "clip_zscore":
        clipped = np.clip(voxels, np.float32(said["low"]), np.float32(said["high"]))
        clipped -= np.float32(said["mean"])
        clipped /= np.float32(max(said["std"], SMALLEST_DEVIATION))
        return clipped
    if intensity.kind == "zscore":
        return _zscore(voxels, (voxels != 0 if inside is None else inside) if said["masked"] else None)
    if intensity.kind == "zscore_minmax":
        voxels = normalise(voxels, Intensity("zscore", {"masked": said["masked"]}), inside)
    if intensity.kind in ("minmax", "zscore_minmax"):
        low, high = float(voxels.min()), float(voxels.max())
        return _map(voxels, (low, max(high, low + SMALLEST_DEVIATION)), (said["to_low"], said["to_high"]))
    if intensity.kind == "range":
        to = (said["to_low"], said["to_high"])
        mapped = _map(voxels, (said["from_low"], said["from_high"]), to)
        return np.clip(mapped, min(to), max(to)) if said["clip"] else mapped
    if intensity.kind == "range_sigmoid":
        mapped = _map(voxels, (said["from_low"], said["from_high"]), (-1.0, 1.0))
        return (1 / (1 + np.exp(-mapped, dtype=np.float32))).astype(np.float32)
    if intensity.kind == "scale":
        return voxels * np.float32(said["factor"])
    return voxels.astype(np.float32)


def darkest(intensity: Intensity) -> float | None:
    """Return what all values below the network's range become; None when there is no such value."""
    said = intensity.values
    if intensity.kind == "clip_zscore":
        return (said["low"] - said["mean"]) / max(said["std"], SMALLEST_DEVIATION)
    if intensity.kind == "range" and said["clip"] and said["to_low"] < said["to_high"]:
        return said["to_low"]
    return None


def seen_window(intensity: Intensity) -> tuple[float, float] | None:
    """Return the lower and upper end of what a network can tell apart; None when nothing is cut off."""
    said = intensity.values
    if intensity.kind == "clip_zscore":
        return said["low"], said["high"]
    if intensity.kind == "range" and said["clip"]:
        return said["from_low"], said["from_high"]
    return None


def _zscore(voxels: NDArray[np.float32], inside: NDArray[np.bool_] | None) -> NDArray[np.float32]:
    chosen = voxels if inside is None else voxels[inside]
    if not chosen.size:
        return voxels.astype(np.float32)
    scaled = (voxels - chosen.mean()) / max(float(chosen.std()), SMALLEST_DEVIATION)
    return (scaled if inside is None else np.where(inside, scaled, voxels)).astype(np.float32)


def _map(
    voxels: NDArray[np.float32], source: tuple[float, float], target: tuple[float, float]
) -> NDArray[np.float32]:
    mapped = (voxels - np.float32(source[0])) / np.float32(source[1] - source[0])
    return (mapped * np.float32(target[1] - target[0]) + np.float32(target[0])).astype(np.float32)
