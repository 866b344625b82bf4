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
    """Write the card in Markdown, without the names of cases, which may be those of patients.

    Args:
        metadata: Of the bundle.
        recipe: That trained it.
        scores: By case of the validation fold.
        notes: The author's text.
    """
    spacing = " × ".join(f"{value:g}" for value in recipe.preprocessing.spacing_mm)
    lines = [
        f"# {metadata.name} {metadata.version}",
        "",
        f"{metadata.description}. Architecture `{metadata.architecture}`, working spacing {spacing} mm "
        f"(k, j, i), method `{recipe.method}`, {metadata.training['iterations']} of "
        f"{recipe.optimisation.iterations} iterations of {recipe.optimisation.batch_size} patch(es), "
        f"seed {recipe.seed}. Licence of the weights: {metadata.license}.",
        "",
        notes.strip(),
        "",
        *(_measured(scores) if scores else ["## Not measured", "", "The recipe has no validation fold."]),
    ]
    return "\n".join(lines) + "\n"


def _measured(scores: dict[str, tuple[OrganScore, ...]]) -> list[str]:
    by_organ = mean_by_organ(score for case in scores.values() for score in case)
    overall = mean_over_organs(by_organ)
    lines = [
        f"## Measured on the validation fold of {len(scores)} case{'s' if len(scores) > 1 else ''}",
        "",
        "The averaged network after the last iteration, run through the engine on the cases' own grids. No "
        "iteration was selected on this fold. NSD at 2 mm; the worst case is the one with the lowest Dice.",
        "",
        "| organ | Dice | NSD | HD95 mm | worst Dice |",
        "|---|---|---|---|---|",
    ]
    for key, mean in by_organ.items():
        worst = min(
            (
                score.dice
                for rows in scores.values()
                for score in rows
                if score.key == key and not math.isnan(score.dice)
            ),
            default=float("nan"),
        )
        lines.append(
            f"| {key} | {_shown(mean['dice'].value, 3)} | {_shown(mean['nsd'].value, 3)} "
            f"| {_shown(mean['hd95_mm'].value, 1)} | {_shown(worst, 3)} |"
        )
    lines.append(
        f"| **mean of organs** | **{_shown(overall['dice'].value, 3)}** | {_shown(overall['nsd'].value, 3)} "
        f"| {_shown(overall['hd95_mm'].value, 1)} | |"
    )
    return lines


def _shown(value: float, digits: int) -> str:
    return "–" if math.isnan(value) else f"{value:.{digits}f}"
