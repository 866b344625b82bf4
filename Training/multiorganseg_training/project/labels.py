"""Label values of a project's files: counted, renumbered, and brought to a network's channels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from multiorganseg.errors import TrainingError
from multiorganseg.projects.matrix import LABELLED, LabelStatus
from multiorganseg.projects.project import Project

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


def label_array(labels: NDArray) -> LabelArray:
    """Return label values the type that files of labels have.

    Args:
        labels: (k, j, i), whole numbers of any type.

    Returns:
        The values as uint8 where they allow it and as uint16 otherwise.

    Raises:
        TrainingError: The array has not three axes, or its values are no whole numbers in 0…65535.
    """
    whole = labels.dtype.kind in "biu" or bool(np.array_equal(labels, np.rint(labels)))
    low, high = (labels.min(), labels.max()) if labels.size else (0, 0)
    if labels.ndim != 3 or not (whole and low >= 0 and high < 65536):
        msg = "This is not a label map."
        raise TrainingError(
            msg,
            cause=f"It has {labels.ndim} axes and values from {low} to {high}.",
            next_step="Give whole numbers in 0…65535 along (k, j, i).",
        )
    dtype = np.uint8 if high < 256 else np.uint16
    return cast("LabelArray", labels.astype(dtype, copy=False))


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


def status_problem(status: LabelStatus, voxels: int) -> str:
    """Return what is wrong between a status and the number of labelled voxels; empty when nothing is."""
    if voxels and status not in LABELLED:
        return f"It is {status.value}, but labelled."
    if not voxels and status is LabelStatus.ANNOTATED:
        return "It is annotated, but no voxel is labelled: absent?"
    return ""


def require_voxels(
    project: Project, case: str, counts: Mapping[int, int], organs: Iterable[str] | None = None
) -> None:
    """Refuse statuses that contradict the voxels.

    Args:
        project: With the statuses.
        case: Name of the case.
        counts: Number of voxels by the project's label value.
        organs: Organ keys to look at; None for all.

    Raises:
        TrainingError: An annotated organ has no voxel, or one that is absent or unknown has some.
    """
    row = project.matrix.rows[case]
    problems = [
        f"{organ}: {problem}" + (f" ({counts[value]} voxels)" if counts.get(value) else "")
        for value, organ in project.table.organs.items()
        if organs is None or organ in organs
        if (problem := status_problem(row[organ], counts.get(value, 0)))
    ]
    if problems:
        msg = f"What is said of the case '{case}' contradicts its labels."
        raise TrainingError(
            msg,
            cause=" ".join(problems),
            next_step="Say that an organ with voxels is annotated, or pseudo if nobody corrected it, and one "
            "without absent or unknown.",
        )
