"""The acceptance check of a finished run: which cases it is judged on, and its network against the base."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from multiorganseg.atomic import write_text_atomically
from multiorganseg.bundles import Bundle, find_bundle
from multiorganseg.bundles.custom_organs import with_custom_organs
from multiorganseg.errors import TrainingError
from multiorganseg.organs.catalogue import load_catalogue
from multiorganseg.progress import Progress
from multiorganseg.projects.acceptance import AcceptanceReport, save_acceptance
from multiorganseg.projects.matrix import LabelStatus
from multiorganseg.projects.project import Project
from multiorganseg_training.acceptance.compare import CheckOptions, judge, judge_folds
from multiorganseg_training.acceptance.publish import draft_bundle
from multiorganseg_training.acceptance.report import REPORT_FILE, report_text
from multiorganseg_training.acceptance.score import held_out_case
from multiorganseg_training.recipe.file import recipe_from_dict
from multiorganseg_training.recipe.recipe import Recipe
from multiorganseg_training.run.checkpoint import FILE_NAME as CHECKPOINT_FILE
from multiorganseg_training.run.checkpoint import trained_checkpoint

ENOUGH_PATIENTS = 4
SHARE = 0.25
MOST_HELD_OUT = 10


@dataclass(frozen=True)
class Split:
    """How the cases of a project are divided.

    Attributes:
        training: Cases that train the network that will be published.
        held_out: Cases that the acceptance check judges.
        how: "hold-out": the held-out cases never train. "cross-validation": each fold's network is judged on
            its own held-out cases, and the final network trains on all. "none": nothing can be held out.
        folds: For "cross-validation", the split of each fold, itself a "hold-out".
    """

    training: tuple[str, ...]
    held_out: tuple[str, ...]
    how: str
    folds: tuple[Split, ...] = ()


def hold_out(
    project: Project,
    new_organs: Sequence[str],
    seed: int = 0,
) -> Split:
    """Choose held-out cases by patient, where the project knows them; equal arguments give an equal choice.

    A case of which nobody said whose it is is a patient of its own.

    Cases in which every new organ is known come into question. From four patients on, a quarter of them (1 to
    10) is held out: first those in which more of the new organs are annotated, then those in which more old
    ones are, then at random; of three or more, the last is one in which a new organ is absent where there is
    such a patient. Fewer patients are cross-validated, each held out once. A patient is held out only when
    every new organ stays annotated in another's case, so that there is something to learn from.

    Args:
        project: Its matrix says what is known.
        new_organs: Keys of the organs to be learned.
        seed: Of the order among equals.
    """
    cases = project.matrix.cases
    said = project.patients
    groups: dict[str, list[str]] = {}
    for case in cases:
        groups.setdefault(f"patient {said[case]}" if case in said else f"case {case}", []).append(case)
    asked = set(new_organs)
    candidates = [
        patient
        for patient, own in groups.items()
        if asked and all(asked <= project.matrix.known(case) for case in own)
    ]
    holding = [patient for patient in candidates if _annotated(project, groups[patient], asked)]
    if len(candidates) >= ENOUGH_PATIENTS:
        chosen = _chosen(project, groups, candidates, new_organs, seed)
        if chosen:
            return _split(cases, [case for patient in chosen for case in groups[patient]])
    folds = [
        _split(cases, groups[patient])
        for patient in holding
        if _still_annotated(project, groups, [patient], new_organs)
    ]
    if not folds:
        return Split(cases, (), "none")
    held_out = tuple(case for fold in folds for case in fold.held_out)
    return Split(cases, held_out, "cross-validation", tuple(folds))


def _chosen(
    project: Project,
    groups: Mapping[str, Sequence[str]],
    candidates: Sequence[str],
    new_organs: Sequence[str],
    seed: int,
) -> list[str]:
    asked, old = set(new_organs), set(project.table.keys) - set(new_organs)
    lot = dict(
        zip(candidates, np.random.default_rng(seed).permutation(len(candidates)).tolist(), strict=True)
    )

    def order(patient: str) -> tuple[int, int, int]:
        own = groups[patient]
        return -_annotated(project, own, asked), -_annotated(project, own, old), lot[patient]

    wanted = min(max(round(len(candidates) * SHARE), 1), MOST_HELD_OUT)
    ranked = sorted(candidates, key=order)
    without = [patient for patient in ranked if _any_absent(project, groups[patient], asked)]
    chosen: list[str] = []
    for patient in ranked:
        reserved = wanted >= 3 and len(chosen) == wanted - 1 and not set(chosen) & set(without)
        if reserved and without and patient not in without:
            continue
        if len(chosen) < wanted and _still_annotated(project, groups, [*chosen, patient], new_organs):
            chosen.append(patient)
    return chosen if any(_annotated(project, groups[patient], asked) for patient in chosen) else []


def _split(cases: Sequence[str], held_out: Sequence[str]) -> Split:
    ordered = tuple(case for case in cases if case in held_out)
    return Split(tuple(case for case in cases if case not in held_out), ordered, "hold-out")


def _annotated(project: Project, cases: Sequence[str], organs: set[str]) -> int:
    return sum(len(project.matrix.organs_with(case, LabelStatus.ANNOTATED) & organs) for case in cases)


def _any_absent(project: Project, cases: Sequence[str], organs: set[str]) -> bool:
    return any(project.matrix.organs_with(case, LabelStatus.ABSENT) & organs for case in cases)


def _still_annotated(
    project: Project,
    groups: Mapping[str, Sequence[str]],
    held_out: Sequence[str],
    new_organs: Sequence[str],
) -> bool:
    """Whether each new organ is annotated in a case of a patient who is not held out."""
    left = [case for patient, own in groups.items() if patient not in held_out for case in own]
    return all(_annotated(project, left, {organ}) for organ in new_organs)


CANDIDATE = "candidate"
FOLDS = "folds"


def check_run(
    run: Path,
    project: Project,
    options: CheckOptions | None = None,
    progress: Progress | None = None,
    *,
    base: Bundle | None = None,
) -> AcceptanceReport:
    """Judge a run; write `candidate/`, `acceptance.json`, `report.md`, then `pictures/` into its folder.

    A picture that cannot be drawn is a `PictureWarning`.

    The held-out cases are those of the validation fold of the run's recipe. A run with `folds/`, each a run
    of its own with such a fold, is judged by cross-validation. A run with neither is unproven.

    Args:
        run: Folder of a run with a checkpoint.
        project: Holds the cases.
        options: How to judge; pictures go into the run's folder whatever it says.
        progress: Reports each case.
        base: To which the run added organs; by default the bundle that its recipe starts from.

    Raises:
        TrainingError: The run has no checkpoint, adds no organ, or names a case that the project lacks.
        BundleError: The base is missing or damaged.
        VolumeError: A case cannot be read.
        ResourceError: The folder cannot be written.
    """
    options = options or CheckOptions()
    progress = progress or Progress()
    recipe = _recipe(run)
    base = base or find_bundle(recipe.network.initial)
    new_organs = tuple(key for key in recipe.data.table.keys if key not in base.metadata.labels.keys)
    if not new_organs and recipe.method != "distil":
        msg = f"The run {run.name} has learned no organ that {base.metadata.name} does not know."
        raise TrainingError(msg, next_step="Add an organ first: multiorganseg-train add-organ --help")
    candidate = draft_bundle(run, base, run / CANDIDATE, project.custom_organs)
    catalogue = with_custom_organs(load_catalogue(), candidate.metadata.custom_organs)

    def save(acceptance: AcceptanceReport) -> None:
        write_text_atomically(run / REPORT_FILE, report_text(acceptance, catalogue))
        save_acceptance(acceptance, run)

    asked = replace(options, folder=run, judged=save)
    folds = [path.parent for path in sorted((run / FOLDS).glob(f"*/{CHECKPOINT_FILE}"))]
    if folds:
        networks = [
            (
                draft_bundle(fold, base, fold / CANDIDATE, project.custom_organs),
                [held_out_case(project, name) for name in _recipe(fold).data.validation],
            )
            for fold in folds
        ]
        trained = training_cases(_recipe(folds[0]), project, new_organs)
        acceptance = judge_folds(base, networks, new_organs, asked, progress, training_cases=trained)
    else:
        cases = [held_out_case(project, name) for name in recipe.data.validation]
        trained = training_cases(recipe, project, new_organs)
        acceptance = judge(base, candidate, cases, new_organs, asked, progress, training_cases=trained)
    save(acceptance)
    return acceptance


def training_cases(recipe: Recipe, project: Project, organs: Sequence[str]) -> dict[str, int]:
    """Count the cases with an annotation of each organ that trained with a recipe."""
    counts = dict.fromkeys(organs, 0)
    for case in project.cases:
        if case in recipe.data.validation:
            continue
        known = recipe.data.known_channels(case)
        for organ in organs:
            annotated = project.matrix.status(case, organ) is LabelStatus.ANNOTATED
            counts[organ] += annotated and recipe.data.table.value(organ) in known
    return counts


def _recipe(run: Path) -> Recipe:
    return recipe_from_dict(trained_checkpoint(run).recipe)
