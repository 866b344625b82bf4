"""The features of one run or of several, on the same voxels: spread, distances, and two dimensions."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from multiorganseg.errors import DependencyError, OptionError, TrainingError
from multiorganseg.metrics.report import mean_of
from multiorganseg.organs.labels import LabelTable
from multiorganseg.progress import Progress
from multiorganseg_training.data.cache import PreparedCase, prepare_cases
from multiorganseg_training.data.cases import split_cases, training_cases
from multiorganseg_training.recipe.recipe import Recipe
from multiorganseg_training.run.validate import AVERAGED, LAST, TrainedRun, load_run
from research.features.pixels import FOLD, LABELLED, UNLABELLED, Pixels, choose_pixels, collect_features

PCA, TSNE = "pca", "tsne"
PERPLEXITY = 30.0


@dataclass(frozen=True, eq=False)
class Plane:
    """Points in the plane.

    Attributes:
        pixels: (pixels, 2), float64.
        marks: (marks, 2), float64.
        axes: What the two directions are.
    """

    pixels: NDArray[np.float64]
    marks: NDArray[np.float64]
    axes: tuple[str, str]


def to_plane(pixels: NDArray[np.float32], marks: NDArray[np.float32], method: str, seed: int) -> Plane:
    """Bring features into two dimensions.

    Args:
        pixels: (pixels, width).
        marks: (marks, width): prototypes in the same space; there may be none. They do not tell where the
            principal components lie; t-SNE, which knows no way to add points, places them with the pixels.
        method: "pca" or "tsne" (perplexity 30, started from the principal components).
        seed: Of the random numbers of t-SNE.

    Raises:
        DependencyError: scikit-learn is not installed.
    """
    try:
        from sklearn.decomposition import PCA as PrincipalComponents
        from sklearn.manifold import TSNE as NeighbourEmbedding
    except ImportError as error:
        msg = "The picture of features needs the package scikit-learn."
        raise DependencyError(msg, next_step="Install it: pip install scikit-learn.") from error

    if method == PCA:
        components = PrincipalComponents(2, svd_solver="full").fit(pixels)
        shares = components.explained_variance_ratio_
        names = (f"1st component, {shares[0]:.0%} of variance", f"2nd component, {shares[1]:.0%}")
        placed = components.transform(np.concatenate([pixels, marks])).astype(np.float64)
        return Plane(placed[: len(pixels)], placed[len(pixels) :], names)
    together = np.concatenate([pixels, marks])
    embedding = NeighbourEmbedding(
        2, perplexity=min(PERPLEXITY, (len(together) - 1) / 3), init="pca", random_state=seed
    )
    placed = embedding.fit_transform(together).astype(np.float64)
    return Plane(placed[: len(pixels)], placed[len(pixels) :], ("t-SNE", ""))


ALL = "all"
PARTS: Mapping[str, tuple[str, ...]] = {
    LABELLED: (LABELLED,),
    UNLABELLED: (UNLABELLED,),
    ALL: (LABELLED, UNLABELLED),
    FOLD: (FOLD,),
}


@dataclass(frozen=True)
class OrganSpread:
    """The features of one organ.

    Attributes:
        pixels: How many were looked at, by part: labelled, unlabelled, all, fold.
        intra: By part: mean squared distance of the organ's pixels to their mean; NaN without pixels.
        gap: 1 − cosine between the labelled and the unlabelled mean; NaN where either is missing.
    """

    pixels: Mapping[str, int]
    intra: Mapping[str, float]
    gap: float


@dataclass(frozen=True)
class Spread:
    """Intra-class and inter-class variance in the sense of LTUDA's Table 9, and the distribution gap.

    All on features f of unit length, with organs as classes; background is none of them. For the pixels of
    one part (labelled, unlabelled, all = both of these together, fold) let μ_c be the mean of f over the
    pixels of organ c, which is shorter than 1.

    Attributes:
        intra: By part: mean over the organs c of the mean of |f − μ_c|² over the pixels of c.
        inter: By part: mean over the pairs of organs of |μ_a − μ_b|²; NaN for fewer than two organs.
        gap: Mean over the organs of 1 − cos(labelled μ_c, unlabelled μ_c): what LTUDA is to close.
        relative_gap: Mean over the organs of |labelled μ_c − unlabelled μ_c|² / inter of all pixels, which
            compares between networks whose features spread differently.
        organs: By organ key.
    """

    intra: Mapping[str, float]
    inter: Mapping[str, float]
    gap: float
    relative_gap: float
    organs: Mapping[str, OrganSpread]


def measure_spread(features: NDArray[np.float32], pixels: Pixels, table: LabelTable) -> Spread:
    """Measure the features of pixels.

    Args:
        features: (pixels, width), of unit length.
        pixels: What they belong to.
        table: The network's channels.
    """
    exact = features.astype(np.float64)
    means: dict[str, dict[int, NDArray[np.float64]]] = {part: {} for part in PARTS}
    organs: dict[str, OrganSpread] = {}
    for channel, key in table.organs.items():
        counts, intra = {}, {}
        for part, groups in PARTS.items():
            own = exact[pixels.of(*groups, channel=channel)]
            counts[part], intra[part] = len(own), math.nan
            if len(own):
                means[part][channel] = own.mean(axis=0)
                intra[part] = float(np.square(own - means[part][channel]).sum(axis=1).mean())
        gap = _gap(means[LABELLED].get(channel), means[UNLABELLED].get(channel))
        organs[key] = OrganSpread(counts, intra, gap)
    inter = {part: _inter(list(of_part.values())) for part, of_part in means.items()}
    both = sorted(means[LABELLED].keys() & means[UNLABELLED].keys())
    apart = _mean([float(np.square(means[LABELLED][c] - means[UNLABELLED][c]).sum()) for c in both])
    return Spread(
        {part: _mean([organ.intra[part] for organ in organs.values()]) for part in PARTS},
        inter,
        _mean([organ.gap for organ in organs.values()]),
        apart / inter[ALL] if inter[ALL] else math.nan,
        organs,
    )


def _inter(means: list[NDArray[np.float64]]) -> float:
    return _mean([float(np.square(first - second).sum()) for first, second in combinations(means, 2)])


def _gap(labelled: NDArray[np.float64] | None, unlabelled: NDArray[np.float64] | None) -> float:
    if labelled is None or unlabelled is None:
        return math.nan
    lengths = float(np.linalg.norm(labelled) * np.linalg.norm(unlabelled))
    return 1 - float(labelled @ unlabelled) / lengths if lengths else math.nan


def _mean(values: list[float]) -> float:
    return mean_of(values).value


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
        progress: Reports about cases and windows.

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
    training, fold = split_cases(training_cases(data, first), first.data)
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
