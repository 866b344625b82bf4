"""Merge the layers of a 3D Slicer segmentation file into one label map.

Source: https://slicer.readthedocs.io/en/latest/developer_guide/modules/segmentations.html, section on the
segmentation file format.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from multiorganseg.errors import VolumeError

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
