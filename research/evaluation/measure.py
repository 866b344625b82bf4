"""Measure a run of the training on its cases, and all that is measured of one organ in one case."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from multiorganseg.errors import TrainingError
from multiorganseg.metrics import evaluate, jaccard, slice_hausdorff, voxel_distances
from multiorganseg.metrics.report import MetricMean, mean_of
from multiorganseg.metrics.scores import ONLY_PREDICTION, ONLY_REFERENCE
from multiorganseg.organs.catalogue import load_catalogue
from multiorganseg.organs.labels import LabelTable
from multiorganseg.progress import Progress
from multiorganseg.volumes.volume import Grid
from multiorganseg_training.data.cache import prepare_cases
from multiorganseg_training.data.cases import split_cases, training_cases
from multiorganseg_training.recipe.recipe import Recipe
from multiorganseg_training.run.validate import (
    Options,
    Split,
    largest_components,
    load_run,
    run_predictor,
    segment_case,
)


@dataclass(frozen=True)
class OrganResult:
    """How well one organ was found; NaN where a value is not defined.

    Attributes:
        organ: Its key.
        presence: As in `OrganScore`: in both, only in reference (the prediction is empty), and so on.
        dice: In [0, 1]; 0 when only one side has voxels.
        jaccard: Likewise.
        nsd: Normalised surface distance in [0, 1]; likewise.
        hd95_mm: In mm, the larger of both directions; NaN unless both sides have voxels.
        asd_mm: Average symmetric surface distance in mm; likewise.
        hd95_voxels: As medpy measures it for the left atrium; see `voxel_distances`.
        asd_voxels: Likewise.
        hd_slice2d_ltuda: In pixels; see `slice_hausdorff`.
        slices: In the reference's range.
        slices_skipped: How many of them `hd_slice2d_ltuda` left out.
    """

    organ: str
    presence: str
    dice: float
    jaccard: float
    nsd: float
    hd95_mm: float
    asd_mm: float
    hd95_voxels: float
    asd_voxels: float
    hd_slice2d_ltuda: float
    slices: int
    slices_skipped: int


def measure_case(
    labels: NDArray[np.unsignedinteger],
    reference: NDArray[np.unsignedinteger],
    table: LabelTable,
    organs: Iterable[str],
    spacing_mm: tuple[float, float, float],
    tolerance_mm: float = 2.0,
) -> tuple[OrganResult, ...]:
    """Measure organs of a case on one grid.

    Args:
        labels: Predicted channels (k, j, i).
        reference: Annotated channels of the same shape.
        table: Meaning of both.
        organs: Keys of those that are annotated in the case.
        spacing_mm: Along (k, j, i).
        tolerance_mm: Of the normalised surface distance.

    Returns:
        One result an organ, in the order of the table.

    Raises:
        VolumeError: The shapes differ.
        OrganError: An organ is not in the table.
    """
    k, j, i = reference.shape
    grid = Grid((k, j, i), np.diag([*spacing_mm[::-1], 1.0]))
    results = []
    for score in evaluate(labels, table, reference, table, grid, tolerance_mm=tolerance_mm, organs=organs):
        values = load_catalogue().values_of(table, score.key)
        predicted, expected = _cropped(np.isin(labels, values), np.isin(reference, values))
        voxels, slices = voxel_distances(predicted, expected), slice_hausdorff(predicted, expected)
        results.append(
            OrganResult(
                organ=score.key,
                presence=score.presence,
                dice=score.dice,
                jaccard=jaccard(predicted, expected),
                nsd=score.nsd,
                hd95_mm=score.hd95_mm,
                asd_mm=score.average_surface_distance_mm,
                hd95_voxels=voxels.hd95,
                asd_voxels=voxels.asd,
                hd_slice2d_ltuda=slices.mean,
                slices=slices.slices,
                slices_skipped=slices.skipped,
            )
        )
    return tuple(results)


def _cropped(
    predicted: NDArray[np.bool_], expected: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    (box,) = ndimage.find_objects((predicted | expected).view(np.uint8)) or [(slice(0, 0),) * 3]
    return predicted[box], expected[box]


LTUDA_METRICS = ("dice", "hd_slice2d_ltuda")
METRICS = ("dice", "jaccard", "nsd", "hd95_mm", "asd_mm", "hd95_voxels", "asd_voxels")


@dataclass(frozen=True)
class OrganMeans:
    """Means of one organ over cases, or of the organs' means.

    Attributes:
        metrics: By name: all of `METRICS` and `LTUDA_METRICS`, each saying over how many values it was taken.
        cases: How many cases were measured.
        empty: In how many of them the prediction is empty and the reference is not; they count as 0 in Dice,
            Jaccard and NSD, and are in no distance.
        invented: In how many of them the reference is empty and the prediction is not.
        slices: From the first to the last one with the organ, of all cases.
        slices_skipped: How many of them `hd_slice2d_ltuda` left out.
    """

    metrics: Mapping[str, MetricMean]
    cases: int
    empty: int
    invented: int
    slices: int
    slices_skipped: int


def organ_means(cases: Mapping[str, tuple[OrganResult, ...]]) -> dict[str, OrganMeans]:
    """Average each organ over the cases in which it was measured, by organ key."""
    grouped: dict[str, list[OrganResult]] = {}
    for results in cases.values():
        for result in results:
            grouped.setdefault(result.organ, []).append(result)
    return {
        key: OrganMeans(
            {name: mean_of(getattr(result, name) for result in results) for name in _names()},
            len(results),
            sum(result.presence == ONLY_REFERENCE for result in results),
            sum(result.presence == ONLY_PREDICTION for result in results),
            sum(result.slices for result in results),
            sum(result.slices_skipped for result in results),
        )
        for key, results in grouped.items()
    }


def mean_over_organs(organs: Mapping[str, OrganMeans]) -> OrganMeans:
    """Average the organs' means, so that every organ counts the same; counts of cases are added up."""
    return OrganMeans(
        {name: mean_of(means.metrics[name].value for means in organs.values()) for name in _names()},
        sum(means.cases for means in organs.values()),
        sum(means.empty for means in organs.values()),
        sum(means.invented for means in organs.values()),
        sum(means.slices for means in organs.values()),
        sum(means.slices_skipped for means in organs.values()),
    )


def _names() -> tuple[str, ...]:
    return tuple(dict.fromkeys(METRICS + LTUDA_METRICS))


@dataclass(frozen=True)
class Evaluation:
    """What was measured of a run.

    Attributes:
        run: Its folder.
        recipe: Of the run.
        iteration: Of its checkpoint.
        options: How it was measured.
        cases: Results by case name, one for each organ that is annotated in the case.
    """

    run: Path
    recipe: Recipe
    iteration: int
    options: Options
    cases: Mapping[str, tuple[OrganResult, ...]]


def evaluate_run(
    run: Path, data: Path, cache: Path, device: torch.device, options: Options, progress: Progress
) -> Evaluation:
    """Segment the cases of a run's recipe and measure them, on the network's grid.

    Args:
        run: Folder of the run, with its checkpoint.
        data: Folder with images/ and labels/, or of a project.
        cache: Folder of prepared cases.
        device: Where to run.
        options: What of the run, and on which cases.
        progress: Reports of each case; cancels within a case too.

    Raises:
        TrainingError: The run has no checkpoint or no such classifier, the data do not fit, or there is no
            case.
        Cancelled: The user asked for it.
    """
    trained = load_run(run, options.weights.value)
    recipe = trained.recipe
    training, fold = split_cases(training_cases(data, recipe), recipe.data)
    chosen = [case for case in (fold if options.split is Split.VALIDATION else training) if case.known]
    if not chosen:
        msg = f"The {options.split.value} cases of '{recipe.name}' hold nothing to measure."
        raise TrainingError(
            msg,
            cause="No organ is annotated in them." if fold else "The recipe's data.validation is empty.",
            next_step="Train with a fold of annotated cases; --split training tells nothing of new cases.",
        )
    predictor = run_predictor(trained, options.classifier, device)
    table, catalogue, results = recipe.data.table, load_catalogue(), {}
    prepared = prepare_cases(chosen, cache, recipe.preprocessing, progress)
    for number, case in enumerate(prepared):
        within = _part(progress, f"measuring, {case.name}", number, len(prepared))
        labels = segment_case(predictor, case, recipe, device, within)
        if options.components:
            labels = largest_components(labels, recipe, catalogue)
        results[case.name] = measure_case(
            labels,
            case.labels,
            table,
            [table.organs[channel] for channel in sorted(case.known)],
            recipe.preprocessing.spacing_mm,
            options.tolerance_mm,
        )
    progress("measuring", 1.0)
    return Evaluation(run, recipe, trained.iteration, options, results)


def _part(progress: Progress, stage: str, number: int, count: int) -> Progress:
    """Return the progress of one of several equal parts."""
    return Progress(lambda _, fraction: progress.report(stage, (number + fraction) / count), progress.token)
