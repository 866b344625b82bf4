"""The training loop. It knows neither methods nor devices by name, nor how many there are."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from multiorganseg.errors import Cancelled, ResourceError, TrainingError
from multiorganseg.events import EventKind, EventStream
from multiorganseg.inference.backends import computes_bf16, is_out_of_memory
from multiorganseg.networks.branching import BranchingNetwork
from multiorganseg.progress import Progress
from multiorganseg.projects.runs import Paused, stop_if_paused
from multiorganseg_training.data.batches import BatchSource
from multiorganseg_training.methods import Method, Step
from multiorganseg_training.recipe.file import recipe_from_dict, recipe_to_dict
from multiorganseg_training.recipe.recipe import Recipe
from multiorganseg_training.recipe.schedule import rate_factor
from multiorganseg_training.run.build import TRUNK, build_optimiser, build_training
from multiorganseg_training.run.checkpoint import Checkpoint, WeightAverage, load_checkpoint, save_checkpoint
from multiorganseg_training.run.devices import Devices
from multiorganseg_training.run.fixed import Draw, fixed_batches, numbered

if TYPE_CHECKING:
    from multiorganseg_training.data.cache import PreparedCase

Validate = Callable[[nn.Module, int], None]

TRAINING = "training"
"""How the stage of iterations begins."""


class NotFiniteError(TrainingError):
    """The loss or its gradient is not finite."""


@dataclass(frozen=True)
class Trained:
    """What a finished run gives.

    Attributes:
        last: The network after the last iteration.
        average: The averaged network.
    """

    last: nn.Module
    average: nn.Module


def train(
    recipe: Recipe,
    cases: list[PreparedCase],
    run: Path,
    device: torch.device,
    events: EventStream,
    progress: Progress,
    validate: Validate,
    devices: Devices | None = None,
    draw: Draw | None = None,
    built: tuple[BranchingNetwork, Method] | None = None,
) -> Trained:
    """Train from the run's checkpoint, or from the start, to the last iteration.

    Args:
        recipe: What to do.
        cases: Prepared training cases.
        run: Folder of the run, for checkpoints and the request to pause.
        device: Where to train.
        events: Told progress and metrics.
        progress: Reports each iteration; cancelling saves a checkpoint first.
        validate: Called with the averaged network and the iteration.
        devices: Those that train together; each draws a batch of its own. The first one alone saves,
            validates and tells; on others `Cancelled` stands for a pause, too.
        draw: Gives the fixed batches instead of the cases.
        built: What `build_training` gave for the recipe and the device; built here when None.

    Raises:
        NotFiniteError: The loss or its gradient is not finite.
        TrainingError: The checkpoint belongs to another recipe.
        ResourceError: Memory ran out, or the disk is full; the last checkpoint stays.
        Cancelled: The user asked for it.
        Paused: A pause was requested; a checkpoint is saved first.
    """
    devices = devices or Devices()
    try:
        return _train(recipe, cases, run, device, events, progress, validate, devices, draw, built)
    except (Cancelled, Paused, NotFiniteError):  # these come on all devices at once
        raise
    except (RuntimeError, MemoryError) as error:
        devices.torn = True
        if not is_out_of_memory(error):
            raise
        msg = "Memory ran out."
        raise ResourceError(
            msg,
            cause=str(error).splitlines()[0] if str(error) else "",
            next_step="Close other programs, or lower optimisation.batch_size or network.patch_shape.",
        ) from error
    except Exception:
        devices.torn = True
        raise


def _train(
    recipe: Recipe,
    cases: list[PreparedCase],
    run: Path,
    device: torch.device,
    events: EventStream,
    progress: Progress,
    validate: Validate,
    devices: Devices,
    draw: Draw | None,
    built: tuple[BranchingNetwork, Method] | None,
) -> Trained:
    generator = np.random.default_rng(recipe.seed)
    optimisation, reporting = recipe.optimisation, recipe.reporting
    network, method = built or build_training(recipe, device, run)
    average = WeightAverage(network, optimisation.ema_decay)
    judge = method.judge()
    judging = None if judge is None else WeightAverage(judge, optimisation.ema_decay)
    optimiser = build_optimiser(network, method, optimisation)
    batches = BatchSource(recipe, cases, generator, device, devices.number, devices.count)
    first = _resume(run, recipe, network, average, method, judging, optimiser, generator)
    seconds = 0.0

    def save(iteration: int) -> None:
        if not devices.first:
            return
        save_checkpoint(
            Checkpoint(
                iteration,
                recipe_to_dict(recipe),
                network.state_dict(),
                average.network.state_dict(),
                average.updates,
                method.state_dict(),
                optimiser.state_dict(),
                dict(generator.bit_generator.state),
                {} if judging is None else judging.network.state_dict(),
            ),
            run,
        )

    devices.together(lambda: stop_if_paused(run, first, optimisation.iterations))
    reduced = _reduced(optimisation.precision, device, events)
    network.train()
    trained = [parameter for group in optimiser.param_groups for parameter in group["params"]]

    def drawn() -> Step:
        batch = batches.draw()
        own = np.random.default_rng((int(generator.integers(2**63)), devices.number))
        step: Step = method(network, batch, own)
        return step

    kept = (optimisation.fixed_batches, optimisation.passes, recipe.seed, run, devices.number)
    with fixed_batches(method, draw or numbered(batches, recipe.seed), *kept) as fixed:
        for iteration in range(first, optimisation.iterations):
            started = time.perf_counter()
            factor = rate_factor(
                optimisation.schedule, iteration, optimisation.iterations, optimisation.warmup
            )
            for group in optimiser.param_groups:
                group["lr"] = group["peak"] * factor
            for parameter in optimiser.param_groups[TRUNK]["params"]:
                parameter.requires_grad_(iteration >= optimisation.head_alone * optimisation.iterations)
            numbers = np.random.SeedSequence((recipe.seed, iteration, devices.number))
            torch.manual_seed(int(numbers.generate_state(1)[0]))
            with torch.autocast(device.type, torch.bfloat16, enabled=reduced):
                step = fixed.step(network, iteration) if fixed is not None else drawn()
            loss = float(devices.mean(step.loss.detach()))
            _require_finite("loss", loss, iteration)
            optimiser.zero_grad()
            step.loss.backward()
            devices.average_gradients(trained)
            norm = nn.utils.clip_grad_norm_(trained, optimisation.gradient_clip)
            _require_finite("norm of the gradient", float(norm), iteration)
            optimiser.step()
            method.after_step(network)
            devices.average_buffers(network, method)
            average.update(network)
            if judge is not None and judging is not None:
                judging.update(judge)
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

            def report(done: int = done, loss: float = loss) -> None:
                if _due(done, reporting.validate_every) and done < optimisation.iterations:
                    validate(average.network, done)
                progress(f"{TRAINING}, loss {loss:.3f}", done / optimisation.iterations)
                stop_if_paused(run, done, optimisation.iterations)

            try:
                devices.together(report)
            except (Cancelled, Paused):
                save(done)
                raise
    return Trained(network.eval(), average.network)


def _reduced(precision: str, device: torch.device, events: EventStream) -> bool:
    """Whether to compute in bfloat16: where the recipe says so and the device is faster in it."""
    if precision != "bf16":
        return False
    if computes_bf16(device):
        return True
    events.emit(
        EventKind.WARNING,
        message=f"The device {device} is not faster in bfloat16: the training is in float32.",
    )
    return False


def _resume(
    run: Path,
    recipe: Recipe,
    network: nn.Module,
    average: WeightAverage,
    method: Method,
    judging: WeightAverage | None,
    optimiser: torch.optim.Optimizer,
    generator: np.random.Generator,
) -> int:
    checkpoint = load_checkpoint(run)
    if checkpoint is None:
        return 0
    if recipe_from_dict(checkpoint.recipe) != recipe:
        msg = f"The run in {run} was started with another recipe."
        raise TrainingError(
            msg,
            next_step="Give another run folder, or the recipe that stands in this one.",
        )
    try:
        network.load_state_dict(checkpoint.network)
        average.network.load_state_dict(checkpoint.average)
        average.updates = checkpoint.average_updates
        method.load_state_dict(checkpoint.method)
        judge = method.judge()
        if judging is not None and judge is not None:
            judging.network.load_state_dict(checkpoint.method_average or judge.state_dict())
            judging.updates = checkpoint.average_updates
        _require_own_parameters(optimiser, checkpoint.optimiser)
        optimiser.load_state_dict(checkpoint.optimiser)
        generator.bit_generator.state = checkpoint.generator
    except Exception as error:  # each part of it may be anything
        msg = f"The checkpoint of {run} does not fit its recipe."
        raise TrainingError(
            msg, cause=f"{type(error).__name__}: {error}", next_step="Start the run anew in another folder."
        ) from error
    return checkpoint.iteration


def _require_own_parameters(optimiser: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Refuse a state that numbers other parameters; torch would reserve memory for the largest number."""
    own = [group["params"] for group in optimiser.state_dict()["param_groups"]]
    if [group["params"] for group in state["param_groups"]] != own:
        msg = "It numbers other parameters than this run has."
        raise ValueError(msg)


def _due(done: int, every: int) -> bool:
    return every > 0 and done % every == 0


def _require_finite(what: str, value: float, iteration: int) -> None:
    if not math.isfinite(value):
        msg = f"The {what} is {value} at iteration {iteration}."
        raise NotFiniteError(
            msg,
            next_step="Set optimisation.precision to fp32 (bfloat16 gradients of stages of a few voxels fail "
            "on some CPUs), or lower optimisation.learning_rate, and start anew in another run folder.",
        )


def _log(
    events: EventStream, done: int, loss: float, step: Step, rate: float, seconds: float, iterations: int
) -> None:
    logs = {name: round(float(value), 5) for name, value in step.logs.items()}
    events.emit(
        EventKind.PROGRESS,
        iteration=done,
        iterations=iterations,
        loss=round(loss, 5),
        learning_rate=rate,
        seconds_per_iteration=round(seconds, 3),
        eta_seconds=round(seconds * (iterations - done)),
        **logs,
    )
