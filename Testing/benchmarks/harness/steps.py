"""Seconds of one training step in several ways, in turn within one run."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from harness.report import Report

PLAIN = "plain"
"""The way that the others are compared with."""
FP32, BF16 = "ours, fp32", "ours, bf16"

HEADER = ("case", "way", "median s", "fastest s", "times as fast", "first loss")

Step = Callable[[], Tensor]
"""One whole step; gives its loss."""


def whole_step(
    loss: Callable[[], Tensor], optimiser: torch.optim.Optimizer, after: Callable[[], None] = lambda: None
) -> Step:
    """Make a step of a loss: forwards, backward, optimiser, and what follows it."""

    def step() -> Tensor:
        value = loss()
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        after()
        return value.detach()

    return step


@dataclass(frozen=True)
class Timing:
    """Median and fastest of some repetitions, and the loss of the step before them."""

    case: str
    way: str
    seconds: float
    fastest: float
    first_loss: float


def time_steps(case: str, ways: dict[str, Step], repeat: int, device: torch.device) -> list[Timing]:
    """Run each way once unmeasured, then all in turn, so that other programs slow all of them alike.

    Args:
        case: What is measured.
        ways: By name.
        repeat: Measured steps of each.
        device: Waited for at the end of a step.
    """
    first = {way: float(step()) for way, step in ways.items()}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(repeat):
        for way, step in ways.items():
            started = time.perf_counter()
            step()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds[way].append(time.perf_counter() - started)
    return [Timing(case, way, float(np.median(each)), min(each), first[way]) for way, each in seconds.items()]


def timing_report(title: str, timings: list[Timing], notes: tuple[str, ...] = ()) -> Report:
    """Return the table of timings, with the ratio of medians to the plain way of the same case."""
    from harness.report import Report  # which needs more than torch and numpy

    plain = {timing.case: timing.seconds for timing in timings if timing.way == PLAIN}
    rows: list[tuple[str, ...]] = [
        (
            timing.case,
            timing.way,
            f"{timing.seconds:.3f}",
            f"{timing.fastest:.3f}",
            f"{plain[timing.case] / timing.seconds:.2f}",
            f"{timing.first_loss:.4f}",
        )
        for timing in timings
    ]
    return Report(title, HEADER, rows, texts=2, notes=notes)
