"""Which prediction belongs to which reference, and how well they agree."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from multiorganseg.errors import VolumeError
from multiorganseg.geometry.lattice import grid_with, shared_lattice
from multiorganseg.geometry.resample import restore_labels_nearest
from multiorganseg.metrics.scores import OrganScore, evaluate, shared_organs
from multiorganseg.organs.labels import LabelTable
from multiorganseg.results.nifti import read_label_table
from multiorganseg.volumes.names import IMAGE_SUFFIXES, RESULT_SUFFIXES, case_name, volume_suffix
from multiorganseg.volumes.read import read_labels
from multiorganseg.volumes.volume import Grid, Volume

PREFERENCE = (*RESULT_SUFFIXES, *IMAGE_SUFFIXES)


@dataclass(frozen=True)
class CasePairs:
    """Files of two folders matched by case name.

    Attributes:
        matched: Prediction and reference by case name, sorted by name.
        without_prediction: Case names that only the reference has.
        without_reference: Case names that only the prediction has.
    """

    matched: dict[str, tuple[Path, Path]]
    without_prediction: tuple[str, ...]
    without_reference: tuple[str, ...]


def pair_cases(prediction: Path, reference: Path) -> CasePairs:
    """Match two files, or the label maps of two folders by name without suffix.

    When a folder holds one case in several formats, the first of `PREFERENCE` is taken: a segmentation by
    its name wins over a file that may be the image.

    Raises:
        VolumeError: A path does not exist, a file is set against a folder, or no case name is in both.
    """
    for path in (prediction, reference):
        if not path.exists():
            msg = f"{path} does not exist."
            raise VolumeError(msg, next_step="Check the path.")
    if prediction.is_dir() != reference.is_dir():
        msg = "One path is a file and the other a folder."
        raise VolumeError(
            msg,
            next_step="Give two label-map files, or two folders with files of the same names.",
        )
    if not prediction.is_dir():
        return CasePairs({case_name(reference.name): (prediction, reference)}, (), ())
    predicted, expected = _cases(prediction), _cases(reference)
    names = sorted(predicted.keys() & expected.keys())
    if not names:
        msg = f"No case name is in both {prediction} and {reference}."
        raise VolumeError(
            msg,
            cause=f"{_some(predicted)} against {_some(expected)}.",
            next_step="Name the files of one case alike; only the suffix may differ.",
        )
    return CasePairs(
        matched={name: (predicted[name], expected[name]) for name in names},
        without_prediction=tuple(sorted(expected.keys() - predicted.keys())),
        without_reference=tuple(sorted(predicted.keys() - expected.keys())),
    )


def _cases(folder: Path) -> dict[str, Path]:
    files = {path: volume_suffix(path.name).lower() for path in folder.iterdir() if path.is_file()}
    label_maps = [path for path, suffix in files.items() if suffix in PREFERENCE]
    label_maps.sort(key=lambda path: PREFERENCE.index(files[path]), reverse=True)
    return {case_name(path.name): path for path in label_maps}


def _some(cases: dict[str, Path]) -> str:
    if not cases:
        return "no label map"
    names = sorted(cases)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


SAME_GRID_MM = 0.01
MAX_JOINT_VOXELS = 2**30


@dataclass(frozen=True)
class Comparison:
    """How a comparison of label maps is to be made.

    Attributes:
        prediction_table: Meaning of the predictions' values; None to read the table of each file.
        reference_table: Meaning of the references' values; None to read the table of each file.
        tolerance_mm: Tolerance of the normalised surface distance in mm.
        merge: See `multiorganseg.metrics.shared_organs`.
        organs: Organ keys to score; None for all that are shared.
        resample: Whether a prediction on another grid is brought onto the reference's (nearest neighbour).
    """

    prediction_table: LabelTable | None = None
    reference_table: LabelTable | None = None
    tolerance_mm: float = 2.0
    merge: Mapping[str, tuple[str, ...]] | None = None
    organs: tuple[str, ...] | None = None
    resample: bool = False


@dataclass(frozen=True)
class CaseScores:
    """Scores of one case.

    Attributes:
        prediction: File of the prediction.
        reference: File of the reference.
        scores: One entry for each organ compared.
        not_compared: Organ keys that only one of the label tables has.
        resampled: Whether the prediction was brought onto the reference's grid by interpolation.
        extended: Whether the prediction has labels outside the reference's image, which count as wrong.
    """

    prediction: Path
    reference: Path
    scores: tuple[OrganScore, ...]
    not_compared: tuple[str, ...]
    resampled: bool
    extended: bool


def compare_files(prediction: Path, reference: Path, comparison: Comparison) -> CaseScores:
    """Score the prediction in one file against the reference in another.

    What either of the two labels counts, also outside of the image of the other. Files with the same voxel
    centres, in whatever order of axes and extent, need no resampling.

    Raises:
        VolumeError: A file cannot be read, or the grids differ and `resample` is off.
        OrganError: A label table is missing or wrong, or the tables share no organ.
    """
    prediction_table = comparison.prediction_table or read_label_table(prediction)
    reference_table = comparison.reference_table or read_label_table(reference)
    predicted, expected = read_labels(prediction), read_labels(reference)
    labels, wanted, grid = predicted.voxels, expected.voxels, expected.grid
    same = predicted.grid.same_as(grid, SAME_GRID_MM)
    is_exact = same or shared_lattice(predicted.grid, grid) is not None
    if not is_exact and not comparison.resample:
        msg = f"{prediction.name} and {reference.name} lie on different grids."
        raise VolumeError(
            msg,
            cause=_difference(predicted.grid, expected.grid),
            next_step="Pass --resample to bring the prediction onto the reference's grid.",
        )
    if not same:
        grid, wanted = _joint(predicted, expected)
        labels = restore_labels_nearest(labels, predicted.grid, grid)
    scores = evaluate(
        labels,
        prediction_table,
        wanted,
        reference_table,
        grid,
        tolerance_mm=comparison.tolerance_mm,
        merge=comparison.merge,
        organs=comparison.organs,
    )
    return CaseScores(
        prediction=prediction,
        reference=reference,
        scores=scores,
        not_compared=_not_compared(prediction_table, reference_table, comparison.merge),
        resampled=not is_exact,
        extended=grid.shape != expected.grid.shape,
    )


def _joint(predicted: Volume, expected: Volume) -> tuple[Grid, NDArray[np.unsignedinteger]]:
    """Extend the reference until it holds all that was predicted."""
    grid, before = grid_with(expected.grid, predicted.voxels, predicted.grid)
    if np.prod(grid.shape, dtype=float) > MAX_JOINT_VOXELS:
        msg = f"{Path(predicted.source).name} and {Path(expected.source).name} lie far apart."
        raise VolumeError(
            msg,
            cause=f"A grid that holds both has {' × '.join(map(str, grid.shape))} voxels.",
            next_step="Check that they belong to one image.",
        )
    after = [
        size - first - own for size, first, own in zip(grid.shape, before, expected.grid.shape, strict=True)
    ]
    return grid, np.pad(expected.voxels, list(zip(before, after, strict=True)))


def _difference(prediction: Grid, reference: Grid) -> str:
    if prediction.shape != reference.shape:
        return f"The prediction has {prediction.shape} voxels (k, j, i), the reference {reference.shape}."
    return "They have the same number of voxels, at different places in the patient."


def _not_compared(
    prediction_table: LabelTable,
    reference_table: LabelTable,
    merge: Mapping[str, tuple[str, ...]] | None,
) -> tuple[str, ...]:
    shared = shared_organs(prediction_table, reference_table, merge)
    used = {*shared, *(part for key in shared for part in (merge or {}).get(key, ()))}
    return tuple(
        key for key in dict.fromkeys(prediction_table.keys + reference_table.keys) if key not in used
    )
