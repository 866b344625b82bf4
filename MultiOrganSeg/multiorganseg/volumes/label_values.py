"""From voxels as they are stored to whole label values."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from multiorganseg.errors import VolumeError
from multiorganseg.volumes.check import VolumeWarning
from multiorganseg.volumes.layers import MAX_LABEL

_NEAR = 0.05
_NOISE = 1e-3


def label_values(voxels: NDArray, path: Path, slope: float = 1.0) -> NDArray[np.unsignedinteger]:
    """Return label values, rounded where it is certain which ones are meant.

    Values are rounded, with a warning, when each lies within 0.05 of a whole number (0.988, 3.012), or when
    the header's slope below 1 explains the distance and no two values become one: so come labels back that a
    program stored as scaled 8-bit numbers.

    Args:
        voxels: Any real array.
        path: Named in messages.
        slope: Factor by which the file scales its stored values.

    Returns:
        uint8 or uint16.

    Raises:
        VolumeError: Values are no whole numbers in 0…65535.
    """
    low, high = voxels.min(), voxels.max()
    if low < -_NEAR or high > MAX_LABEL + _NEAR or not np.isfinite([low, high]).all():
        raise _no_labels(path, low, high, slope)
    dtype = np.uint8 if high < 255.5 else np.uint16
    if voxels.dtype.kind in "iu":
        return voxels.astype(dtype, copy=False)
    values = np.zeros(0)
    for plane in voxels:
        values = np.union1d(values, plane)
        if values.size > 2 * MAX_LABEL:
            raise _no_labels(path, low, high, slope)
    whole = np.rint(values)
    apart = float(np.abs(values - whole).max())
    explained = 0 < slope < 1 and apart <= 0.51 * slope and np.unique(whole).size == values.size
    if apart > _NEAR and not explained:
        raise _no_labels(path, low, high, slope)
    if apart > _NOISE:
        _warn(values[np.abs(values - whole) > _NOISE], path, slope)
    labels = np.empty(voxels.shape, dtype)
    for plane, target in zip(voxels, labels, strict=True):
        target[...] = np.rint(plane)
    return labels


def _no_labels(path: Path, low: float, high: float, slope: float) -> VolumeError:
    scaled = f" Its header scales the stored values by {slope:.6g} (scl_slope)." if slope != 1 else ""
    return VolumeError(
        f"{path} is not a label map.",
        cause=f"Its values from {low:g} to {high:g} are not all whole numbers in 0…{MAX_LABEL}.{scaled}",
        next_step="Save the labels as whole numbers without scaling."
        if scaled
        else "Choose the segmentation, not the image.",
    )


def _warn(values: NDArray[np.floating], path: Path, slope: float) -> None:
    shown = ", ".join(f"{value:.4g} to {np.rint(value):g}" for value in values[:3])
    scaled = f"; its header scales the stored values by {slope:.6g} (scl_slope)" if slope != 1 else ""
    warnings.warn(
        f"{path.name} has label values that are no whole numbers{scaled}. They were rounded: {shown}.",
        VolumeWarning,
        stacklevel=2,
    )
