"""A trained run becomes a bundle, with what was measured on the validation fold."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from multiorganseg import __version__
from multiorganseg.bundles import Bundle, CustomOrgan, Metadata, read_weights, write_bundle
from multiorganseg.bundles.bundle import LICENSE
from multiorganseg.bundles.metadata import CONVERTED_SCHEMA_VERSION, NAME_PATTERN, SCHEMA_VERSION
from multiorganseg.inference.segment import Options, Segmenter
from multiorganseg.metrics import evaluate
from multiorganseg.metrics.report import mean_by_organ
from multiorganseg.metrics.scores import OrganScore
from multiorganseg.progress import Progress
from multiorganseg.text import cases_text
from multiorganseg.volumes.read import read_labels, read_volume
from multiorganseg_training.acceptance.card import model_card, training_domain
from multiorganseg_training.data.cache import prepare_case, to_channels
from multiorganseg_training.data.cases import Case, split_cases, training_cases
from multiorganseg_training.recipe.file import recipe_from_dict
from multiorganseg_training.recipe.recipe import NAMES_OF_CASES, Recipe
from multiorganseg_training.run.build import new_network
from multiorganseg_training.run.checkpoint import Checkpoint, trained_checkpoint
from multiorganseg_training.run.soup import mix_weights

LONGEST_DESCRIPTION = 2000
LONGEST_STEM = 45


@dataclass(frozen=True)
class Publication:
    """What the author adds to a run.

    Attributes:
        version: Of the bundle, three numbers.
        license: SPDX identifier of the weights' licence.
        license_text: Its full text.
        notes: Markdown for the card: data, intended use, where it fails.
        quality: Quality at which the fold is measured.
        name: Of the bundle; that of the recipe where it is empty.
        mixed_with: Bundle that the run started from, with whose weights the run's are mixed; None for none.
        share: Of the run's weights in the mixture, in [0, 1].
    """

    version: str
    license: str
    license_text: str
    notes: str
    quality: str = "balanced"
    name: str = ""
    mixed_with: Bundle | None = None
    share: float = 1.0


def publish(run: Path, data: Path, folder: Path, publication: Publication, progress: Progress) -> Bundle:
    """Write the averaged network of a run as a bundle and measure it on the fold's own grids.

    The bundle is first written without figures, measured through the engine exactly as a user would run
    it, and then written again with them.

    Args:
        run: Folder of a finished run.
        data: Folder with the cases, or of a project.
        folder: Of the bundle; replaced when a bundle is there.
        publication: What the author adds.
        progress: Reports each case.

    Raises:
        TrainingError: The run has no checkpoint.
    """
    checkpoint, recipe = _trained(run)
    training, fold = split_cases(training_cases(data, recipe), recipe.data)
    prepared = (prepare_case(case, recipe.preprocessing) for case in training)
    domain = training_domain(prepared, recipe)
    draft = replace(_metadata(recipe, checkpoint, publication), domain=domain)
    if publication.mixed_with:
        mixed = mix_weights(publication.mixed_with, checkpoint.average, publication.share)
        checkpoint = replace(checkpoint, average=mixed)
        draft = replace(
            draft,
            training={
                **draft.training,
                "mixed_with": {
                    "name": publication.mixed_with.metadata.name,
                    "version": publication.mixed_with.metadata.version,
                    "sha256": publication.mixed_with.digest,
                    "share_of_this_run": publication.share,
                },
            },
        )
    bundle = _draft(folder, draft, checkpoint, publication.license_text)
    scores = measure_fold(bundle, fold, recipe, publication.quality, progress)
    metadata = replace(bundle.metadata, metrics=_metrics(scores))
    card = model_card(metadata, recipe, scores, publication.notes)
    return finish_bundle(bundle, folder, metadata, card)


def draft_bundle(
    run: Path, base: Bundle, folder: Path, custom_organs: Mapping[str, CustomOrgan] | None = None
) -> Bundle:
    """Write the averaged network of a run that added organs as a bundle without figures.

    Its licence and own organs are those of the base. The recipe goes into its provenance without the names
    of cases, which may be those of patients.

    Args:
        run: Folder of a run with a checkpoint.
        base: To which it added organs.
        folder: Of the bundle; replaced when a bundle is there.
        custom_organs: Further organs that the catalogue does not know.

    Raises:
        TrainingError: The run has no checkpoint.
        BundleError: An organ is unknown, or a weight is no finite number.
        ResourceError: The folder cannot be written.
    """
    checkpoint, recipe = _trained(run)
    said, table = base.metadata, recipe.data.table
    license_text = (base.folder / LICENSE).read_text(encoding="utf-8")
    metadata = _metadata(recipe, checkpoint, Publication("1.0.0", said.license, license_text, ""))
    new = [key for key in table.keys if key not in said.labels.keys]
    known = {**said.custom_organs, **(custom_organs or {})}
    metadata = replace(
        metadata,
        name=name_with_organs(said.name, new),
        description=f"{said.description}; {_what_became(new)}"[:LONGEST_DESCRIPTION],
        modality=said.modality,
        training={
            **_provenance(recipe, checkpoint),
            "base": {"name": said.name, "version": said.version, "sha256": base.digest},
        },
        custom_organs={key: organ for key, organ in known.items() if key in table.keys},
    )
    return _draft(folder, metadata, checkpoint, license_text)


def _what_became(new: Sequence[str]) -> str:
    return f"with {', '.join(new)}" if new else "its branches merged into one network"


def finish_bundle(bundle: Bundle, folder: Path, metadata: Metadata, card: str) -> Bundle:
    """Write a bundle's weights and licence with other metadata and another card.

    Args:
        bundle: Holds the weights.
        folder: Where to write, the bundle's own or another one; replaced when a bundle is there.
        metadata: With the figures.
        card: The model card in Markdown.

    Raises:
        BundleError: The metadata does not fit, or the bundle was changed.
        ResourceError: The folder cannot be written.
    """
    license_text = (bundle.folder / LICENSE).read_text(encoding="utf-8")
    exact = bundle.metadata.schema_version == CONVERTED_SCHEMA_VERSION
    weights = read_weights(bundle)
    return write_bundle(folder, metadata, weights, card, license_text, exact=exact, replace=True)


def name_with_organs(base: str, new_organs: Sequence[str]) -> str:
    """Name a bundle after its base and what it learned, such as "ct-plus-gallbladder"; or "ct-merged"."""
    if not new_organs:
        return f"{base[:LONGEST_STEM]}-merged"
    name = f"{base}-plus-{'-'.join(new_organs)}".lower()
    return name if NAME_PATTERN.fullmatch(name) else f"{base[:LONGEST_STEM]}-plus-{len(new_organs)}-organs"


def holds_network_of(bundle: Bundle, run: Path) -> bool:
    """Whether a bundle's weights are those of the averaged network of a run as it is now."""
    checkpoint, _ = _trained(run)
    ours, theirs = _weights(checkpoint), read_weights(bundle)
    return ours.keys() == theirs.keys() and all(
        np.array_equal(theirs[name].astype(np.float16), weight.astype(np.float16))
        for name, weight in ours.items()
    )


def measure_fold(
    bundle: Bundle, fold: list[Case], recipe: Recipe, quality: str, progress: Progress
) -> dict[str, tuple[OrganScore, ...]]:
    """Segment the cases of the fold as a user would and score what is known of them on their own grids.

    Returns:
        Scores by case name, of cases with a label file.
    """
    segmenter = Segmenter(bundle, Options(quality=quality))
    scores = {}
    for number, case in enumerate(fold):
        if case.labels is None or not case.known:
            continue
        progress(f"measuring {case.name}", number / len(fold))
        volume, reference = read_volume(case.image), read_labels(case.labels)
        result = segmenter.segment(volume, Progress(token=progress.token))
        scores[case.name] = evaluate(
            result.labels,
            result.table,
            to_channels(reference.voxels, case.channels),
            recipe.data.table,
            volume.grid,
            organs=[key for channel, key in recipe.data.table.organs.items() if channel in case.known],
        )
    progress("measuring", 1.0)
    return scores


def _trained(run: Path) -> tuple[Checkpoint, Recipe]:
    checkpoint = trained_checkpoint(run)
    return checkpoint, recipe_from_dict(checkpoint.recipe)


def _draft(folder: Path, metadata: Metadata, checkpoint: Checkpoint, license_text: str) -> Bundle:
    return write_bundle(
        folder,
        metadata,
        _weights(checkpoint),
        "Not measured yet.",
        license_text,
        exact=metadata.schema_version == CONVERTED_SCHEMA_VERSION,
        replace=True,
    )


def _without_names(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out names of cases, which may be those of patients, and the folder of the first weights."""
    plain: dict[str, Any] = json.loads(json.dumps(recipe))
    data = plain["data"]
    for part in NAMES_OF_CASES:
        data[part] = cases_text(len(data[part]))
    if not NAME_PATTERN.fullmatch(plain["network"]["initial"]):
        del plain["network"]["initial"]
    return plain


def _weights(checkpoint: Checkpoint) -> dict[str, NDArray[np.floating[Any]]]:
    """Return the averaged weights without the counters of batch normalisation, which only training reads."""
    return {name: tensor.numpy() for name, tensor in checkpoint.average.items() if tensor.is_floating_point()}


def _metadata(recipe: Recipe, checkpoint: Checkpoint, publication: Publication) -> Metadata:
    return Metadata(
        schema_version=CONVERTED_SCHEMA_VERSION if recipe.preprocessing.original else SCHEMA_VERSION,
        name=publication.name or recipe.name,
        version=publication.version,
        description=recipe.description or recipe.name,
        modality=recipe.data.modality,
        architecture=recipe.network.architecture,
        arguments=recipe.network.arguments,
        activation=recipe.network.activation,
        labels=recipe.data.table,
        preprocessing=recipe.preprocessing.for_bundle(),
        patch_shape=recipe.network.patch_shape,
        feature_channels=new_network(recipe).feature_channels,
        license=publication.license,
        training=_provenance(recipe, checkpoint),
    )


def _provenance(recipe: Recipe, checkpoint: Checkpoint) -> dict[str, Any]:
    last = f"iteration {checkpoint.iteration} of {recipe.optimisation.iterations}"
    return {
        "software": f"MultiOrganSeg {__version__}, torch {torch.__version__}",
        "date": date.today().isoformat(),
        "method": recipe.method,
        "weights": f"exponential moving average after {last}",
        "iterations": checkpoint.iteration,
        "recipe": _without_names(checkpoint.recipe),
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
