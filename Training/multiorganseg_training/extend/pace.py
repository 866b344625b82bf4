"""How long an iteration takes, measured before the training."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from statistics import median

import torch

from multiorganseg.events import EventStream
from multiorganseg.inference.windows import plan_windows
from multiorganseg.progress import Progress
from multiorganseg.scratch import work_folder
from multiorganseg_training.cache import PreparedCase
from multiorganseg_training.evaluation.segment_case import OVERLAP
from multiorganseg_training.extend.plan import CURVE_POINTS
from multiorganseg_training.loop import train
from multiorganseg_training.recipe import Recipe, ReportingSpec

WARM_UP = 2
MEASURED = 4
FEWEST, MOST = 20, 20_000
SAFETY = 0.95
STEP_IN_FORWARDS = 8
"""Of a step on two patches, mixed and not: 4, and the branch, nearly half of each, backward at twice that."""

CURVE_SHARE = 0.1
"""Of the training time that validations on the way may take."""


def seconds_per_iteration(
    recipe: Recipe, cases: list[PreparedCase], device: torch.device, progress: Progress
) -> float:
    """Train a few iterations that are thrown away, and give the median of the later ones' seconds.

    The last layer does not train alone in them, so that the time is that of the longer part of the run.

    Args:
        recipe: Of the training.
        cases: Prepared training cases.
        device: Where to train.
        progress: Told each iteration.

    Raises:
        NotFiniteError: The loss or its gradient is not finite.
        Cancelled: The user asked for it.
    """
    moments = [time.perf_counter()]

    def tick(stage: str, fraction: float) -> None:
        moments.append(time.perf_counter())
        progress.report("measuring the pace", fraction)

    short = replace(
        recipe,
        optimisation=replace(recipe.optimisation, iterations=WARM_UP + MEASURED, head_alone=0.0),
        reporting=ReportingSpec(log_every=0, validate_every=0, checkpoint_every=0),
    )
    with work_folder() as folder:
        train(
            short,
            cases,
            folder,
            device,
            EventStream(None),
            Progress(tick, progress.token),
            lambda network, iteration: None,
        )
    each = [later - sooner for sooner, later in pairwise(moments)]
    return median(each[WARM_UP : WARM_UP + MEASURED])


def iterations_in(seconds: float, pace: float, trainings: int) -> int:
    """Give how many iterations each of several trainings may have.

    At least `FEWEST`; at most `MOST`, since the learning rate falls over the whole length, and a longer run
    would only show the same few cases again.
    """
    return min(max(FEWEST, int(SAFETY * seconds / pace / trainings)), MOST)


def curve_points(
    seconds: float, pace: float, window: tuple[int, int, int], shapes: Sequence[tuple[int, ...]]
) -> int:
    """Give how often the held-out cases may be segmented on the way, at most `CURVE_POINTS` times.

    Args:
        seconds: Of all trainings.
        pace: Seconds of an iteration.
        window: Voxels (k, j, i) of the inference window.
        shapes: Of the held-out cases, prepared.
    """
    windows = sum(plan_windows((shape[0], shape[1], shape[2]), window, OVERLAP).count for shape in shapes)
    cost = windows * pace / STEP_IN_FORWARDS
    return min(CURVE_POINTS, int(CURVE_SHARE * seconds / cost)) if cost else 0
