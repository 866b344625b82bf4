"""What a user asks for when an organ is added, and the recipe that follows from it."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from multiorganseg.atomic import write_text_atomically
from multiorganseg.bundles import Bundle
from multiorganseg.bundles.json_text import read_json_object
from multiorganseg.earlier import recipe_of_now
from multiorganseg.errors import OptionError, TrainingError
from multiorganseg.projects.matrix import LabelStatus
from multiorganseg.projects.project import Project
from multiorganseg.schema import typed
from multiorganseg_training.acceptance.check import Split
from multiorganseg_training.acceptance.publish import name_with_organs
from multiorganseg_training.recipe.file import recipe_to_dict
from multiorganseg_training.recipe.recipe import (
    AugmentationSpec,
    DataSpec,
    NetworkSpec,
    OptimisationSpec,
    PreprocessingSpec,
    Recipe,
    ReportingSpec,
)

PRESETS = {"10m": 600.0, "1h": 3600.0, "overnight": 8 * 3600.0}
"""Seconds of training by preset."""

UNITS = {"m": 60.0, "h": 3600.0}


@dataclass(frozen=True)
class AddOrganOptions:
    """What to learn, from what, and for how long.

    Attributes:
        base: Name or folder of the base bundle.
        organs: Keys of the organs that it does not know.
        seconds: Of training, all folds together.
        iterations: Of each training, instead of `seconds`; None measures.
        seed: Of all randomness.
        patches: A step, at most; None takes as many as suit the network.
        merge: Whether the base's branches are merged, instead of learning organs.
    """

    base: str
    organs: tuple[str, ...]
    seconds: float = PRESETS["1h"]
    iterations: int | None = None
    seed: int = 0
    patches: int | None = None
    merge: bool = False


def parse_seconds(text: str) -> float:
    """Read a preset, or a number of minutes or hours such as "90m" or "2.5h".

    Raises:
        OptionError: It is neither, or not above 0.
    """
    if text in PRESETS:
        return PRESETS[text]
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([mh])", text.strip())
    seconds = float(found[1]) * UNITS[found[2]] if found else 0.0
    if not seconds:
        msg = f"'{text}' is not a time."
        raise OptionError(msg, next_step=f"Give one of {', '.join(PRESETS)}, or such as 90m or 2.5h.")
    return seconds


NEW_ORGAN_SHARE = 1 / 3
"""Share of patches centred on a new organ."""

ANNOTATED_SHARE = 3 / 4
"""Share of patches from cases in which something is annotated; those without a new organ help too."""

PATCHES, SLICES = 2, 8
"""A step's patches of a volume, or single slices: two at least, so that cases can be mixed."""

USABLE, GOOD = 150, 1000
"""Iterations after which an organ is roughly where it belongs, and those in docs/results/add-organ.md."""

MERGING_RATE = 5e-4
"""Of a network that knows nearly all that it is to learn."""

PASSES = 8
"""How often a training sees each of its batches."""

CURVE_POINTS = 5
"""How often a run validates where the time allows it."""


def run_name(base: Bundle, organs: tuple[str, ...]) -> str:
    """Name a run and the bundle made from it: that of the base, plus the organs; "merged" without any."""
    return name_with_organs(base.metadata.name, organs)


def branch_organs(base: Bundle) -> tuple[str, ...]:
    """Return the organs of a network's branches."""
    count = sum(base.metadata.arguments.get("branches", ()))
    return base.metadata.labels.keys[len(base.metadata.labels.keys) - count :]


def check_options(base: Bundle, project: Project, options: AddOrganOptions) -> None:
    """Refuse what cannot be learned.

    Raises:
        TrainingError: No organ is named, one is named twice or known already, the project lacks it or has no
            case in which it is annotated, or the project has images of another modality.
    """
    if options.merge:
        _check_merge(base, project)
        return
    known = base.metadata.labels.keys
    problem, step = "", "Name organs that the model lacks: --organ KEY"
    if not options.organs:
        problem = "No organ is named."
    elif len(set(options.organs)) < len(options.organs):
        problem = "An organ is named twice."
    elif (reason := _unusable_as_base(base)) is not None:
        problem, step = reason
    elif project.modality != base.metadata.modality:
        problem = f"The project holds {project.modality}, the model segments {base.metadata.modality}."
        step = "Take another model or another project."
    for organ in options.organs if not problem else ():
        if organ in known:
            problem = f"{base.metadata.name} knows {organ} already."
        elif organ not in project.table.keys:
            problem = f"The project has no organ {organ}."
            step = f"Add it: multiorganseg-train project add-organ {project.folder} {organ}"
        elif not any(
            project.matrix.status(case, organ) is LabelStatus.ANNOTATED for case in project.matrix.cases
        ):
            problem = f"In no case of the project {organ} is annotated."
            step = f"Annotate one: multiorganseg-train project annotate {project.folder} --help"
    if problem:
        msg = "These organs cannot be added."
        raise TrainingError(msg, cause=problem, next_step=step)


def _check_merge(base: Bundle, project: Project) -> None:
    said = base.metadata
    lacking = [key for key in said.labels.keys if key not in project.table.keys]
    if not branch_organs(base):
        problem, step = f"{said.name} has none.", "Name a model that learned an organ with a branch."
    elif project.modality != said.modality:
        problem, step = f"The project holds {project.modality}, the model segments {said.modality}.", ""
    elif lacking:
        problem = f"The project has no organ {', '.join(lacking)}."
        step = f"Add them: multiorganseg-train project add-organ {project.folder} {' '.join(lacking)}"
    else:
        return
    msg = "Its branches cannot be merged."
    raise TrainingError(msg, cause=problem, next_step=step or "Take another model or another project.")


def _unusable_as_base(base: Bundle) -> tuple[str, str] | None:
    """Return why a converted network cannot be built on, and what to do; None when it can."""
    said = base.metadata
    if said.folds > 1:
        return (
            f"{said.name} is {said.folds} networks in one; a decoder can be put on one alone.",
            "Convert one of them: multiorganseg models convert … --fold 0",
        )
    if said.in_channels > 1:
        return f"{said.name} takes {said.in_channels} images of a patient.", "Take a model of one image."
    if said.activation == "regions":
        return f"The organs of {said.name} overlap.", "Take a model whose organs do not."
    return None


def add_organ_recipe(base: Bundle, split: Split, options: AddOrganOptions) -> Recipe:
    """Plan the training, all but its length.

    The base's own network and preprocessing, with a branch for the new organs, whose last layer has ten times
    the learning rate; a third of the patches of annotated cases on a new organ.

    Args:
        base: To which organs are added.
        split: Its held-out cases are the validation fold.
        options: Organs and seed.
    """
    said = base.metadata
    organs = (*said.labels.keys, *options.organs)
    looked_for = branch_organs(base) if options.merge else options.organs
    window, original = said.preprocessing.window, said.preprocessing.original
    return Recipe(
        name=run_name(base, options.organs),
        description=said.description
        if options.merge
        else f"{said.description}; and {', '.join(options.organs)}",
        data=DataSpec(
            labels={str(value): key for value, key in enumerate(organs, 1)},
            validation=split.held_out if split.how == "hold-out" else (),
            modality=said.modality,
        ),
        method="distil" if options.merge else "add_organ",
        method_arguments={"teacher": _place_of(base, options)} if options.merge else {},
        seed=options.seed,
        preprocessing=PreprocessingSpec(
            said.preprocessing.spacing_mm,
            **({"window": window} if window else {}),
            intensity=said.preprocessing.intensity,
            original=original.to_json() if original else {},
        ),
        network=NetworkSpec(
            said.architecture,
            _arguments(base, options),
            said.activation,
            said.patch_shape,
            _place_of(base, options),
        ),
        augmentation=AugmentationSpec(organ_centred=0.5, favoured=looked_for, favoured_share=NEW_ORGAN_SHARE),
        optimisation=OptimisationSpec(
            batch_size=options.patches or (SLICES if said.patch_shape[0] == 1 else PATCHES),
            learning_rate=MERGING_RATE if options.merge else 2e-3,
            head_factor=1.0 if options.merge else 10.0,
            weight_decay=1e-4,
            ema_decay=0.99,
        ),
    )


def _arguments(base: Bundle, options: AddOrganOptions) -> dict[str, Any]:
    """Return a network's arguments with one branch more, or none; sigmoids have no background to build on."""
    said = base.metadata
    if options.merge:
        return {
            name: value for name, value in said.arguments.items() if name not in ("branches", "background")
        }
    arguments = {**said.arguments, "branches": [*said.arguments.get("branches", ()), len(options.organs)]}
    return arguments if said.activation == "softmax" else {**arguments, "background": False}


def plan_warnings(wanted: Recipe, recipe: Recipe, split: Split, usable: float | None = None) -> list[str]:
    """Return what a user should know of a plan before it runs.

    Args:
        wanted: Before it was fitted to memory and time.
        recipe: What will run.
        split: What is held out.
        usable: Seconds to `USABLE` iterations, where they are known.
    """
    iterations, patch = recipe.optimisation.iterations, recipe.network.patch_shape
    warnings = []
    if split.how == "none":
        warnings.append(
            "No case can be held out, so that nothing will prove what is learned. Annotate the new organs in "
            "a further case."
        )
    if iterations < USABLE:
        minutes = "" if usable is None else f" They take about {max(1, math.ceil(usable / 60))} minutes here."
        warnings.append(
            f"Only {iterations} iterations: an organ is seldom learned in fewer than {USABLE}.{minutes} Give "
            "more time (--time), fewer patches a step (--patches), or a smaller base (--base), or train on a "
            "GPU."
        )
    if patch != wanted.network.patch_shape:
        warnings.append(
            f"The memory allows patches of {' × '.join(map(str, patch))} voxels instead of "
            f"{' × '.join(map(str, wanted.network.patch_shape))}: the network sees less around an organ."
        )
    if recipe.optimisation.batch_size == 1 < wanted.optimisation.batch_size:
        warnings.append("The memory allows one patch a step, so that cases are not mixed.")
    return warnings


def with_annotated_first(recipe: Recipe, project: Project) -> Recipe:
    """Return the recipe `ANNOTATED_SHARE` of its patches from annotated cases, where there are others."""
    organs = set(recipe.data.table.keys)
    training = set(project.matrix.cases) - set(recipe.data.validation)
    kinds = {bool(project.matrix.known(case) & organs) for case in training}
    count = int(ANNOTATED_SHARE * recipe.optimisation.batch_size) if len(kinds) > 1 else 0
    return replace(recipe, optimisation=replace(recipe.optimisation, labelled_per_batch=count))


def with_iterations(recipe: Recipe, iterations: int, points: int, batches: int = 0) -> Recipe:
    """Return the recipe a length, so many points to its curve of Dice, and so many batches at a time."""
    passes = PASSES if batches else 0
    return replace(
        recipe,
        optimisation=replace(
            recipe.optimisation, iterations=iterations, fixed_batches=batches, passes=passes
        ),
        reporting=ReportingSpec(
            log_every=max(1, iterations // 200),
            validate_every=max(1, iterations // points) if points else 0,
            checkpoint_every=min(50, max(1, iterations // 10)),
        ),
    )


def _place_of(base: Bundle, options: AddOrganOptions) -> str:
    """Return the name where that was asked for, which still holds when the bundles have moved."""
    return options.base if options.base == base.metadata.name else str(base.folder.absolute())


PLAN_FILE = "plan.json"
SCHEMA_VERSION: Literal[1] = 1


@dataclass(frozen=True)
class Plan:
    """What is trained, decided once.

    Attributes:
        recipe: Of the training whose network will be published.
        folds: Held-out cases of each training that comes before it; empty without cross-validation.
        base_sha256: Digest of the base bundle.
    """

    recipe: Recipe
    folds: tuple[tuple[str, ...], ...]
    base_sha256: str
    schema_version: Literal[1] = SCHEMA_VERSION

    @property
    def merges(self) -> bool:
        """Whether branches are merged."""
        return self.recipe.method == "distil"

    @property
    def new_organs(self) -> tuple[str, ...]:
        """Keys of the organs that are learned; none where branches are merged."""
        if self.merges:
            return ()
        return self.recipe.data.table.keys[-self.recipe.network.arguments["branches"][-1] :]


def save_plan(plan: Plan, run: Path) -> None:
    """Write the plan of a run atomically."""
    content = {**vars(plan), "recipe": recipe_to_dict(plan.recipe)}
    write_text_atomically(run / PLAN_FILE, json.dumps(content, indent=2) + "\n")


def load_plan(run: Path) -> Plan | None:
    """Read the plan of a run; None when it has none yet.

    Raises:
        TrainingError: The file is damaged.
    """
    path = run / PLAN_FILE
    if not path.is_file():
        return None
    try:
        content = read_json_object(path)
        content["recipe"] = recipe_of_now(content.get("recipe", {}))
        plan = typed(Plan, content, path.name)
        if plan.new_organs or plan.merges:
            return plan
        cause = "It names no new organ."
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError, TrainingError) as error:
        cause = str(error)
    msg = f"The plan {path} cannot be read."
    raise TrainingError(
        msg, cause=cause, next_step="Delete the run's folder, or name another run: --run NAME"
    )
