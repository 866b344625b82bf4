"""What fits into memory and time: sizes of patches and batches, and seconds an iteration."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import prod
from pathlib import Path
from shutil import disk_usage
from statistics import median

import numpy as np
import torch
from torch import Tensor

from multiorganseg.errors import ResourceError
from multiorganseg.events import EventStream
from multiorganseg.inference.backends import computes_bf16
from multiorganseg.inference.windows import plan_windows
from multiorganseg.memory import available_memory
from multiorganseg.networks.branching import BranchingNetwork
from multiorganseg.progress import Progress
from multiorganseg.scratch import work_folder
from multiorganseg_training.acceptance.plan import CURVE_POINTS, GOOD, PASSES, USABLE
from multiorganseg_training.data.cache import PreparedCase
from multiorganseg_training.methods import Batch
from multiorganseg_training.recipe.recipe import Recipe, ReportingSpec
from multiorganseg_training.run.build import recipe_method, recipe_network
from multiorganseg_training.run.fixed import kept_bytes
from multiorganseg_training.run.loop import train
from multiorganseg_training.run.validate import OVERLAP

USED_SHARE = 0.7
"""Of the free memory that a training may take."""

OVERHEAD = 1.6
"""What a step needs beyond the tensors kept for the backward pass, as a factor: gradients and buffers."""

COPIES = 6
"""Of the weights: network, average, gradient, two moments, one being written."""


def fit_memory(recipe: Recipe, device: torch.device, free: int | None = None) -> Recipe:
    """Return the recipe the largest batch and patch, up to its own, that fit into memory.

    A batch of one comes before a smaller patch. Where the device has no bfloat16 the recipe is in float32,
    which takes more.

    Args:
        recipe: Whose batch and patch are the largest ones wanted.
        device: Where it will train.
        free: Bytes; those of the device by default.

    Raises:
        ResourceError: Not even the smallest patch fits.
    """
    if not computes_bf16(device):
        recipe = in_float32(recipe)
    free = free_bytes(device) if free is None else free
    network = recipe_network(recipe)
    weights = COPIES * sum(tensor.nbytes for tensor in network.state_dict().values())
    per_voxel = {batch: bytes_per_voxel(recipe, network, batch) for batch in (1, 2)}
    for batch, patch in _candidates(recipe, network):
        if weights + OVERHEAD * per_voxel[min(batch, 2)] * batch * prod(patch) <= USED_SHARE * free:
            return replace(
                recipe,
                network=replace(recipe.network, patch_shape=patch),
                optimisation=replace(recipe.optimisation, batch_size=batch),
            )
    msg = f"{free / 2**30:.1f} GiB of free memory do not suffice to train this network."
    raise ResourceError(msg, next_step="Close other programs, or train on another device.")


def in_float32(recipe: Recipe) -> Recipe:
    """Return the recipe with nothing in bfloat16."""
    return replace(recipe, optimisation=replace(recipe.optimisation, precision="fp32"))


def free_bytes(device: torch.device) -> int:
    """Return the free memory of a device; of the machine for all but CUDA."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return available_memory()


def bytes_per_voxel(recipe: Recipe, network: BranchingNetwork, batch: int = 2) -> float:
    """Measure what a step keeps for the backward pass, on a small patch on the CPU.

    Args:
        recipe: Names the method.
        network: As `recipe_network` gives it.
        batch: How many patches; a single one is not mixed.

    Returns:
        Bytes for each voxel of a batch.
    """
    method = recipe_method(recipe, network)
    small, generator = _small_batch(recipe, network, batch)
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    precision = recipe.optimisation.precision == "bf16"
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=precision),
    ):
        method(network.train(), small, generator)
    weights = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    sizes = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in kept}
    return sum(size for place, size in sizes.items() if place not in weights) / small.labels.numel()


def _small_batch(recipe: Recipe, network: BranchingNetwork, size: int) -> tuple[Batch, np.random.Generator]:
    """Return patches of noise, the last organ annotated in the first of them, and what goes on from there."""
    patch = tuple(2 * step for step in network.divisor)
    generator = np.random.default_rng(0)
    image = torch.from_numpy(generator.standard_normal((size, 1, *patch), dtype=np.float32))
    known = torch.zeros((size, len(recipe.data.table.keys)), dtype=torch.bool)
    known[0, -1] = True
    return Batch(image, torch.zeros((size, *patch), dtype=torch.long), known), generator


def _candidates(recipe: Recipe, network: BranchingNetwork) -> Iterator[tuple[int, tuple[int, int, int]]]:
    patch = list(recipe.network.patch_shape)
    for batch in range(recipe.optimisation.batch_size, 1, -1):
        yield batch, recipe.network.patch_shape
    while True:
        yield 1, (patch[0], patch[1], patch[2])
        axis = max(range(3), key=lambda number: patch[number] / network.divisor[number])
        if patch[axis] <= 2 * network.divisor[axis]:
            return
        patch[axis] -= network.divisor[axis]


WARM_UP = 1
NEW = 2
AGAIN = 4
"""Iterations of a trial: the first one, those of batches not seen before, and those of batches seen again."""

FEWEST, MOST = 20, 20_000
SAFETY = 0.95
STEP_IN_FORWARDS = 8
"""Of a step on two patches, mixed and not: as many forwards of the whole network."""

CURVE_SHARE = 0.1
"""Of the training time that validations on the way may take."""

FEWEST_BATCHES = 16
"""Fewer batches at a time are too few to learn from; then each is drawn anew."""

MOST_KEPT, KEPT_SHARE = 8 * 2**30, 0.25
"""Bytes of batches that a run may keep, and their share of the free disk."""


@dataclass(frozen=True)
class Pace:
    """Seconds of an iteration.

    Attributes:
        new: On a batch that was not seen before.
        again: On a batch that was: what is frozen was kept.
    """

    new: float
    again: float

    def seconds(self, iterations: int, batches: int) -> float:
        """Return the seconds of a training.

        Args:
            iterations: Its length.
            batches: How many at a time, each seen `PASSES` times; 0 for a new one each time.
        """
        fresh = iterations
        if batches:
            earlier, rest = divmod(iterations, batches * PASSES)
            fresh = earlier * batches + min(rest, batches)
        return fresh * self.new + (iterations - fresh) * self.again

    def iterations(self, seconds: float, most_batches: int) -> tuple[int, int]:
        """Return how many iterations a time allows, and on how many batches at a time, 0 for all new.

        Args:
            seconds: Of the training.
            most_batches: For which there is room on the disk.
        """
        iterations = int(PASSES * seconds / (self.new + (PASSES - 1) * self.again))
        batches = batches_of(iterations, most_batches)
        if not batches or self.again >= self.new:
            return max(FEWEST, min(int(seconds / self.new), MOST)), 0
        whole, left = divmod(seconds, batches * (self.new + (PASSES - 1) * self.again))
        begun = min(int(left / self.new), batches)
        if begun == batches:
            begun += int((left - batches * self.new) / self.again)
        iterations = int(whole) * batches * PASSES + begun
        return max(FEWEST, min(iterations, MOST)), batches


def batches_of(iterations: int, room: int) -> int:
    """Return how many batches at a time so many iterations take; 0 for a new one each time.

    Args:
        iterations: Of the training.
        room: For how many batches the disk has room.
    """
    batches = max(math.ceil(iterations / PASSES), FEWEST_BATCHES)
    return min(batches, room) if min(iterations, room) > FEWEST_BATCHES else 0


def measure_pace(recipe: Recipe, cases: list[PreparedCase], device: torch.device, progress: Progress) -> Pace:
    """Train a few iterations that are thrown away, and give the medians of their seconds.

    The last layer does not train alone in them, so that the time is that of the longer part of the run.

    Args:
        recipe: Of the training.
        cases: Prepared training cases.
        device: Where to train.
        progress: Reports each iteration.

    Raises:
        NotFiniteError: The loss or its gradient is not finite.
        Cancelled: The user asked for it.
    """
    moments = [time.perf_counter()]

    def tick(stage: str, fraction: float) -> None:
        moments.append(time.perf_counter())
        progress.report("measuring the pace", fraction)

    first = WARM_UP + NEW
    short = replace(
        recipe,
        optimisation=replace(
            recipe.optimisation, iterations=first + AGAIN, fixed_batches=first, head_alone=0.0
        ),
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
    return Pace(median(each[WARM_UP:first]), median(each[first : first + AGAIN]))


def most_batches(recipe: Recipe, run: Path) -> int:
    """Return how many batches of a recipe a run may keep: `MOST_KEPT`, and a share of its free disk.

    Args:
        recipe: Its method, patch and batch.
        run: Folder of the run, or one in which it will lie.
    """
    network = recipe_network(recipe)
    method = recipe_method(recipe, network)
    if not method.frozen:
        return 0
    batch, generator = _small_batch(recipe, network, recipe.optimisation.batch_size)
    small = kept_bytes(method.see(network, batch, generator))
    each = small * prod(recipe.network.patch_shape) / prod(batch.labels.shape[1:])
    return int(min(MOST_KEPT, KEPT_SHARE * disk_usage(run).free) / each)


@dataclass(frozen=True)
class Estimate:
    """What a training takes, all of its folds together.

    Attributes:
        usable: Seconds to `USABLE` iterations of each training.
        good: Seconds to `GOOD` iterations.
    """

    usable: float
    good: float

    @property
    def text(self) -> str:
        """For people."""
        first, second = (max(1, round(seconds / 60)) for seconds in (self.usable, self.good))
        return (
            f"About {first} {'minute' if first == 1 else 'minutes'} of training to a first usable result, "
            f"{second} to a good one."
        )


def estimate(pace: Pace, trainings: int, room: int) -> Estimate:
    """Return what a training takes at a pace.

    Args:
        pace: Measured.
        trainings: How many, with those of the folds.
        room: For how many batches the disk has room.
    """

    def seconds(iterations: int) -> float:
        return trainings * pace.seconds(iterations, batches_of(iterations, room)) / SAFETY

    return Estimate(seconds(USABLE), seconds(GOOD))


def curve_points(
    seconds: float, pace: Pace, window: tuple[int, int, int], shapes: Sequence[tuple[int, ...]]
) -> int:
    """Return how often the held-out cases may be segmented on the way, at most `CURVE_POINTS` times.

    Args:
        seconds: Of all trainings.
        pace: Of an iteration.
        window: Voxels (k, j, i) of the inference window.
        shapes: Of the held-out cases, prepared.
    """
    windows = sum(plan_windows((shape[0], shape[1], shape[2]), window, OVERLAP).count for shape in shapes)
    cost = windows * pace.new / STEP_IN_FORWARDS
    return min(CURVE_POINTS, int(CURVE_SHARE * seconds / cost)) if cost else 0
