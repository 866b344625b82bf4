"""Seconds of one training step of mutual learning against a straightforward rendering of the published step.

See docs/results/training-steps.md.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from enum import Enum
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from harness.machine import describe_machine
from harness.plain_mutual import Array, patch_loader, plain_mutual_loss
from harness.report import publish
from harness.steps import BF16, FP32, PLAIN, Step, time_steps, timing_report, whole_step
from torch import Tensor, nn

from multiorganseg.inference.backends import choose_device, computes_bf16
from multiorganseg.networks.build import place_network
from multiorganseg_training.data.batches import BatchSource
from multiorganseg_training.data.cache import PreparedCase
from multiorganseg_training.recipe.file import load_recipe
from multiorganseg_training.recipe.recipe import Recipe
from multiorganseg_training.run.build import build_optimiser, recipe_method, recipe_network

OUTPUT = Path("build/benchmarks")
RECIPES = Path(__file__).parents[2] / "research" / "recipes" / "mutual"
CASES, LABELLED = 8, 4
MARGIN = 1.5
RADIUS = 0.6
TOLERANCE = 1e-4


class Size(str, Enum):
    """Which recipe gives network, patch and optimiser."""

    small = "small"
    paper = "paper"


def main(
    output: Annotated[Path, typer.Option(help="Folder for the table and JSON.")] = OUTPUT,
    size: Annotated[Size, typer.Option(help="Of network and patch, as in the recipes.")] = Size.small,
    repeat: Annotated[int, typer.Option(help="Steps of each way that are measured.")] = 5,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    threads: Annotated[int, typer.Option(help="Of the CPU; 0 for as many as torch takes.")] = 0,
    workers: Annotated[int, typer.Option(help="Processes that load the plain way's patches.")] = 0,
) -> None:
    """Compare the losses of one batch, then time whole steps on made-up volumes."""
    machine = describe_machine()
    if threads:
        torch.set_num_threads(threads)
    place = choose_device(device)
    recipe = _recipe(size)
    cases = _cases(recipe.network.patch_shape)
    ours, plain = _losses(recipe, cases, place)
    torch.testing.assert_close(ours, plain, rtol=TOLERANCE, atol=0)
    ways = {
        PLAIN: _plain(recipe, cases, place, workers),
        FP32: _ours(recipe, cases, place, reduced=False),
    }
    if computes_bf16(place):
        ways[BF16] = _ours(recipe, cases, place, reduced=True)
    timings = time_steps(size.value, ways, repeat, place)
    shape = " × ".join(map(str, recipe.network.patch_shape))
    title = f"One step of mutual learning: {recipe.optimisation.batch_size} patches of {shape}, {place.type}"
    note = (
        f"Losses of one batch, fp32 without dropout: ours {ours:.6f}, plain {plain:.6f}; they may differ by "
        f"{TOLERANCE:g} of it."
    )
    publish(
        "mutual_step",
        output,
        machine,
        [timing_report(title, timings, (note,))],
        {"timings": [asdict(timing) for timing in timings], "losses": {"ours": ours, "plain": plain}},
    )


def _recipe(size: Size) -> Recipe:
    recipe = load_recipe(RECIPES / f"{size.value}-8-mutual.toml")
    arguments = {"ramp_steps": 0, "min_voxels": 1}
    return replace(recipe, network=replace(recipe.network, initial=""), method_arguments=arguments)


def _cases(patch_shape: tuple[int, ...]) -> list[PreparedCase]:
    """Return volumes with a bright ball, of which the first ones know it."""
    numbers = np.random.default_rng(0)
    axes = [np.linspace(-1, 1, round(MARGIN * size)) for size in patch_shape]
    k, j, i = np.meshgrid(*axes, indexing="ij", sparse=True)
    labels = (k**2 + j**2 + i**2 < RADIUS**2).astype(np.uint8)
    cases = []
    for number in range(CASES):
        image = labels + 0.5 * numbers.standard_normal(labels.shape, dtype=np.float32)
        known = frozenset([1] if number < LABELLED else [])
        whole = PreparedCase(str(number), image.astype(np.float16), labels, frozenset([1]))
        cases.append(whole.hide_all_but(known))
    return cases


def _volumes(cases: list[PreparedCase]) -> list[tuple[Array, Array]]:
    return [(case.image.astype(np.float32), case.labels) for case in cases]


def _network(recipe: Recipe, device: torch.device) -> nn.Module:
    torch.manual_seed(0)
    return recipe_network(recipe).to(device).train()


def _losses(recipe: Recipe, cases: list[PreparedCase], device: torch.device) -> tuple[float, float]:
    """Return our loss and the plain one of the same batch and weights in float32, without dropout."""
    arguments = {**recipe.network.arguments, "dropout": 0.0}
    still = replace(recipe, network=replace(recipe.network, arguments=arguments))
    network, numbers = _network(still, device), np.random.default_rng(0)
    batch = BatchSource(still, cases, numbers, device).draw()
    with torch.no_grad():
        ours = recipe_method(still, network).to(device)(network, batch, numbers).loss
        plain = plain_mutual_loss(network, batch.image, batch.labels)
    return float(ours), float(plain)


def _ours(recipe: Recipe, cases: list[PreparedCase], device: torch.device, *, reduced: bool) -> Step:
    network, numbers = place_network(_network(recipe, device), device), np.random.default_rng(0)
    method = recipe_method(recipe, network).to(device)
    optimiser = build_optimiser(network, method, recipe.optimisation)
    batches = BatchSource(recipe, cases, numbers, device)

    def loss() -> Tensor:
        batch = batches.draw()
        with torch.autocast(device.type, torch.bfloat16, enabled=reduced):
            return method(network, batch, numbers).loss

    return whole_step(loss, optimiser, lambda: method.after_step(network))


def _plain(recipe: Recipe, cases: list[PreparedCase], device: torch.device, workers: int) -> Step:
    network = _network(recipe, device)
    optimiser = build_optimiser(network, recipe_method(recipe, network), recipe.optimisation)
    batches = iter(patch_loader(_volumes(cases), LABELLED, recipe.network.patch_shape, workers))

    def loss() -> Tensor:
        image, labels = next(batches)
        return plain_mutual_loss(network, image.to(device), labels.to(device))

    return whole_step(loss, optimiser)


if __name__ == "__main__":
    typer.run(main)
