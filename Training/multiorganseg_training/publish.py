"""A trained run becomes a bundle, with what was measured on the validation fold."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from multiorganseg import __version__
from multiorganseg.bundles import Bundle, Metadata, write_bundle
from multiorganseg.errors import TrainingError
from multiorganseg.inference.segment import Options, Segmenter
from multiorganseg.metrics import evaluate
from multiorganseg.metrics.scores import OrganScore
from multiorganseg.metrics.summary import mean_by_organ
from multiorganseg.progress import Progress
from multiorganseg.volumes.read import read_labels, read_volume
from multiorganseg_training.build import new_network
from multiorganseg_training.cache import to_channels
from multiorganseg_training.card import model_card
from multiorganseg_training.cases import Case, find_cases, split_cases
from multiorganseg_training.checkpoint import Checkpoint, load_checkpoint
from multiorganseg_training.recipe import Recipe, recipe_from_dict


@dataclass(frozen=True)
class Publication:
    """What the author adds to a run.

    Attributes:
        version: Of the bundle, three numbers.
        license: SPDX identifier of the weights' licence.
        license_text: Its full text.
        notes: Markdown for the card: data, intended use, where it fails.
        quality: Quality at which the fold is measured.
    """

    version: str
    license: str
    license_text: str
    notes: str
    quality: str = "balanced"


def publish(run: Path, data: Path, folder: Path, publication: Publication, progress: Progress) -> Bundle:
    """Write the averaged network of a run as a bundle and measure it on the fold's own grids.

    The bundle is first written without figures, measured through the engine exactly as a user would run
    it, and then written again with them.

    Args:
        run: Folder of a finished run.
        data: Folder with the cases.
        folder: Of the bundle; replaced when a bundle is there.
        publication: What the author adds.
        progress: Told each case.

    Raises:
        TrainingError: The run has no checkpoint.
    """
    checkpoint = load_checkpoint(run)
    if checkpoint is None:
        msg = f"{run} holds no checkpoint."
        raise TrainingError(msg, next_step="Run `multiorganseg-train fit` first.")
    recipe = recipe_from_dict(checkpoint.recipe)
    _, fold = split_cases(find_cases(data), recipe.data.validation)
    metadata = _metadata(recipe, checkpoint, publication)
    weights = _weights(checkpoint)
    bundle = write_bundle(
        folder, metadata, weights, "Not measured yet.", publication.license_text, replace=True
    )
    scores = measure_fold(bundle, fold, recipe, publication.quality, progress)
    metadata = replace(metadata, metrics=_metrics(scores))
    card = model_card(metadata, recipe, scores, publication.notes)
    return write_bundle(folder, metadata, weights, card, publication.license_text, replace=True)


def measure_fold(
    bundle: Bundle, fold: list[Case], recipe: Recipe, quality: str, progress: Progress
) -> dict[str, tuple[OrganScore, ...]]:
    """Segment the cases of the fold as a user would and score them on their own grids.

    Returns:
        Scores by case name.
    """
    segmenter = Segmenter(bundle, Options(quality=quality))
    scores = {}
    for number, case in enumerate(fold):
        progress(f"measuring {case.name}", number / len(fold))
        volume, reference = read_volume(case.image), read_labels(case.labels)
        result = segmenter.segment(volume, Progress(token=progress.token))
        scores[case.name] = evaluate(
            result.labels,
            result.table,
            to_channels(reference.voxels, recipe.data.channels),
            recipe.data.table,
            volume.grid,
        )
    progress("measuring", 1.0)
    return scores


def _weights(checkpoint: Checkpoint) -> dict[str, NDArray[np.floating[Any]]]:
    """Give the averaged weights without the counters of batch normalisation, which only training reads."""
    return {name: tensor.numpy() for name, tensor in checkpoint.average.items() if tensor.is_floating_point()}


def _metadata(recipe: Recipe, checkpoint: Checkpoint, publication: Publication) -> Metadata:
    features: int = new_network(recipe).feature_channels  # type: ignore[assignment]
    return Metadata(
        schema_version=1,
        name=recipe.name,
        version=publication.version,
        description=recipe.description or recipe.name,
        modality=recipe.data.modality,
        architecture=recipe.network.architecture,
        arguments=recipe.network.arguments,
        activation=recipe.network.activation,
        labels=recipe.data.table,
        preprocessing=recipe.preprocessing.for_bundle(),
        patch_shape=recipe.network.patch_shape,
        feature_channels=features,
        license=publication.license,
        training=_provenance(recipe, checkpoint),
    )


def _provenance(recipe: Recipe, checkpoint: Checkpoint) -> dict[str, Any]:
    return {
        "software": f"MultiOrganSeg {__version__}, torch {torch.__version__}",
        "date": date.today().isoformat(),
        "method": recipe.method,
        "weights": "exponential moving average after the last iteration",
        "iterations": checkpoint.iteration,
        "recipe": json.loads(json.dumps(checkpoint.recipe)),
    }


def _metrics(scores: dict[str, tuple[OrganScore, ...]]) -> dict[str, dict[str, float]]:
    means = mean_by_organ(score for case in scores.values() for score in case)
    names = {"dice": "dice", "nsd": "nsd", "hd95": "hd95_mm"}
    return {
        key: {
            short: round(mean[name].value, 4)
            for short, name in names.items()
            if not math.isnan(mean[name].value)
        }
        for key, mean in means.items()
    }
