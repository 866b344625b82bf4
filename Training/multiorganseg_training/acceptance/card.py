"""Model cards, and what the scans of a training are like."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np

from multiorganseg.bundles import Metadata
from multiorganseg.bundles.metadata import Domain
from multiorganseg.metrics.report import mean_by_organ, mean_over_organs
from multiorganseg.metrics.scores import OrganScore
from multiorganseg.projects.acceptance import AcceptanceReport
from multiorganseg.quality.domain import organ_intensities, scan_measures, tops_above_liver
from multiorganseg_training.data.cache import PreparedCase
from multiorganseg_training.recipe.recipe import Recipe


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
        "The averaged network, run through the engine on the cases' own grids. No iteration was selected on "
        "this fold. NSD at 2 mm; the worst case is the one with the lowest Dice.",
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


def added_organ_card(metadata: Metadata, acceptance: AcceptanceReport, force: str) -> str:
    """Write the card of a bundle with organs added to another, in Markdown.

    It gives the figures alone that the acceptance check measured against annotations, and names no case,
    whose name may be that of a patient.

    Args:
        metadata: Of the bundle.
        acceptance: That it went through.
        force: Why it was published although it did not pass; empty when it did.
    """
    base = f"{acceptance.base_name} {acceptance.base_version}"
    new = ", ".join(f"{key} ({_annotated(acceptance, key)})" for key in acceptance.with_role("new"))
    learned = f"Learned: {new}" if new else "It learned what that network says, without its branches"
    lines = [
        f"# {metadata.name} {metadata.version}",
        "",
        f"{metadata.description}. {'Organs were added to' if new else 'Made from'} {base} (sha256 "
        f"{acceptance.base_sha256[:12]}…), {metadata.training['iterations']} iterations. {learned}.",
        "",
        f"Licence of the weights: {metadata.license}, inherited from {acceptance.base_name}, whose text is "
        "enclosed. Whether the images and annotations that it learned from allow it to be passed on is for "
        "their owner to say.",
        "",
        f"What the card of {base} says of its data, intended use and limits holds here too. Its figures do "
        "not: below is what was measured anew.",
        "",
    ]
    if not acceptance.passed:
        lines += [
            f"**Published without having passed the acceptance check.** Reason given: {_one_line(force)}",
            "",
        ]
    return "\n".join([*lines, *_judged_table(acceptance)]) + "\n"


def _annotated(acceptance: AcceptanceReport, organ: str) -> str:
    count = acceptance.training_cases.get(organ)
    return "" if count is None else f"from {count} annotated {'case' if count == 1 else 'cases'}"


def _judged_table(acceptance: AcceptanceReport) -> list[str]:
    how = {
        "hold-out": "cases that were kept out of training",
        "cross-validation": "cases, each with a network that had not seen it; the network here, trained "
        "alike "
        "on all of them, was not itself measured",
        "none": "cases: none could be kept out of training",
    }[acceptance.how]
    lines = [
        f"## Old against new on {len(acceptance.cases)} {how}",
        "",
        f"An old organ passes when its mean Dice falls by no more than {acceptance.margin:g}, a new one from "
        f"{acceptance.floor:g}. NSD at 2 mm. Organs without figures were annotated in none of these cases.",
        "",
        "| organ | | verdict | cases | Dice before | Dice | NSD |",
        "|---|---|---|---|---|---|---|",
    ]
    for key, organ in acceptance.organs.items():
        measured = organ.reference == "annotated" and organ.dice_new is not None
        figures = (organ.dice_old, organ.dice_new, organ.nsd_new) if measured else (None, None, None)
        before, dice, nsd = ("–" if value is None else f"{value:.3f}" for value in figures)
        lines.append(
            f"| {key} | {organ.role} | {organ.verdict.value} | {organ.cases if measured else 0} "
            f"| {before} | {dice} | {nsd} |"
        )
    return lines


def _one_line(text: str) -> str:
    return " ".join(text.split())


LEFT_OUT = 0.1
"""Share of the scans at each end that does not widen a range: one odd scan does not make its kind known."""

Measures = list[Mapping[str, float]]


def training_domain(cases: Iterable[PreparedCase], recipe: Recipe) -> Domain | None:
    """Measure the training cases in which an organ is annotated.

    Args:
        cases: Prepared as for the training; the validation fold is not among them.
        recipe: Of the training.

    Returns:
        The ranges in which eight of ten cases lie, and the heights that at least two reach; None for networks
        that see no window of HU.
    """
    if recipe.preprocessing.intensity != "window" or recipe.data.modality != "CT":
        return None
    spacing, window, table = recipe.preprocessing.spacing_mm, recipe.preprocessing.window, recipe.data.table
    scans: Measures = []
    organs: Measures = []
    heights: Measures = []
    for case in cases:
        if not case.labels.any():
            continue
        image = case.image.astype(np.float32)
        scans.append(scan_measures(image, spacing, window))
        organs.append(organ_intensities(image, case.labels, table, window))
        heights.append(tops_above_liver(case.labels, table, spacing))
    reached = {key: sorted(found)[-2:][0] for key, found in _by_key(heights).items()}
    return Domain(_ranges(scans), _ranges(organs), reached)


def _by_key(measured: Measures) -> dict[str, list[float]]:
    keys = dict.fromkeys(key for one in measured for key in one)
    return {key: [one[key] for one in measured if key in one] for key in keys}


def _ranges(measured: Measures) -> dict[str, tuple[float, float]]:
    return {
        key: (
            round(float(np.quantile(found, LEFT_OUT)), 3),
            round(float(np.quantile(found, 1 - LEFT_OUT)), 3),
        )
        for key, found in _by_key(measured).items()
    }
