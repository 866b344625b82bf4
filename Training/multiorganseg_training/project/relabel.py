"""Give label values another meaning's number, plane by plane."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from multiorganseg.errors import TrainingError

LabelArray = NDArray[np.uint8] | NDArray[np.uint16]


def count_values(labels: LabelArray) -> dict[int, int]:
    """Count the voxels of each value, background included.

    Args:
        labels: (k, j, i), uint8 or uint16.

    Returns:
        Number of voxels by value, only of values that occur, in ascending order.
    """
    size = int(np.iinfo(labels.dtype).max) + 1
    counts = np.zeros(size, np.int64)
    for plane in labels:
        counts += np.bincount(plane.ravel(), minlength=size)
    return {int(value): int(counts[value]) for value in np.flatnonzero(counts)}


def relabel(labels: LabelArray, values: Mapping[int, int], source: Path) -> LabelArray:
    """Replace label values; background stays 0.

    Args:
        labels: (k, j, i), uint8 or uint16.
        values: New value in 0…65535 for each value that may occur.
        source: File that the labels came from, for the error.

    Returns:
        A new array of the same shape, uint8 where the new values allow it and uint16 otherwise.

    Raises:
        TrainingError: A value occurs that `values` does not name.
    """
    counts = count_values(labels)
    counts.pop(0, None)
    undeclared = [f"{value} ({counts[value]} voxels)" for value in counts if value not in values]
    if undeclared:
        msg = f"{source} holds label values that nothing gives a meaning."
        raise TrainingError(
            msg,
            cause=f"Undeclared: {', '.join(undeclared)}.",
            next_step="Name them in the dataset's label table, or correct the file.",
        )
    dtype = np.uint8 if max(values.values(), default=0) < 256 else np.uint16
    lookup = np.zeros(int(np.iinfo(labels.dtype).max) + 1, dtype)
    for value in counts:
        lookup[value] = values[value]
    result = np.empty(labels.shape, dtype)
    for old, new in zip(labels, result, strict=True):
        np.take(lookup, old, out=new)
    return result
