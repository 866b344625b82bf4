"""One run from recipe to trained network."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from multiorganseg.atomic import write_text_atomically
from multiorganseg.errors import Cancelled, ResourceError, TrainingError
from multiorganseg.events import EventKind, EventStream, event_log
from multiorganseg.metrics.report import mean_of
from multiorganseg.progress import Progress
from multiorganseg.projects.runs import EVENTS_FILE, Paused, pausing, run_lock, withdraw_pause
from multiorganseg.scratch import clean_up
from multiorganseg_training.data.cache import PreparedCase, prepare_cases
from multiorganseg_training.data.cases import Case, split_cases, training_cases
from multiorganseg_training.recipe.file import recipe_to_dict
from multiorganseg_training.recipe.recipe import UNNAMED, Recipe
from multiorganseg_training.run.build import build_training
from multiorganseg_training.run.checkpoint import FILE_NAME as CHECKPOINT_FILE
from multiorganseg_training.run.devices import Devices
from multiorganseg_training.run.loop import NotFiniteError, train
from multiorganseg_training.run.validate import validation_dice

RECIPE_FILE = "recipe.json"
RESULT_FILE = "result.json"


@dataclass(frozen=True)
class Place:
    """Where a run reads and writes.

    Attributes:
        data: Folder with images/ and labels/, or of a project.
        run: Folder of the run.
        cache: Folder of prepared cases.
        device: Where to train.
        devices: Those that train together.
    """

    data: Path
    run: Path
    cache: Path
    device: torch.device
    devices: Devices = field(default_factory=Devices)


def fit(
    recipe: Recipe, place: Place, progress: Progress, started: float | None = None
) -> dict[str, dict[str, float]]:
    """Train to the end, from the checkpoint of the run where there is one, and validate.

    The run's folder receives the recipe with every default, the events (JSON lines), the checkpoint and the
    Dice of the last and of the averaged network on the validation fold. Its lock is held all the time; a
    request to pause that lies there from before is forgotten.

    Args:
        recipe: What to do.
        place: Where.
        progress: Reports every step.
        started: When the program began, in seconds since the epoch; a request to pause made since then is
            obeyed. The time of the call by default.

    Returns:
        Mean Dice by organ key, and their "mean", for "last" and "averaged", on the network's grid; NaN where
        an organ occurs in no case. Empty without a validation fold.

    Raises:
        TrainingError: Recipe, data or checkpoint do not fit, or the run goes on in another program.
        Cancelled: The user asked for it; the checkpoint is kept.
        Paused: A pause was requested; the checkpoint is kept.
    """
    started = time.time() if started is None else started
    with run_lock(place.run):
        withdraw_pause(place.run, started)
        clean_up(place.run)
        with event_log(place.run / EVENTS_FILE, place.data) as events, report_end(events):
            return fit_locked(recipe, place, events, progress)


@contextmanager
def report_end(events: EventStream) -> Iterator[None]:
    """Report that the block was paused or failed, where it does not come to its end."""
    try:
        yield
    except (Cancelled, Paused):
        events.emit(EventKind.PAUSED)
        raise
    except Exception as error:
        with suppress(ResourceError):  # a full disk is reported by `error` itself
            events.fail(error)
        raise


def fit_locked(
    recipe: Recipe, place: Place, events: EventStream, progress: Progress
) -> dict[str, dict[str, float]]:
    """Do what `fit` does, without its lock and without telling how it ends early.

    Args:
        recipe: What to do.
        place: Where; nobody else may write into the folder of the run.
        events: Told all but the pause or the failure.
        progress: Reports every step.

    Returns:
        As `fit`.

    Raises:
        TrainingError: As `fit`.
        Cancelled: As `fit`.
        Paused: As `fit`.
    """
    built = build_training(recipe, place.device, place.run)
    training, fold = split_cases(training_cases(place.data, recipe), recipe.data)
    if not (place.run / CHECKPOINT_FILE).is_file():
        write_text_atomically(place.run / RECIPE_FILE, json.dumps(recipe_to_dict(recipe), indent=2) + "\n")
    unknown_cases = sorted(set(recipe.data.known) - {UNNAMED} - {case.name for case in training})
    if unknown_cases:
        msg = f"The recipe's data.known names cases that do not train: {', '.join(unknown_cases)}."
        raise TrainingError(msg, next_step="Correct the names, or the data folder.")
    if built[1].complete:
        _require_all(training, recipe)
    watched = pausing(place.run, progress)
    cached = [prepare_cases(cases, place.cache, recipe.preprocessing, watched) for cases in (training, fold)]
    events.emit(
        EventKind.STARTED,
        recipe=recipe.name,
        training=len(training),
        validation=len(fold),
        device=str(place.device),
        pid=os.getpid(),
    )
    if not built[1].taught:
        _tell_unannotated(cached[0], recipe, events)
    scores: dict[str, dict[str, float]] = {}

    def measure(name: str, network: nn.Module, iteration: int) -> None:
        by_organ = validation_dice(network, recipe, cached[1], place.device, progress)
        scores[name] = {**by_organ, "mean": mean_of(by_organ.values()).value}
        known = _without_nan(scores[name])
        events.emit(EventKind.METRIC, name=f"dice of {name} network", iteration=iteration, values=known)

    place.devices.send((recipe, place.data, place.run, place.cache))
    trained = train(
        recipe,
        cached[0],
        place.run,
        place.device,
        events,
        progress,
        lambda network, iteration: measure("averaged", network, iteration),
        place.devices,
        built=built,
    )
    if fold:
        progress("validating", 0.0)
        measure("last", trained.last, recipe.optimisation.iterations)
        progress("validating", 0.5)
        measure("averaged", trained.average, recipe.optimisation.iterations)
    known = {name: _without_nan(values) for name, values in scores.items()}
    write_text_atomically(place.run / RESULT_FILE, json.dumps(known, indent=2) + "\n")
    events.emit(EventKind.FINISHED, **{name: values["mean"] for name, values in known.items()})
    return scores


def follow(devices: Devices, device: torch.device) -> None:
    """Train with the first device, run after run, until it has ended.

    Args:
        devices: Those that train together; this one is not the first.
        device: Of this process.

    Raises:
        TrainingError: As `fit`.
        ResourceError: Memory ran out, or the first device is gone.
    """
    nothing: Any = None
    while (task := devices.send(nothing)) is not None:
        recipe, data, run, cache = task
        training, _ = split_cases(training_cases(data, recipe), recipe.data)
        cases = prepare_cases(training, cache, recipe.preprocessing, Progress())
        with suppress(Cancelled, NotFiniteError):
            train(recipe, cases, run, device, EventStream(), Progress(), lambda *_: None, devices)


def _without_nan(values: dict[str, float]) -> dict[str, float | None]:
    return {key: None if math.isnan(value) else value for key, value in values.items()}


def _require_all(cases: list[Case], recipe: Recipe) -> None:
    partial = [case.name for case in cases if not recipe.data.table.organs.keys() <= case.known]
    if partial:
        msg = f"The method '{recipe.method}' needs every organ annotated in every case."
        raise TrainingError(
            msg,
            cause=f"Some are not in {', '.join(partial[:3])}{' and others' if partial[3:] else ''}.",
            next_step="Take the method 'partial' or 'ltuda', or remove data.known.",
        )


def _tell_unannotated(cases: list[PreparedCase], recipe: Recipe, events: EventStream) -> None:
    """Warn of organs that no case teaches; refuse where that is all of them."""
    organs, found = recipe.data.table.organs, set[int]()
    for case in cases:
        if found >= organs.keys():
            return
        found |= case.known & set(np.unique(case.labels).tolist())
    lacking = [key for channel, key in organs.items() if channel not in found]
    if not found:
        msg = "No organ of the recipe is annotated in a case that trains."
        raise TrainingError(msg, next_step="Correct data.labels and data.known, or the label maps.")
    if lacking:
        message = f"No case that trains has {', '.join(lacking)} annotated: the network cannot learn it."
        events.emit(EventKind.WARNING, message=message)
