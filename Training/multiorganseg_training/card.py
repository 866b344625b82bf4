"""The model card of a bundle."""

from __future__ import annotations

import math

from multiorganseg.bundles import Metadata
from multiorganseg.metrics.scores import OrganScore
from multiorganseg.metrics.summary import mean_by_organ, mean_over_organs
from multiorganseg_training.recipe import Recipe


def model_card(
    metadata: Metadata, recipe: Recipe, scores: dict[str, tuple[OrganScore, ...]], notes: str
) -> str:
    """Write the card in Markdown.

    Args:
        metadata: Of the bundle.
        recipe: That trained it.
        scores: By case of the validation fold.
        notes: The author's text.
    """
    spacing = " × ".join(f"{value:g}" for value in recipe.preprocessing.spacing_mm)
    by_organ = mean_by_organ(score for case in scores.values() for score in case)
    overall = mean_over_organs(by_organ)
    lines = [
        f"# {metadata.name} {metadata.version}",
        "",
        f"{metadata.description}. Architecture `{metadata.architecture}`, working spacing {spacing} mm (k, j, i), "
        f"method `{recipe.method}`, {recipe.optimisation.iterations} iterations of "
        f"{recipe.optimisation.batch_size} patch(es), seed {recipe.seed}. Licence of the weights: {metadata.license}.",
        "",
        notes.strip(),
        "",
        f"## Measured on the validation fold ({', '.join(scores)})",
        "",
        "The averaged network after the last iteration, run through the engine on the cases' own grids. No "
        "iteration was selected on this fold. NSD at 2 mm; the worst case is the one with the lowest Dice.",
        "",
        "| organ | Dice | NSD | HD95 mm | worst Dice (case) |",
        "|---|---|---|---|---|",
    ]
    for key, mean in by_organ.items():
        worst = min(
            (
                (score.dice, case)
                for case, rows in scores.items()
                for score in rows
                if score.key == key and not math.isnan(score.dice)
            ),
            default=(float("nan"), "–"),
        )
        lines.append(
            f"| {key} | {mean['dice'].value:.3f} | {mean['nsd'].value:.3f} | {mean['hd95_mm'].value:.1f} "
            f"| {worst[0]:.3f} ({worst[1]}) |"
        )
    lines.append(
        f"| **mean of organs** | **{overall['dice'].value:.3f}** | {overall['nsd'].value:.3f} "
        f"| {overall['hd95_mm'].value:.1f} | |"
    )
    return "\n".join(lines) + "\n"
