"""The features of one run or of several, on the same voxels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from multiorganseg.errors import OptionError, TrainingError
from multiorganseg.progress import Progress
from multiorganseg_training.cache import PreparedCase, prepare_cases
from multiorganseg_training.cases import split_cases, training_cases
from multiorganseg_training.features.collect import collect_features
from multiorganseg_training.features.pixels import LABELLED, UNLABELLED, Pixels, choose_pixels
from multiorganseg_training.features.plane import PCA, TSNE
from multiorganseg_training.features.trained_run import AVERAGED, LAST, TrainedRun, load_run
from multiorganseg_training.features.variance import Spread, measure_spread
from multiorganseg_training.recipe import Recipe

NETWORK, PROJECTED = "network", "projected"


@dataclass(frozen=True)
class Settings:
    """What is looked at, and how.

    Attributes:
        pixels: Of each organ in each group at most.
        fold: Whether the validation fold is a group too.
        space: "network": the network's last features; "projected": the embedding in which the prototypes
            live, for the runs that have prototypes.
        weights: "averaged" or "last".
        method: Of the picture: "pca" or "tsne".
        seed: Of the choice of pixels and of t-SNE.
    """

    pixels: int = 2000
    fold: bool = False
    space: str = NETWORK
    weights: str = AVERAGED
    method: str = PCA
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the choices.

        Raises:
            OptionError: One does not exist.
        """
        for name, known in (
            ("space", (NETWORK, PROJECTED)),
            ("weights", (AVERAGED, LAST)),
            ("method", (PCA, TSNE)),
        ):
            value = getattr(self, name)
            if value not in known:
                msg = f"There is no {name} '{value}'."
                raise OptionError(msg, next_step=f"Choose {' or '.join(known)}.")
        if self.pixels < 2:
            msg = f"{self.pixels} pixels have no variance."
            raise OptionError(msg, next_step="Ask for 2 or more.")


@dataclass(frozen=True, eq=False)
class RunFeatures:
    """What was found of one run.

    Attributes:
        name: Of the recipe, and of the folder where several runs have the same recipe.
        folder: Of the run.
        recipe: Of the run.
        iteration: Steps it had done.
        space: Where the features lie: "network" or "projected".
        features: (pixels, width), float32, of unit length.
        prototypes: (2, organs, prototypes, width), float32: of the labelled and of the unlabelled bank, where
            the features are projected; else None.
        spread: Variances and gaps.
    """

    name: str
    folder: Path
    recipe: Recipe
    iteration: int
    space: str
    features: NDArray[np.float32]
    prototypes: NDArray[np.float32] | None
    spread: Spread


@dataclass(frozen=True, eq=False)
class Study:
    """Several runs on the same voxels.

    Attributes:
        settings: What was asked for.
        pixels: The voxels; which are labelled is said by the first run's recipe.
        runs: In the order given.
    """

    settings: Settings
    pixels: Pixels
    runs: tuple[RunFeatures, ...]


def study_features(
    folders: Sequence[Path],
    data: Path,
    cache: Path,
    device: torch.device,
    settings: Settings,
    progress: Progress,
) -> Study:
    """Collect and measure the features of runs over their training cases.

    The recipe of the first run says which organs were annotated in which case. The true organ of voxels that
    were hidden from the training is read from the label files: for this analysis alone.

    Args:
        folders: Of the runs.
        data: Folder with images/ and labels/, or of a project.
        cache: Folder of prepared cases.
        device: Where the networks run.
        settings: What is looked at.
        progress: Told about cases and windows.

    Raises:
        TrainingError: A run has no checkpoint, the runs do not compare, none has the prototypes that are
            asked for, or the recipe hides no organ.
        Cancelled: The user asked for it.
    """
    runs = [load_run(folder, settings.weights) for folder in folders]
    _require_comparable([run.recipe for run in runs])
    if settings.space == PROJECTED and not any(run.classifier for run in runs):
        msg = "No run here has prototypes."
        raise TrainingError(msg, next_step="Use --space network, or name a run whose method has them.")
    first = runs[0].recipe
    training, fold = split_cases(training_cases(data, first), first.data.validation)
    files = [*training, *fold] if settings.fold else training
    known = [*(case.known for case in training), *(None for _ in files[len(training) :])]
    every = frozenset(first.data.table.organs)
    whole = [replace(case, known=every) for case in files]
    pixels: Pixels | None = None
    found = []
    for run, name in zip(runs, _names(runs), strict=True):
        cases = prepare_cases(whole, cache, run.recipe.preprocessing, progress)
        if pixels is None:
            generator = np.random.default_rng(settings.seed)
            pixels = choose_pixels(cases, known, len(every), settings.pixels, generator)
        found.append(_examine(run, name, cases, pixels, settings, device, progress))
    assert pixels is not None
    return Study(settings, pixels, tuple(found))


def _examine(
    run: TrainedRun,
    name: str,
    cases: list[PreparedCase],
    pixels: Pixels,
    settings: Settings,
    device: torch.device,
    progress: Progress,
) -> RunFeatures:
    projected = settings.space == PROJECTED and run.classifier is not None
    features = collect_features(run, cases, pixels, projected, device, progress)
    prototypes = None
    if projected and run.classifier is not None:
        banks = [run.classifier.bank(name).prototypes[1:].cpu().numpy() for name in (LABELLED, UNLABELLED)]
        prototypes = np.stack(banks)
    return RunFeatures(
        name,
        run.folder,
        run.recipe,
        run.iteration,
        PROJECTED if projected else NETWORK,
        features,
        prototypes,
        measure_spread(features, pixels, run.recipe.data.table),
    )


def _require_comparable(recipes: list[Recipe]) -> None:
    views = [
        (recipe.data.labels, recipe.data.validation, recipe.preprocessing.spacing_mm) for recipe in recipes
    ]
    for recipe, view in zip(recipes, views, strict=True):
        if view != views[0]:
            msg = f"The runs of {recipes[0].name} and {recipe.name} cannot be shown the same voxels."
            raise TrainingError(
                msg,
                cause="They differ in data.labels, data.validation or preprocessing.spacing_mm.",
                next_step="Look at them one by one.",
            )


def _names(runs: list[TrainedRun]) -> list[str]:
    often = Counter(run.recipe.name for run in runs)
    return [
        f"{run.recipe.name} ({run.folder.name})" if often[run.recipe.name] > 1 else run.recipe.name
        for run in runs
    ]
