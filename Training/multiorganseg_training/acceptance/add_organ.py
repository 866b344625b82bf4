"""From an annotated project to a network with further organs, and its acceptance check."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from multiorganseg.bundles import Bundle, find_bundle
from multiorganseg.errors import TrainingError
from multiorganseg.events import EventKind, EventStream, event_log
from multiorganseg.guarded import guarded_folder, make_folders
from multiorganseg.progress import Progress
from multiorganseg.projects.acceptance import AcceptanceReport
from multiorganseg.projects.runs import EVENTS_FILE, Paused, is_pause_requested, run_lock, withdraw_pause
from multiorganseg.scratch import clean_up
from multiorganseg_training.acceptance.budget import (
    SAFETY,
    Estimate,
    Pace,
    batches_of,
    curve_points,
    estimate,
    fit_memory,
    in_float32,
    measure_pace,
    most_batches,
)
from multiorganseg_training.acceptance.check import FOLDS, check_run, hold_out
from multiorganseg_training.acceptance.compare import CheckOptions
from multiorganseg_training.acceptance.plan import (
    CURVE_POINTS,
    AddOrganOptions,
    Plan,
    add_organ_recipe,
    branch_organs,
    check_options,
    load_plan,
    plan_warnings,
    save_plan,
    with_annotated_first,
    with_iterations,
)
from multiorganseg_training.data.cache import PreparedCase, prepare_cases
from multiorganseg_training.data.cases import training_cases
from multiorganseg_training.project import Project, load_project
from multiorganseg_training.recipe.recipe import Recipe
from multiorganseg_training.run.checkpoint import FILE_NAME as CHECKPOINT_FILE
from multiorganseg_training.run.checkpoint import load_checkpoint
from multiorganseg_training.run.devices import Devices
from multiorganseg_training.run.fit import RESULT_FILE, Place, fit_locked, report_end
from multiorganseg_training.run.loop import TRAINING, NotFiniteError


class PartEvents(EventStream):
    """Counts iterations over all trainings and names the one in progress; its start and end are not reported.

    Args:
        whole: Receives the events.
        number: Of this training, from 0.
        count: How many trainings there are.
        iterations: Of each.
    """

    def __init__(self, whole: EventStream, number: int, count: int, iterations: int) -> None:
        super().__init__()
        self._whole = whole
        self._number = number
        self._count = count
        self._iterations = iterations

    @property
    def stage(self) -> str:
        """The training's name, for people."""
        last = self._number == self._count - 1
        return "training" if last else f"training without fold {self._number + 1} of {self._count - 1}"

    def emit(self, kind: EventKind, /, **content: Any) -> None:
        """Write one event."""
        if kind in (EventKind.STARTED, EventKind.FINISHED):
            return
        if kind in (EventKind.PROGRESS, EventKind.METRIC):
            content["iteration"] += self._number * self._iterations
        if kind == EventKind.PROGRESS:
            left = (self._count - 1 - self._number) * self._iterations
            content["iterations"] = self._count * self._iterations
            content["eta_seconds"] += round(left * content["seconds_per_iteration"])
            content["stage"] = self.stage
        self._whole.emit(kind, **content)


BEGUN_ANEW = "bfloat16 fails on this device: the training begins anew in float32, which takes longer."


@dataclass(frozen=True)
class Workplace:
    """Where adding an organ reads and writes.

    Attributes:
        project: Folder of the project.
        run: Folder of the run.
        cache: Folder of prepared cases.
        device: Where to train.
        devices: Those that train together; the first one alone plans and judges.
    """

    project: Path
    run: Path
    cache: Path
    device: torch.device
    devices: Devices = field(default_factory=Devices)


def _ignore(message: str) -> None:
    return None


def add_organ(
    options: AddOrganOptions,
    place: Workplace,
    progress: Progress,
    warn: Callable[[str], None] = _ignore,
    started: float | None = None,
    tell: Callable[[str], None] = _ignore,
    *,
    only_plan: bool = False,
) -> AcceptanceReport | None:
    """Teach a network further organs from a project's annotated cases, and judge the result.

    The first call plans: it holds cases out, fits batch and patch to the memory, and measures an iteration to
    know how many the time allows. The plan lies in the run's folder, and the same call again goes on where
    the run was. With few cases, one training a fold comes before the one on all cases. The lock of the run's
    folder is held all the time; a request to pause is obeyed at every step, and forgotten at the next start.

    Args:
        options: What to learn, and for how long; a run that has begun keeps its plan.
        place: Where.
        progress: Reports every step; cancelling keeps a checkpoint.
        warn: Told what the user should know of the plan; the events tell it too.
        started: As for `fit`.
        tell: Told before the training how long it takes to be usable, and to be good.
        only_plan: Whether to stop before the training, which may then run elsewhere.

    Returns:
        The acceptance report; None where nothing but the plan was asked for.

    Raises:
        TrainingError: The options cannot be met, the run was begun with others, or it goes on in another
            program.
        BundleError: The base is missing or damaged.
        ResourceError: The memory does not suffice, or the folder cannot be written.
        Cancelled: The user asked for it.
        Paused: A pause was requested.
    """
    started = time.time() if started is None else started
    project, base = load_project(place.project), find_bundle(options.base)
    check_options(base, project, options)
    with guarded_folder(place.project), run_lock(place.run):
        plan = _begun(base, options, place.run)
        withdraw_pause(place.run, started)
        clean_up(place.run)
        with event_log(place.run / EVENTS_FILE) as events, report_end(events):
            events.emit(EventKind.STARTED, recipe=place.run.name, device=str(place.device), pid=os.getpid())
            if plan is None:
                pausing = _pausing(place, events, progress, 0, 0)
                plan, warnings, expected = _plan(base, project, options, place, pausing)
                save_plan(plan, place.run)
                if expected is not None:
                    done = _pausing(place, events, progress, 0, plan.recipe.optimisation.iterations)
                    done(expected.text, 0.0)
                    tell(expected.text)
                for message in warnings:
                    events.emit(EventKind.WARNING, message=message)
                    warn(message)
            if only_plan:
                events.emit(EventKind.PAUSED)
                return None
            plan = _train_finitely(plan, place, events, progress, warn)
            acceptance = _judge(plan, base, project, place, events, progress)
            events.emit(EventKind.FINISHED, passed=acceptance.passed)
            return acceptance


def _plan(
    base: Bundle, project: Project, options: AddOrganOptions, place: Workplace, progress: Progress
) -> tuple[Plan, list[str], Estimate | None]:
    organs = branch_organs(base) if options.merge else options.organs
    split = hold_out(project, organs, options.seed)
    wanted = add_organ_recipe(base, split, options)
    folds = tuple(fold.held_out for fold in split.folds)
    expected = None
    if options.iterations is not None:
        recipe = fit_memory(wanted, place.device)
        batches = batches_of(options.iterations, most_batches(recipe, place.run))
        recipe = with_iterations(recipe, options.iterations, CURVE_POINTS, batches)
    else:
        cases = prepare_cases(
            training_cases(place.project, wanted), place.cache, wanted.preprocessing, progress
        )
        training = [case for case in cases if case.name not in wanted.data.validation]
        recipe, pace = _paced(wanted, training, place.device, progress)
        room, trainings = most_batches(recipe, place.run), 1 + len(folds)
        iterations, batches = pace.iterations(SAFETY * options.seconds / trainings, room)
        shapes = [case.image.shape for case in cases if case.name in split.held_out]
        points = curve_points(options.seconds, pace, recipe.network.patch_shape, shapes)
        recipe = with_iterations(recipe, iterations, points, batches)
        expected = estimate(pace, trainings, room)
    plan = Plan(with_annotated_first(recipe, project), folds, base.digest)
    return plan, plan_warnings(wanted, recipe, split, expected.usable if expected else None), expected


def _paced(
    wanted: Recipe, cases: list[PreparedCase], device: torch.device, progress: Progress
) -> tuple[Recipe, Pace]:
    """Return the recipe that fits into memory, in float32 where bfloat16 fails, and its pace."""
    recipe = fit_memory(wanted, device)
    try:
        return recipe, measure_pace(recipe, cases, device, progress)
    except NotFiniteError:
        recipe = fit_memory(in_float32(wanted), device)
        return recipe, measure_pace(recipe, cases, device, progress)


def _exact_plan(plan: Plan, place: Workplace, error: NotFiniteError) -> Plan:
    """Let the trainings that have not ended begin anew in float32.

    Raises:
        TrainingError: They are in float32.
    """
    if plan.recipe.optimisation.precision == "fp32":
        msg = "The training does not converge."
        raise TrainingError(
            msg,
            cause=error.problem,
            next_step=f"Check the annotations: multiorganseg-train project check {place.project}. Then begin "
            "another run: --run NAME --seed 1",
        ) from error
    for run in [place.run, *(fold_folder(place.run, number) for number in range(len(plan.folds)))]:
        if not (run / RESULT_FILE).is_file():
            (run / CHECKPOINT_FILE).unlink(missing_ok=True)
    exact = replace(plan, recipe=fit_memory(in_float32(plan.recipe), place.device))
    save_plan(exact, place.run)
    return exact


def _begun(base: Bundle, options: AddOrganOptions, run: Path) -> Plan | None:
    """Return the plan of a run that has begun.

    Raises:
        TrainingError: It was begun with other options, or adds no organ.
    """
    plan = load_plan(run)
    if plan is None:
        cause = "It is a training of another kind." if load_checkpoint(run) is not None else ""
    elif plan.base_sha256 != base.digest:
        cause = f"It was begun with another base, or another version of {base.metadata.name}."
    elif plan.merges != options.merge:
        cause = "It was begun to merge branches." if plan.merges else "It was begun to learn organs."
    elif plan.new_organs != options.organs:
        cause = f"It was begun for {', '.join(plan.new_organs)}."
    elif plan.recipe.seed != options.seed:
        cause = f"It was begun with the seed {plan.recipe.seed}."
    elif options.iterations not in (None, plan.recipe.optimisation.iterations):
        cause = f"It was begun with {plan.recipe.optimisation.iterations} iterations."
    else:
        cause = ""
    if cause:
        msg = f"The run {run.name} cannot go on so."
        raise TrainingError(msg, cause=cause, next_step="Begin another run: --run NAME")
    return plan


def _train_finitely(
    plan: Plan, place: Workplace, events: EventStream, progress: Progress, warn: Callable[[str], None]
) -> Plan:
    try:
        _train(plan, place, events, progress)
    except NotFiniteError as error:
        exact = _exact_plan(plan, place, error)
        events.emit(EventKind.WARNING, message=BEGUN_ANEW)
        warn(BEGUN_ANEW)
        return _train_finitely(exact, place, events, progress, warn)
    return plan


def _train(plan: Plan, place: Workplace, events: EventStream, progress: Progress) -> None:
    count, iterations = 1 + len(plan.folds), plan.recipe.optimisation.iterations
    for number in range(count):
        run, recipe = place.run, plan.recipe
        if number < len(plan.folds):
            run = fold_folder(place.run, number)
            recipe = replace(recipe, data=replace(recipe.data, validation=plan.folds[number]))
            make_folders(run)
            clean_up(run)
        if (run / RESULT_FILE).is_file():
            continue
        part = PartEvents(events, number, count, iterations)
        prefix = part.stage if plan.folds else ""
        pausing = _pausing(place, None, progress, number * iterations, count * iterations, prefix, iterations)
        fit_locked(recipe, Place(place.project, run, place.cache, place.device, place.devices), part, pausing)


def fold_folder(run: Path, number: int) -> Path:
    """Return the folder of a fold's training, counted from 0."""
    return run / FOLDS / str(number + 1)


def _judge(
    plan: Plan, base: Bundle, project: Project, place: Workplace, events: EventStream, progress: Progress
) -> AcceptanceReport:
    done = (1 + len(plan.folds)) * plan.recipe.optimisation.iterations
    pausing = _pausing(place, events, progress, done, done)
    acceptance = check_run(place.run, project, CheckOptions(device=place.device.type), pausing, base=base)
    events.emit(
        EventKind.ACCEPTANCE,
        passed=acceptance.passed,
        organs={
            key: {"old": organ.dice_old, "new": organ.dice_new, "verdict": organ.verdict.value}
            for key, organ in acceptance.organs.items()
        },
    )
    return acceptance


def _pausing(
    place: Workplace,
    events: EventStream | None,
    progress: Progress,
    done: int,
    total: int,
    prefix: str = "",
    iterations: int = 0,
) -> Progress:
    """Return a progress that raises `Paused` where a pause is requested, and tells stages as events."""
    stages: list[str] = []
    reached = done

    def report(stage: str, fraction: float) -> None:
        nonlocal reached
        if stage.startswith(TRAINING):
            reached = done + round(fraction * iterations)
        if events is not None and stage not in stages:
            stages.append(stage)
            events.emit(EventKind.PROGRESS, iteration=done, iterations=total, stage=stage)
        progress.report(f"{prefix}: {stage}" if prefix else stage, fraction)
        if is_pause_requested(place.run):
            raise Paused(reached, total)

    return Progress(report, progress.token)
