"""Seconds of one training step of LTUDA against a straightforward rendering of the published step.

See docs/results/training-steps.md.
"""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from harness.machine import describe_machine
from harness.plain_ltuda import PlainLTUDA
from harness.report import publish
from harness.steps import BF16, FP32, PLAIN, Step, time_steps, timing_report, whole_step
from torch import Tensor, nn

from multiorganseg.inference.backends import choose_device, computes_bf16
from multiorganseg.networks.build import place_network
from multiorganseg.networks.slice_unet import SliceUNet
from multiorganseg_training.methods import LTUDA, Batch, Setting

OUTPUT = Path("build/benchmarks")
ORGANS = 4
STAGES = {"stage 1": False, "stage 2": True}
RATE, MOMENTUM = 1e-3, 0.99


def main(
    output: Annotated[Path, typer.Option(help="Folder for the table and JSON.")] = OUTPUT,
    pixels: Annotated[int, typer.Option(help="Side of a slice.")] = 256,
    width: Annotated[int, typer.Option(help="Of the network's first level; 64 in the paper.")] = 64,
    batch: Annotated[int, typer.Option(help="Slices a step.")] = 4,
    repeat: Annotated[int, typer.Option(help="Steps that are measured.")] = 5,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    threads: Annotated[int, typer.Option(help="Of the CPU; 0 for as many as torch takes.")] = 0,
) -> None:
    """Time both stages on one batch of made-up slices."""
    machine = describe_machine()
    if threads:
        torch.set_num_threads(threads)
    place = choose_device(device)
    sample = _batch(batch, pixels, place)
    timings = []
    for stage, prototypes in STAGES.items():
        ways = {
            PLAIN: _plain(sample, width, prototypes, place),
            FP32: _ours(sample, width, prototypes, place, reduced=False),
        }
        if computes_bf16(place):
            ways[BF16] = _ours(sample, width, prototypes, place, reduced=True)
        timings += time_steps(stage, ways, repeat, place)
    title = (
        f"One step of LTUDA: {batch} slices of {pixels} × {pixels}, first level {width} wide, {place.type}"
    )
    raw = [asdict(timing) for timing in timings]
    publish("training_step", output, machine, [timing_report(title, timings)], raw)


def _batch(size: int, pixels: int, device: torch.device) -> Batch:
    """Return slices with four bright discs of which each sample knows one."""
    generator = torch.Generator().manual_seed(0)
    along = torch.linspace(-1, 1, pixels)
    labels = torch.zeros((size, 1, pixels, pixels), dtype=torch.int64)
    for organ in range(1, ORGANS + 1):
        angle = 2 * math.pi * organ / ORGANS
        distance = (along[:, None] - math.sin(angle) / 2) ** 2 + (along[None] - math.cos(angle) / 2) ** 2
        labels[:, 0, distance < (0.1 + 0.05 * organ) ** 2] = organ
    image = labels[:, None] / ORGANS - 0.5 + 0.1 * torch.randn(labels[:, None].shape, generator=generator)
    known = torch.eye(ORGANS, dtype=torch.bool).repeat(-(-size // ORGANS), 1)[:size]
    mine = 1 + known.int().argmax(dim=1).reshape(-1, 1, 1, 1)
    return Batch(image.to(device), torch.where(labels == mine, labels, 0).to(device), known.to(device))


def _network(width: int, device: torch.device) -> SliceUNet:
    torch.manual_seed(0)
    network = SliceUNet(1, ORGANS, [width * factor for factor in (1, 2, 4, 8, 8)])
    return network.to(device).train()


def _method(network: SliceUNet, prototypes: bool, device: torch.device) -> LTUDA:
    torch.manual_seed(1)
    within = torch.zeros((ORGANS, ORGANS), dtype=torch.bool)
    setting = Setting(network, "sigmoid", ORGANS, network.feature_channels, within)
    return LTUDA(setting, prototypes=prototypes).to(device)


def _optimiser(network: nn.Module, other: nn.Module | None) -> torch.optim.Optimizer:
    own = [] if other is None else [weight for weight in other.parameters() if weight.requires_grad]
    weights = [*network.parameters(), *own]
    return torch.optim.SGD(weights, lr=RATE, momentum=MOMENTUM, nesterov=True)


def _ours(batch: Batch, width: int, prototypes: bool, device: torch.device, *, reduced: bool) -> Step:
    network, numbers = place_network(_network(width, device), device), np.random.default_rng(0)
    method = _method(network, prototypes, device)
    optimiser = _optimiser(network, method)

    def loss() -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=reduced):
            return method(network, batch, numbers).loss

    return whole_step(loss, optimiser, lambda: method.after_step(network))


def _plain(batch: Batch, width: int, prototypes: bool, device: torch.device) -> Step:
    network, numbers = _network(width, device), np.random.default_rng(0)
    classifier = _method(network, prototypes, device).classifier
    method = PlainLTUDA(network, ORGANS, classifier)
    optimiser = _optimiser(network, classifier)

    return whole_step(lambda: method.loss(network, batch, numbers), optimiser, lambda: method.follow(network))


if __name__ == "__main__":
    typer.run(main)
