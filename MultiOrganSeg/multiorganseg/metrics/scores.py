"""Scores of every organ that a prediction and a reference share, matched by organ key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from multiorganseg.errors import OrganError, VolumeError
from multiorganseg.metrics.overlap import dice, volume_error_percent
from multiorganseg.metrics.surface import normalized_surface_distance, surface_distances
from multiorganseg.organs.catalogue import load_catalogue
from multiorganseg.organs.labels import LabelTable
from multiorganseg.volumes.volume import Grid

BOTH = "in both"
ONLY_REFERENCE = "only in reference"
ONLY_PREDICTION = "only in prediction"
ABSENT = "absent in both"

Box = tuple[slice, ...]


@dataclass(frozen=True)
class OrganScore:
    """How well the prediction of one organ agrees with its reference.

    Attributes:
        key: Organ key.
        presence: `BOTH`, `ONLY_REFERENCE` (missed), `ONLY_PREDICTION` (invented) or `ABSENT`. It tells why a
            value below is NaN.
        dice: Dice in [0, 1]; 0 when only one side has voxels, NaN when none has.
        nsd: Normalised surface distance in [0, 1]; 0 and NaN as for Dice.
        hd95_mm: 95th percentile of the Hausdorff distance in mm; NaN unless both sides have voxels.
        average_surface_distance_mm: Average symmetric surface distance in mm; NaN unless both have voxels.
        volume_error_percent: Signed volume error in per cent; NaN when the reference has no voxel.
        prediction_ml: Volume of the prediction in millilitres.
        reference_ml: Volume of the reference in millilitres.
    """

    key: str
    presence: str
    dice: float
    nsd: float
    hd95_mm: float
    average_surface_distance_mm: float
    volume_error_percent: float
    prediction_ml: float
    reference_ml: float


def shared_organs(
    prediction_table: LabelTable,
    reference_table: LabelTable,
    merge: Mapping[str, tuple[str, ...]] | None = None,
) -> dict[str, tuple[tuple[int, ...], tuple[int, ...]]]:
    """Find the organs that both tables can express.

    What the catalogue says lies within an organ belongs to it: a tumour of the liver that one table has and
    the other has not is no hole in the liver.

    Args:
        prediction_table: Meaning of the prediction's values.
        reference_table: Meaning of the reference's values.
        merge: Organ keys that are unions of others, such as `{"kidneys": ("kidney_left", "kidney_right")}`.
            A side that has the key itself keeps it, a side that has all the parts joins them. The parts
            are still compared one by one where both sides have them.

    Returns:
        For each shared organ key, in the order of the reference: the label values of the prediction and
        those of the reference that make it up.
    """
    merge = merge or {}
    candidates = [*reference_table.keys, *(key for key in merge if key not in reference_table.keys)]
    shared = {}
    for key in candidates:
        values = [_values(table, key, merge) for table in (prediction_table, reference_table)]
        if all(values):
            shared[key] = (values[0], values[1])
    return shared


def evaluate(
    prediction: NDArray[np.integer],
    prediction_table: LabelTable,
    reference: NDArray[np.integer],
    reference_table: LabelTable,
    grid: Grid,
    *,
    tolerance_mm: float = 2.0,
    merge: Mapping[str, tuple[str, ...]] | None = None,
    organs: Iterable[str] | None = None,
) -> tuple[OrganScore, ...]:
    """Score every organ that both label tables can express.

    Args:
        prediction: Label values (k, j, i).
        prediction_table: Meaning of the prediction's values.
        reference: Label values of the same shape.
        reference_table: Meaning of the reference's values; its numbers need not be the prediction's.
        grid: The lattice on which both lie.
        tolerance_mm: Tolerance of the normalised surface distance in mm.
        merge: See `shared_organs`.
        organs: Organ keys to score; None for all that are shared.

    Returns:
        One score for each organ, in the order of the reference's table.

    Raises:
        VolumeError: A label map is not of the grid's shape.
        OrganError: The tables share no organ, or one that was asked for is not shared.
    """
    for name, labels in (("prediction", prediction), ("reference", reference)):
        if labels.shape != grid.shape:
            msg = f"The {name} has {labels.shape} voxels, the grid {grid.shape}."
            raise VolumeError(
                msg,
                next_step="Resample one label map onto the grid of the other.",
            )
    shared = _selected(shared_organs(prediction_table, reference_table, merge), organs)
    boxes = ndimage.find_objects(prediction), ndimage.find_objects(reference)
    return tuple(
        _score(key, prediction, reference, values, boxes, grid, tolerance_mm)
        for key, values in shared.items()
    )


def _values(table: LabelTable, key: str, merge: Mapping[str, tuple[str, ...]]) -> tuple[int, ...]:
    if key in table.keys:
        return load_catalogue().values_of(table, key)
    parts = merge.get(key, ())
    return tuple(table.value(part) for part in parts) if all(part in table.keys for part in parts) else ()


def _selected(
    shared: dict[str, tuple[tuple[int, ...], tuple[int, ...]]], organs: Iterable[str] | None
) -> dict[str, tuple[tuple[int, ...], tuple[int, ...]]]:
    if not shared:
        msg = "Prediction and reference have no organ in common."
        raise OrganError(
            msg,
            cause="Organs are matched by key through the two label tables.",
            next_step="Check the label tables; the keys are those of `organs.json`.",
        )
    if organs is None:
        return shared
    wanted = list(organs)
    unknown = [key for key in wanted if key not in shared]
    if unknown:
        msg = f"Not in both label tables: {', '.join(unknown)}."
        raise OrganError(
            msg,
            next_step=f"Choose among: {', '.join(shared)}.",
        )
    return {key: values for key, values in shared.items() if key in wanted}


def _score(
    key: str,
    prediction: NDArray[np.integer],
    reference: NDArray[np.integer],
    values: tuple[tuple[int, ...], tuple[int, ...]],
    boxes: tuple[list[Box | None], list[Box | None]],
    grid: Grid,
    tolerance_mm: float,
) -> OrganScore:
    box = _joint_box(values, boxes)
    masks = [
        np.isin(labels[box], numbers) for labels, numbers in zip((prediction, reference), values, strict=True)
    ]
    counts = [int(np.count_nonzero(mask)) for mask in masks]
    distances = surface_distances(masks[0], masks[1], grid.spacing)
    presence = {
        (True, True): BOTH,
        (False, True): ONLY_REFERENCE,
        (True, False): ONLY_PREDICTION,
        (False, False): ABSENT,
    }[counts[0] > 0, counts[1] > 0]
    return OrganScore(
        key=key,
        presence=presence,
        dice=dice(masks[0], masks[1]),
        nsd=normalized_surface_distance(masks[0], masks[1], grid.spacing, tolerance_mm),
        hd95_mm=distances.hd95,
        average_surface_distance_mm=distances.average,
        volume_error_percent=volume_error_percent(masks[0], masks[1]),
        prediction_ml=counts[0] * grid.voxel_volume / 1000.0,
        reference_ml=counts[1] * grid.voxel_volume / 1000.0,
    )


def _joint_box(
    values: tuple[tuple[int, ...], tuple[int, ...]], boxes: tuple[list[Box | None], list[Box | None]]
) -> Box:
    """The smallest box that holds the organ on both sides; an empty one when it is nowhere."""
    found = [
        box
        for numbers, by_value in zip(values, boxes, strict=True)
        for value in numbers
        if value <= len(by_value) and (box := by_value[value - 1]) is not None
    ]
    if not found:
        return (slice(0, 0),) * 3
    return tuple(
        slice(min(each.start for each in axis), max(each.stop for each in axis))
        for axis in zip(*found, strict=True)
    )
