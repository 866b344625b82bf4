"""Seconds of one window: backends, ways to normalise, and ways to sum probabilities.

See docs/results/speed.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from harness.machine import describe_machine
from harness.report import Report, publish
from torch import Tensor, nn

from multiorganseg.bundles import Bundle, find_bundle
from multiorganseg.inference.backends import has_bf16, load_network, openvino_backend
from multiorganseg.inference.slab import add_window
from multiorganseg.networks.branching import InstanceNorm
from multiorganseg_training.losses.partial import cross_entropy_and_dice

OUTPUT = Path("build/benchmarks")
NORMS: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "torch's instance normalisation": nn.InstanceNorm3d.forward,
    "without copies (ours)": InstanceNorm.forward,
}


@dataclass(frozen=True)
class Timing:
    """Fastest of some repetitions."""

    question: str
    way: str
    seconds: float


def main(
    output: Annotated[Path, typer.Option(help="Folder for the table and JSON.")] = OUTPUT,
    model: Annotated[str, typer.Option(help="Bundle, by name or folder.")] = "abdomen-ct",
    channels: Annotated[int, typer.Option(help="Channels of the probabilities that are summed.")] = 105,
    repeat: Annotated[int, typer.Option(help="Measure so often and keep the fastest.")] = 5,
) -> None:
    """Time one window of a bundle's network on the CPU."""
    machine = describe_machine()
    bundle = find_bundle(model)
    timings = [
        *_backends(bundle, repeat),
        *_normalisations(bundle, repeat),
        *_summing(bundle.metadata.patch_shape, channels, repeat),
    ]
    rows = [(timing.question, timing.way, f"{timing.seconds:.2f}") for timing in timings]
    shape = " × ".join(map(str, bundle.metadata.patch_shape))
    title = f"One window of {shape} voxels, {bundle.metadata.name} {bundle.metadata.version}"
    report = Report(title, ("question", "way", "seconds"), rows, texts=2)
    publish("network", output, machine, [report], [asdict(timing) for timing in timings])


def _fastest(repeat: int, work: Callable[[], Any]) -> float:
    work()
    seconds = []
    for _ in range(repeat):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def _image(bundle: Bundle) -> Tensor:
    return torch.rand(1, 1, *bundle.metadata.patch_shape, generator=torch.Generator().manual_seed(0)) * 2 - 1


def _backends(bundle: Bundle, repeat: int) -> list[Timing]:
    image, network = _image(bundle), load_network(bundle).to(memory_format=torch.channels_last_3d)

    @torch.inference_mode()
    def forward(precision: torch.dtype) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
            network(image)

    ways: dict[str, Callable[[], Any]] = {"torch, float32": lambda: forward(torch.float32)}
    if torch.cpu._is_avx512_bf16_supported():  # imitated, it takes minutes
        ways["torch, bfloat16"] = lambda: forward(torch.bfloat16)
    for name, precision in (("float32", "f32"), ("bfloat16", "bf16")):
        ways[f"OpenVINO, {name}"] = partial(openvino_backend(bundle, precision).predict, image)
    return [Timing("backend", way, _fastest(repeat, work)) for way, work in ways.items()]


def _normalisations(bundle: Bundle, repeat: int) -> list[Timing]:
    image, network = _image(bundle), load_network(bundle).to(memory_format=torch.channels_last_3d)
    labels = torch.randint(0, bundle.metadata.channels, (1, *bundle.metadata.patch_shape))
    norms = [module for module in network.modules() if isinstance(module, InstanceNorm)]

    def train() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=has_bf16()):
            loss = sum(cross_entropy_and_dice(network(image).logits, labels))
        network.zero_grad()
        loss.backward()

    @torch.inference_mode()
    def infer() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=has_bf16()):
            network(image)

    timings = []
    for way, forward in NORMS.items():
        for norm in norms:
            norm.forward = forward.__get__(norm)
        timings.append(Timing("normalisation, inference", way, _fastest(repeat, infer)))
        timings.append(Timing("normalisation, training step", way, _fastest(repeat, train)))
    return sorted(timings, key=lambda timing: timing.question)


def _summing(shape: tuple[int, int, int], channels: int, repeat: int) -> list[Timing]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, channels, *shape, generator=generator).bfloat16()
    logits = logits.to(memory_format=torch.channels_last_3d)
    weights = torch.rand(shape, generator=generator)
    outermost, innermost = torch.zeros(channels, *shape), torch.zeros(*shape, channels)

    def whole_window() -> None:
        outermost.addcmul_(torch.softmax(logits.float(), dim=1)[0], weights)

    def planes() -> None:
        add_window(innermost, logits[0], weights, "softmax")

    ways = {
        "whole window, channels outermost": whole_window,
        "a few planes, channels innermost (ours)": planes,
    }
    question = f"softmax and sum, {channels} channels"
    return [Timing(question, way, _fastest(repeat, work)) for way, work in ways.items()]


if __name__ == "__main__":
    typer.run(main)
