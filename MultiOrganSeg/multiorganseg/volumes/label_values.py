"""Whole label values: from voxels as they are stored, and from the layers of a 3D Slicer segmentation.

Source of the format: https://slicer.readthedocs.io/en/latest/developer_guide/modules/segmentations.html
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from multiorganseg.errors import VolumeError
from multiorganseg.volumes.check import VolumeWarning

MAX_LABEL = 65535
_LABEL_VALUE = re.compile(r"Segment(\d+)_LabelValue")


def segment_value(text: str, path: Path) -> int:
    """Read a segment's label value.

    Raises:
        VolumeError: It is no whole number in 1…65535.
    """
    if not (text.isascii() and text.isdigit() and len(text) < 6 and 0 < int(text) <= MAX_LABEL):
        msg = f"{path.name} gives a segment an impossible label value."
        raise VolumeError(
            msg,
            cause=f"Its header says '{text[:60]}'; whole numbers in 1…{MAX_LABEL} are possible.",
            next_step="Save the segmentation again in 3D Slicer.",
        )
    return int(text)


def merge_layers(voxels: NDArray, pairs: Mapping[str, str], path: Path) -> NDArray:
    """Merge layers whose labels share neither a value nor a voxel.

    Args:
        voxels: Array (k, j, i, layer).
        pairs: The file's key-value pairs, of which `Segment0_LabelValue` and its like are read.
        path: Named in errors.

    Returns:
        Array (k, j, i).

    Raises:
        VolumeError: The file is no segmentation, a label value is impossible, two segments have one label
            value, or layers overlap.
    """
    stated = (value for key, value in pairs.items() if _LABEL_VALUE.fullmatch(key))
    values = Counter(segment_value(value, path) for value in stated)
    doubled = sorted(value for value, count in values.items() if count > 1)
    overlaps = int(np.count_nonzero(np.count_nonzero(voxels, axis=-1) > 1))
    if values and not doubled and not overlaps:
        return voxels.max(axis=-1)
    if not values:
        cause = "Its layers name no segments."
    elif doubled:
        cause = (
            f"Label value(s) {', '.join(map(str, doubled))} stand for several segments, in different layers."
        )
    else:
        cause = f"Segments overlap in {overlaps:,} voxels."
    msg = f"The {voxels.shape[-1]} layers of {path.name} cannot become one label map."
    raise VolumeError(
        msg,
        cause=cause,
        next_step="In 3D Slicer, export the segmentation to a label map and pass that.",
    )


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
