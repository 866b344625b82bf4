"""What fits into memory and time: sizes of patches and batches, and seconds an iteration."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from math import prod
from statistics import median

import numpy as np
import torch
from torch import Tensor

from multiorganseg.errors import ResourceError
from multiorganseg.events import EventStream
from multiorganseg.inference.windows import plan_windows
from multiorganseg.memory import available_memory
from multiorganseg.networks.branching import BranchingNetwork
from multiorganseg.progress import Progress
from multiorganseg.scratch import work_folder
from multiorganseg_training.acceptance.plan import CURVE_POINTS
from multiorganseg_training.data.cache import PreparedCase
from multiorganseg_training.methods import Batch
from multiorganseg_training.recipe.recipe import Recipe, ReportingSpec
from multiorganseg_training.run.build import recipe_method, recipe_network
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

    A batch of one comes before a smaller patch.

    Args:
        recipe: Whose batch and patch are the largest ones wanted.
        device: Where it will train.
        free: Bytes; those of the device by default.

    Raises:
        ResourceError: Not even the smallest patch fits.
    """
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
    patch = tuple(2 * step for step in network.divisor)
    organs = len(recipe.data.table.keys)
    method = recipe_method(recipe, network)
    generator = np.random.default_rng(0)
    image = torch.from_numpy(generator.standard_normal((batch, 1, *patch), dtype=np.float32))
    known = torch.zeros((batch, organs), dtype=torch.bool)
    known[0, -1] = True
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    precision = recipe.optimisation.precision == "bf16"
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=precision),
    ):
        labels = torch.zeros((batch, *patch), dtype=torch.long)
        method(network.train(), Batch(image, labels, known), generator)
    weights = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    sizes = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in kept}
    return sum(size for place, size in sizes.items() if place not in weights) / (batch * prod(patch))


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
        progress: Reports each iteration.

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
    """Return how many iterations each of several trainings may have.

    At least `FEWEST`; at most `MOST`, since the learning rate falls over the whole length, and a longer run
    would only show the same few cases again.
    """
    return min(max(FEWEST, int(SAFETY * seconds / pace / trainings)), MOST)


def curve_points(
    seconds: float, pace: float, window: tuple[int, int, int], shapes: Sequence[tuple[int, ...]]
) -> int:
    """Return how often the held-out cases may be segmented on the way, at most `CURVE_POINTS` times.

    Args:
        seconds: Of all trainings.
        pace: Seconds of an iteration.
        window: Voxels (k, j, i) of the inference window.
        shapes: Of the held-out cases, prepared.
    """
    windows = sum(plan_windows((shape[0], shape[1], shape[2]), window, OVERLAP).count for shape in shapes)
    cost = windows * pace / STEP_IN_FORWARDS
    return min(CURVE_POINTS, int(CURVE_SHARE * seconds / cost)) if cost else 0
