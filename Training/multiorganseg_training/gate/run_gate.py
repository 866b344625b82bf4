"""The gate of a finished run: its network against the base that it was extended from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from multiorganseg.atomic import write_text_atomically
from multiorganseg.bundles import Bundle, find_bundle
from multiorganseg.bundles.custom_organs import with_custom_organs
from multiorganseg.errors import TrainingError
from multiorganseg.organs.catalogue import load_catalogue
from multiorganseg.progress import Progress
from multiorganseg_training.checkpoint import FILE_NAME as CHECKPOINT_FILE
from multiorganseg_training.checkpoint import trained_checkpoint
from multiorganseg_training.gate.case import gate_case
from multiorganseg_training.gate.gate import Gate
from multiorganseg_training.gate.gate_json import save_gate
from multiorganseg_training.gate.judge import GateOptions, judge, judge_folds
from multiorganseg_training.gate.report import REPORT_FILE, gate_report
from multiorganseg_training.project.project import Project
from multiorganseg_training.project.status import LabelStatus
from multiorganseg_training.publish import draft_extension
from multiorganseg_training.recipe import Recipe
from multiorganseg_training.recipe_dict import recipe_from_dict

CANDIDATE = "candidate"
FOLDS = "folds"


def gate_run(
    run: Path,
    project: Project,
    options: GateOptions | None = None,
    progress: Progress | None = None,
    *,
    base: Bundle | None = None,
) -> Gate:
    """Judge a run and write `candidate/`, `gate.json`, `report.md` and then `pictures/` into its folder.

    A picture that cannot be drawn is a `PictureWarning`.

    The held-out cases are those of the validation fold of the run's recipe. A run with `folds/`, each a run
    of its own with such a fold, is judged by cross-validation. A run with neither is unproven.

    Args:
        run: Folder of a run with a checkpoint.
        project: Holds the cases.
        options: How to judge; pictures go into the run's folder whatever it says.
        progress: Told each case.
        base: That the run extended; by default the bundle that its recipe starts from.

    Raises:
        TrainingError: The run has no checkpoint, extends nothing, or names a case that the project lacks.
        BundleError: The base is missing or damaged.
        VolumeError: A case cannot be read.
        ResourceError: The folder cannot be written.
    """
    options = options or GateOptions()
    progress = progress or Progress()
    recipe = _recipe(run)
    base = base or find_bundle(recipe.network.initial)
    new_organs = tuple(key for key in recipe.data.table.keys if key not in base.metadata.labels.keys)
    if not new_organs:
        msg = f"The run {run.name} has learned no organ that {base.metadata.name} does not know."
        raise TrainingError(msg, next_step="Extend a bundle first: multiorganseg-train extend --help")
    candidate = draft_extension(run, base, run / CANDIDATE, project.custom_organs)
    catalogue = with_custom_organs(load_catalogue(), candidate.metadata.custom_organs)

    def save(gate: Gate) -> None:
        write_text_atomically(run / REPORT_FILE, gate_report(gate, catalogue))
        save_gate(gate, run)

    asked = replace(options, folder=run, judged=save)
    folds = [path.parent for path in sorted((run / FOLDS).glob(f"*/{CHECKPOINT_FILE}"))]
    if folds:
        networks = [
            (
                draft_extension(fold, base, fold / CANDIDATE, project.custom_organs),
                [gate_case(project, name) for name in _recipe(fold).data.validation],
            )
            for fold in folds
        ]
        trained = training_cases(_recipe(folds[0]), project, new_organs)
        gate = judge_folds(base, networks, new_organs, asked, progress, training_cases=trained)
    else:
        cases = [gate_case(project, name) for name in recipe.data.validation]
        trained = training_cases(recipe, project, new_organs)
        gate = judge(base, candidate, cases, new_organs, asked, progress, training_cases=trained)
    save(gate)
    return gate


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
