"""Training on another machine: a run is packed, trained there, and what it learned is brought back."""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from multiorganseg.atomic import write_text_atomically
from multiorganseg.bundles import find_bundle
from multiorganseg.bundles.json_text import read_json_object
from multiorganseg.bundles.manifest import bundle_files
from multiorganseg.errors import TrainingError
from multiorganseg.guarded import make_folders
from multiorganseg.progress import Progress
from multiorganseg.projects.runs import run_lock
from multiorganseg_training.acceptance.add_organ import fold_folder
from multiorganseg_training.acceptance.budget import batches_of
from multiorganseg_training.acceptance.plan import Plan, load_plan, save_plan
from multiorganseg_training.data.batches import BatchSource
from multiorganseg_training.data.cache import prepare_cases
from multiorganseg_training.data.cases import split_cases, training_cases
from multiorganseg_training.recipe.file import recipe_to_dict
from multiorganseg_training.recipe.recipe import Recipe
from multiorganseg_training.run.build import recipe_network
from multiorganseg_training.run.checkpoint import FILE_NAME as CHECKPOINT_FILE
from multiorganseg_training.run.checkpoint import Checkpoint, save_checkpoint
from multiorganseg_training.run.fit import RESULT_FILE
from multiorganseg_training.run.fixed import numbered
from multiorganseg_training.run.packed import (
    AVERAGE,
    BASE,
    NETWORK,
    PACK_FILE,
    SCHEMA_VERSION,
    new_pack,
    read_learned,
    save_training,
)

PACKED_FILE = "packed.json"
"""Of a run that was packed: the token by which what comes back is known."""

MOST_PACKED = 100
"""Batches of each training."""


def pack_run(run: Path, project: Path, cache: Path, target: Path, progress: Progress | None = None) -> Path:
    """Write all that a planned run needs for its training into one file.

    It holds the base, recipes without names of cases, and changed and cut-out patches with their labels: no
    whole image, and no name. The run's plan takes over how many batches there are.

    Args:
        run: Folder of a run that adds an organ and has not begun to train.
        project: Folder of its project.
        cache: Folder of prepared cases.
        target: The file, a zip.
        progress: Told each step.

    Raises:
        TrainingError: The run has no plan, merges branches, or has begun to train.
        ResourceError: The file cannot be written.
    """
    progress = progress or Progress()
    with run_lock(run):
        plan = _planned(run)
        recipe = plan.recipe
        iterations = recipe.optimisation.iterations
        count = batches_of(iterations, MOST_PACKED) or iterations
        optimisation = replace(recipe.optimisation, fixed_batches=count, passes=0)
        plan = replace(plan, recipe=replace(recipe, optimisation=optimisation))
        token = secrets.token_hex(16)
        base = find_bundle(plan.recipe.network.initial)
        with new_pack(target) as folder:
            for name in bundle_files(base.folder):
                (folder / BASE / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(base.folder / name, folder / BASE / name)
            names = []
            for name, _, wanted in _trainings(plan, run):
                cases, _ = split_cases(training_cases(project, wanted), wanted.data)
                prepared = prepare_cases(cases, cache, wanted.preprocessing, progress)
                generator = np.random.default_rng(wanted.seed)
                source = BatchSource(wanted, prepared, generator, torch.device("cpu"))
                save_training(folder / name, wanted, numbered(source, wanted.seed), progress)
                names.append(name)
            said = {"schema_version": SCHEMA_VERSION, "token": token, "trainings": names}
            (folder / PACK_FILE).write_text(json.dumps(said), encoding="utf-8")
            progress("writing the file", 0.0)
        save_plan(plan, run)
        write_text_atomically(run / PACKED_FILE, json.dumps({"token": token}) + "\n")
    progress("writing the file", 1.0)
    return target


def unpack_run(learned: Path, run: Path) -> None:
    """Take what was learned elsewhere into a run, which then needs to be judged alone.

    Everything but the new organs' branch is taken from the base, so that old organs cannot have changed.

    Args:
        learned: File that the training of the pack wrote.
        run: Folder of the run that was packed.

    Raises:
        TrainingError: The run was not packed, has trained since, or the file belongs to another run or is
            damaged.
        ResourceError: The run cannot be written.
    """
    with run_lock(run):
        plan = _planned(run)
        path = run / PACKED_FILE
        try:
            token = read_json_object(path)["token"]
        except (OSError, ValueError, KeyError) as error:
            msg = f"The run {run.name} was not packed."
            raise TrainingError(msg, next_step="Pack it: multiorganseg-train pack --help") from error
        trainings = list(_trainings(plan, run))
        states = {name: recipe_network(recipe).state_dict() for name, _, recipe in trainings}
        wanted: dict[str, Tensor] = {}
        for name, state in states.items():
            branch = f"branches.{len(plan.recipe.network.arguments['branches']) - 1}."
            for key, tensor in state.items():
                if key.startswith(branch):
                    wanted |= {f"{name}/{kind}/{key}": tensor for kind in (NETWORK, AVERAGE)}
        tensors = read_learned(learned, str(token), wanted)
        for name, folder, recipe in trainings:
            make_folders(folder)
            whole = {
                kind: {key: tensors.get(f"{name}/{kind}/{key}", own) for key, own in states[name].items()}
                for kind in (NETWORK, AVERAGE)
            }
            iterations = recipe.optimisation.iterations
            said = recipe_to_dict(recipe)
            save_checkpoint(
                Checkpoint(iterations, said, whole[NETWORK], whole[AVERAGE], iterations, {}, {}, {}), folder
            )
            write_text_atomically(folder / RESULT_FILE, "{}\n")


def _planned(run: Path) -> Plan:
    plan = load_plan(run)
    problem = ""
    if plan is None:
        problem = "It has no plan yet."
    elif plan.merges:
        problem = "It merges branches."
    elif any((folder / CHECKPOINT_FILE).is_file() for _, folder, _ in _trainings(plan, run)):
        problem = "It has begun to train."
    if plan is None or problem:
        msg = f"The run {run.name} cannot be trained elsewhere."
        step = "Plan another one: multiorganseg-train add-organ … --plan --run NAME"
        raise TrainingError(msg, cause=problem, next_step=step)
    return plan


def _trainings(plan: Plan, run: Path) -> Iterator[tuple[str, Path, Recipe]]:
    """Yield name, folder and recipe of each training of a run, those of its folds first."""
    for number, held_out in enumerate(plan.folds):
        data = replace(plan.recipe.data, validation=held_out)
        yield f"fold-{number + 1}", fold_folder(run, number), replace(plan.recipe, data=data)
    yield "main", run, plan.recipe
