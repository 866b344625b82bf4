"""One run from recipe to trained network."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from multiorganseg.atomic import write_text_atomically
from multiorganseg.errors import TrainingError
from multiorganseg.events import EventStream, event_log
from multiorganseg.metrics.summary import mean_of
from multiorganseg.progress import Progress
from multiorganseg_training.build import recipe_method, recipe_network
from multiorganseg_training.cache import prepare_cases
from multiorganseg_training.cases import find_cases, split_cases
from multiorganseg_training.checkpoint import FILE_NAME as CHECKPOINT_FILE
from multiorganseg_training.loop import train
from multiorganseg_training.recipe import UNNAMED, Recipe, recipe_to_dict
from multiorganseg_training.validate import validation_dice

EVENTS_FILE = "events.jsonl"
RECIPE_FILE = "recipe.json"
RESULT_FILE = "result.json"


@dataclass(frozen=True)
class Place:
    """Where a run reads and writes.

    Attributes:
        data: Folder with images/ and labels/.
        run: Folder of the run.
        cache: Folder of prepared cases.
        device: Where to train.
    """

    data: Path
    run: Path
    cache: Path
    device: torch.device


def fit(recipe: Recipe, place: Place, progress: Progress) -> dict[str, dict[str, float]]:
    """Train to the end, from the checkpoint of the run where there is one, and validate.

    The run's folder receives the recipe with every default, the events (JSON lines), the checkpoint and the
    Dice of the last and of the averaged network on the validation fold.

    Returns:
        Mean Dice by organ key, and their "mean", for "last" and "averaged", on the network's grid; NaN where
        an organ occurs in no case. Empty without a validation fold.

    Raises:
        TrainingError: Recipe, data or checkpoint do not fit.
        Cancelled: The user asked for it; the checkpoint is kept.
    """
    place.run.mkdir(parents=True, exist_ok=True)
    with event_log(place.run / EVENTS_FILE) as events:
        try:
            return _fit(recipe, place, events, progress)
        except Exception as error:
            events.fail(error)
            raise


def _fit(
    recipe: Recipe, place: Place, events: EventStream, progress: Progress
) -> dict[str, dict[str, float]]:
    recipe_method(recipe, recipe_network(recipe))
    training, fold = split_cases(find_cases(place.data), recipe.data.validation)
    if not (place.run / CHECKPOINT_FILE).is_file():
        write_text_atomically(place.run / RECIPE_FILE, json.dumps(recipe_to_dict(recipe), indent=2) + "\n")
    unknown_cases = sorted(set(recipe.data.known) - {UNNAMED} - {case.name for case in training})
    if unknown_cases:
        msg = f"The recipe's data.known names cases that do not train: {', '.join(unknown_cases)}."
        raise TrainingError(msg, next_step="Correct the names, or the data folder.")
    cached = [
        prepare_cases(cases, place.cache, recipe.preprocessing, recipe.data.channels, progress)
        for cases in (training, fold)
    ]
    cached[0] = [case.hide_all_but(recipe.data.known_channels(case.name)) for case in cached[0]]
    events.emit(
        "started", recipe=recipe.name, training=len(training), validation=len(fold), device=str(place.device)
    )
    scores: dict[str, dict[str, float]] = {}

    def measure(name: str, network: nn.Module, iteration: int) -> None:
        by_organ = validation_dice(network, recipe, cached[1], place.device, progress)
        scores[name] = {**by_organ, "mean": mean_of(by_organ.values()).value}
        known = _without_nan(scores[name])
        events.emit("metric", name=f"dice of {name} network", iteration=iteration, **known)

    trained = train(
        recipe,
        cached[0],
        place.run,
        place.device,
        events,
        progress,
        lambda network, iteration: measure("averaged", network, iteration),
    )
    if fold:
        progress("validating", 0.0)
        measure("last", trained.last, recipe.optimisation.iterations)
        progress("validating", 0.5)
        measure("averaged", trained.average, recipe.optimisation.iterations)
    known = {name: _without_nan(values) for name, values in scores.items()}
    write_text_atomically(place.run / RESULT_FILE, json.dumps(known, indent=2) + "\n")
    events.emit("finished", **{name: values["mean"] for name, values in known.items()})
    return scores


def _without_nan(values: dict[str, float]) -> dict[str, float | None]:
    return {key: None if math.isnan(value) else value for key, value in values.items()}
