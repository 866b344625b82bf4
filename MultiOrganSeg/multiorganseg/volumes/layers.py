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

_LABEL_VALUE = re.compile(r"Segment(\d+)_LabelValue")


def merge_layers(voxels: NDArray, pairs: Mapping[str, str], path: Path) -> NDArray:
    """Merge layers whose labels share neither a value nor a voxel.

    Args:
        voxels: Array (k, j, i, layer).
        pairs: The file's key-value pairs, of which `Segment0_LabelValue` and its like are read.
        path: Named in errors.

    Returns:
        Array (k, j, i).

    Raises:
        VolumeError: The file is no segmentation, two segments have one label value, or layers overlap.
    """
    values = Counter(int(value) for key, value in pairs.items() if _LABEL_VALUE.fullmatch(key))
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
