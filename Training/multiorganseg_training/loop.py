"""The training loop. It knows neither methods nor devices by name."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from multiorganseg.bundles.registry import find_bundle
from multiorganseg.errors import Cancelled, TrainingError
from multiorganseg.events import EventStream
from multiorganseg.inference.backends import load_network
from multiorganseg.networks.build import build_network
from multiorganseg.progress import Progress
from multiorganseg_training.augment import random_patch
from multiorganseg_training.average import WeightAverage
from multiorganseg_training.cache import PreparedCase
from multiorganseg_training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from multiorganseg_training.methods import Batch, Step, build_method
from multiorganseg_training.recipe import OptimisationSpec, Recipe, recipe_to_dict
from multiorganseg_training.sampling import PatchSampler
from multiorganseg_training.schedule import warmup_cosine

Validate = Callable[[nn.Module, int], None]


@dataclass(frozen=True)
class Trained:
    """What a finished run gives.

    Attributes:
        last: The network after the last iteration.
        average: The averaged network.
    """

    last: nn.Module
    average: nn.Module


def recipe_network(recipe: Recipe) -> nn.Module:
    """Build the recipe's network: one channel in; background and one an organ out.

    Raises:
        TrainingError: The patch does not suit the network, or the bundle that the recipe starts from has
            another network or other organs.
        BundleError: That bundle is missing or damaged, or the architecture is unknown.
    """
    spec = recipe.network
    network = _bundle_network(recipe) if spec.initial else _new_network(recipe)
    divisor: tuple[int, int, int] = network.divisor  # type: ignore[assignment]
    if any(size % step for size, step in zip(spec.patch_shape, divisor, strict=True)):
        msg = f"The network cannot take patches of {' × '.join(map(str, spec.patch_shape))} voxels."
        raise TrainingError(
            msg,
            cause=f"Its stages halve the patch down to cells of {' × '.join(map(str, divisor))} voxels.",
            next_step="Set network.patch_shape to multiples of these.",
        )
    return network


def _new_network(recipe: Recipe) -> nn.Module:
    spec, channels = recipe.network, len(recipe.data.labels) + 1
    return build_network(spec.architecture, {"in_channels": 1, "out_channels": channels, **spec.arguments})


def _bundle_network(recipe: Recipe) -> nn.Module:
    spec = recipe.network
    bundle = find_bundle(spec.initial)
    theirs = bundle.metadata
    if (theirs.architecture, theirs.arguments, theirs.labels.keys) != (
        spec.architecture,
        spec.arguments,
        recipe.data.table.keys,
    ):
        msg = f"The training cannot start from the bundle '{spec.initial}'."
        raise TrainingError(
            msg,
            cause="Its architecture, arguments or organs are not those of the recipe.",
            next_step="Copy them from its configs/metadata.json, or leave network.initial away.",
        )
    return load_network(bundle)


def train(
    recipe: Recipe,
    cases: list[PreparedCase],
    run: Path,
    device: torch.device,
    events: EventStream,
    progress: Progress,
    validate: Validate,
) -> Trained:
    """Train from the run's checkpoint, or from the start, to the last iteration.

    Args:
        recipe: What to do.
        cases: Prepared training cases.
        run: Folder of the run, for checkpoints.
        device: Where to train.
        events: Told progress and metrics.
        progress: Told each iteration; cancelling saves a checkpoint first.
        validate: Called with the averaged network and the iteration.

    Raises:
        TrainingError: The loss or its gradient is not finite, or the checkpoint belongs to another recipe.
        Cancelled: The user asked for it.
    """
    torch.manual_seed(recipe.seed)
    generator = np.random.default_rng(recipe.seed)
    optimisation, reporting = recipe.optimisation, recipe.reporting
    network = recipe_network(recipe).to(device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    average = WeightAverage(network, optimisation.ema_decay)
    optimiser = _build_optimiser(network, optimisation)
    sampler = PatchSampler(cases, recipe.augmentation.organ_centred, generator)
    first = _resume(run, recipe, network, average, optimiser, generator)
    method = build_method(recipe.method, recipe.method_arguments)
    seconds = 0.0

    def save(iteration: int) -> None:
        save_checkpoint(
            Checkpoint(
                iteration,
                recipe_to_dict(recipe),
                network.state_dict(),
                average.network.state_dict(),
                average.updates,
                optimiser.state_dict(),
                dict(generator.bit_generator.state),
            ),
            run,
        )

    network.train()
    for iteration in range(first, optimisation.iterations):
        started = time.perf_counter()
        factor = warmup_cosine(iteration, optimisation.iterations, optimisation.warmup)
        for group in optimiser.param_groups:
            group["lr"] = group["peak"] * factor
        batch = _draw_batch(recipe, sampler, generator, device)
        with torch.autocast(device.type, torch.bfloat16, enabled=optimisation.precision == "bf16"):
            step = method(network, batch)
        loss = float(step.loss.detach())
        _require_finite("loss", loss, iteration)
        optimiser.zero_grad()
        step.loss.backward()
        norm = nn.utils.clip_grad_norm_(network.parameters(), optimisation.gradient_clip)
        _require_finite("norm of the gradient", float(norm), iteration)
        optimiser.step()
        average.update(network)
        seconds = (
            0.95 * seconds + 0.05 * (time.perf_counter() - started)
            if seconds
            else time.perf_counter() - started
        )
        done = iteration + 1
        if _due(done, reporting.log_every) or done == optimisation.iterations:
            _log(
                events,
                done,
                loss,
                step,
                factor * optimisation.learning_rate,
                seconds,
                optimisation.iterations,
            )
        if _due(done, reporting.checkpoint_every) or done == optimisation.iterations:
            save(done)
        try:
            if _due(done, reporting.validate_every) and done < optimisation.iterations:
                validate(average.network, done)
            progress(f"training, loss {loss:.3f}", done / optimisation.iterations)
        except Cancelled:
            save(done)
            raise
    return Trained(network.eval(), average.network)


def _build_optimiser(network: nn.Module, spec: OptimisationSpec) -> torch.optim.Optimizer:
    head = list(network.get_submodule("head").parameters())
    known = {id(parameter) for parameter in head}
    groups = [
        {"params": [p for p in network.parameters() if id(p) not in known], "peak": spec.learning_rate},
        {"params": head, "peak": spec.learning_rate * spec.head_factor},
    ]
    return torch.optim.AdamW(groups, lr=spec.learning_rate, weight_decay=spec.weight_decay)


def _resume(
    run: Path,
    recipe: Recipe,
    network: nn.Module,
    average: WeightAverage,
    optimiser: torch.optim.Optimizer,
    generator: np.random.Generator,
) -> int:
    checkpoint = load_checkpoint(run)
    if checkpoint is None:
        return 0
    if checkpoint.recipe != recipe_to_dict(recipe):
        msg = f"The run in {run} was started with another recipe."
        raise TrainingError(
            msg,
            next_step="Give another run folder, or the recipe that stands in this one.",
        )
    network.load_state_dict(checkpoint.network)
    average.network.load_state_dict(checkpoint.average)
    average.updates = checkpoint.average_updates
    optimiser.load_state_dict(checkpoint.optimiser)
    generator.bit_generator.state = checkpoint.generator
    return checkpoint.iteration


def _draw_batch(
    recipe: Recipe, sampler: PatchSampler, generator: np.random.Generator, device: torch.device
) -> Batch:
    images, labels = [], []
    for _ in range(recipe.optimisation.batch_size):
        case, centre = sampler.draw()
        image, label = random_patch(
            case.image,
            case.labels,
            centre,
            recipe.network.patch_shape,
            recipe.preprocessing.spacing_mm,
            recipe.augmentation,
            generator,
            device,
        )
        images.append(image)
        labels.append(label)
    return Batch(torch.stack(images), torch.stack(labels))


def _due(done: int, every: int) -> bool:
    return every > 0 and done % every == 0


def _require_finite(what: str, value: float, iteration: int) -> None:
    if not math.isfinite(value):
        msg = f"The {what} is {value} at iteration {iteration}."
        raise TrainingError(
            msg,
            next_step="Set optimisation.precision to fp32 (bfloat16 gradients of stages of a few voxels fail "
            "on some CPUs), or lower optimisation.learning_rate, and start anew in another run folder.",
        )


def _log(
    events: EventStream, done: int, loss: float, step: Step, rate: float, seconds: float, iterations: int
) -> None:
    logs = {name: round(float(value), 5) for name, value in step.logs.items()}
    events.emit(
        "progress",
        iteration=done,
        iterations=iterations,
        loss=round(loss, 5),
        learning_rate=rate,
        seconds_per_iteration=round(seconds, 3),
        eta_seconds=round(seconds * (iterations - done)),
        **logs,
    )
