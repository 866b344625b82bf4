"""Measure a run of the training on its cases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from multiorganseg.errors import TrainingError
from multiorganseg.organs.catalogue import load_catalogue
from multiorganseg.progress import Progress
from multiorganseg_training.cache import prepare_cases
from multiorganseg_training.cases import split_cases, training_cases
from multiorganseg_training.evaluation.options import Options, Split
from multiorganseg_training.evaluation.organ_result import OrganResult, measure_case
from multiorganseg_training.evaluation.predictor import run_predictor
from multiorganseg_training.evaluation.segment_case import largest_components, segment_case
from multiorganseg_training.features.trained_run import load_run
from multiorganseg_training.recipe import Recipe


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
        progress: Told of each case; cancels within a case too.

    Raises:
        TrainingError: The run has no checkpoint or no such classifier, the data do not fit, or there is no
            case.
        Cancelled: The user asked for it.
    """
    trained = load_run(run, options.weights.value)
    recipe = trained.recipe
    training, fold = split_cases(training_cases(data, recipe), recipe.data.validation)
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
    """Give the progress of one of several equal parts."""
    return Progress(lambda _, fraction: progress.report(stage, (number + fraction) / count), progress.token)
