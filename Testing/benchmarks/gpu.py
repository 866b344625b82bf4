"""What a graphics card does with this project, in under eight minutes, with next to nothing installed.

It needs torch, numpy, safetensors and a checkout. See docs/results.

    python Testing/benchmarks/gpu.py --pack run.zip --output build/gpu
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / folder) for folder in ("MultiOrganSeg", "Training", "Testing/benchmarks")]

import numpy as np  # noqa: E402
import torch  # noqa: E402
from harness.plain_ltuda import PlainLTUDA  # noqa: E402
from harness.plain_mutual import plain_mutual_loss  # noqa: E402
from harness.steps import Step, time_steps, whole_step  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from multiorganseg.bundles.bundle import Bundle, load_bundle  # noqa: E402
from multiorganseg.inference.backends import choose_device, computes_bf16, load_network  # noqa: E402
from multiorganseg.inference.windows import plan_windows  # noqa: E402
from multiorganseg.networks.build import build_network, place_network  # noqa: E402
from multiorganseg_training.data.appearance import PHASES  # noqa: E402
from multiorganseg_training.data.augmentation import change_look  # noqa: E402
from multiorganseg_training.methods import LTUDA, AddOrgan, Batch, Mutual, Setting  # noqa: E402
from multiorganseg_training.recipe.recipe import AugmentationSpec  # noqa: E402
from multiorganseg_training.run.build import start_branch  # noqa: E402
from multiorganseg_training.run.packed import train_pack  # noqa: E402

MODELS = ROOT / "Resources" / "Models"
VOLUMES = {"demo CT": (400.0, 256.0, 256.0), "600 slices": (600.0, 410.0, 410.0)}
"""Extents (k, j, i) in mm of the volumes, as they are cut to the body."""
OVERLAP = 0.5
PLAIN, FP32, BF16, SEEN = "plain", "ours, fp32", "ours, bf16", "ours, bf16, seen before"
MOST_MINUTES = 8.0


@dataclass(frozen=True)
class Row:
    """One figure.

    Attributes:
        part: What is measured.
        way: How.
        seconds: Median of a window, a step or a whole training.
        note: What follows from it.
    """

    part: str
    way: str
    seconds: float
    note: str = ""


@dataclass(frozen=True)
class Size:
    """How large the steps are: as in the papers, or a toy for tests.

    Attributes:
        pixels: Side of a slice of LTUDA.
        width: Of its first level.
        patch: Voxels of a patch of mutual learning.
        repeat: Measured repetitions.
        shrink: Divides the windows of bundles.
    """

    pixels: int = 256
    width: int = 64
    patch: tuple[int, int, int] = (80, 112, 112)
    repeat: int = 5
    shrink: int = 1


TOY = Size(pixels=16, width=4, patch=(16, 16, 16), repeat=1, shrink=4)


def inference_rows(bundle: Bundle, device: torch.device, size: Size) -> Iterator[Row]:
    """Time one window of a bundle, in float32, in bfloat16, and compiled where torch can."""
    said = bundle.metadata
    divisor = load_network(bundle).divisor
    window = tuple(
        min(length, max(2 * step, length // size.shrink // step * step))  # one voxel has no deviation
        for length, step in zip(said.patch_shape, divisor, strict=True)
    )
    network = place_network(load_network(bundle), device).eval()
    image = torch.rand((1, said.in_channels, *window), device=device) * 2 - 1
    compiled = torch.compile(network) if device.type == "cuda" else None
    ways: dict[str, tuple[nn.Module, bool]] = {"fp32": (network, False)}
    if computes_bf16(device):
        ways["bf16"] = (network, True)
        if compiled is not None:
            ways["bf16, compiled"] = (compiled, True)
    for way, (model, reduced) in ways.items():

        def run(model: nn.Module = model, reduced: bool = reduced) -> Tensor:
            with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=reduced):
                return model(image).logits

        with suppress(RuntimeError):  # a card without a compiler
            seconds = _median(run, size.repeat, device)
            yield Row(f"window of {said.name}", way, seconds, _volumes(bundle, window, seconds))


def _volumes(bundle: Bundle, window: tuple[int, ...], seconds: float) -> str:
    lines = []
    for name, extent in VOLUMES.items():
        shape = [
            max(1, math.ceil(length / step))
            for length, step in zip(extent, bundle.metadata.preprocessing.spacing_mm, strict=True)
        ]
        count = plan_windows((shape[0], shape[1], shape[2]), (window[0], window[1], window[2]), OVERLAP).count
        lines.append(f"{name}: {count} windows, {count * seconds:.1f} s")
    return "; ".join(lines)


def ltuda_rows(device: torch.device, size: Size) -> Iterator[Row]:
    """Time a step of LTUDA with prototypes against the published step written down as it reads."""
    organs = 4
    labels = torch.zeros((organs, 1, size.pixels, size.pixels), dtype=torch.int64)
    known = torch.eye(organs, dtype=torch.bool)
    third = size.pixels // 3
    for sample in range(organs):
        labels[sample, :, third : 2 * third, third : 2 * third] = sample + 1
    image = labels[:, None] / organs - 0.5 + 0.1 * torch.randn(labels[:, None].shape)
    batch = Batch(image.to(device), labels.to(device), known.to(device))

    def made() -> tuple[nn.Module, LTUDA]:
        filters = [size.width * factor for factor in (1, 2, 4, 8, 8)]
        torch.manual_seed(0)
        arguments = {"in_channels": 1, "out_channels": organs, "filters": filters}
        network = build_network("slice_unet", arguments).to(device).train()
        within = torch.zeros((organs, organs), dtype=torch.bool)
        setting = Setting(network, "sigmoid", organs, network.feature_channels, within)
        return network, LTUDA(setting, prototypes=True).to(device)

    def ours(reduced: bool) -> Step:
        network, method = made()
        return _step(place_network(network, device), method, batch, device, reduced)

    network, method = made()
    plain = PlainLTUDA(network, organs, method.classifier)
    numbers = np.random.default_rng(0)
    weights = [*network.parameters(), *(each for each in method.parameters() if each.requires_grad)]
    optimiser = torch.optim.SGD(weights, lr=1e-3, momentum=0.99, nesterov=True)
    ways = {
        PLAIN: whole_step(
            lambda: plain.loss(network, batch, numbers), optimiser, lambda: plain.follow(network)
        ),
        FP32: ours(False),
    }
    if computes_bf16(device):
        ways[BF16] = ours(True)
    yield from _timed(f"step of LTUDA, {organs} slices of {size.pixels}²", ways, size, device)


def mutual_rows(device: torch.device, size: Size) -> Iterator[Row]:
    """Time a step of mutual learning against the published step written down as it reads."""
    labels = torch.zeros((4, *size.patch), dtype=torch.int64)
    labels[:, size.patch[0] // 4 : size.patch[0] // 2, : size.patch[1] // 2] = 1
    image = labels[:, None] + 0.5 * torch.randn(labels[:, None].shape)
    known = torch.tensor([[True], [True], [False], [False]])
    batch = Batch(image.to(device), (labels * known[..., None, None]).to(device), known.to(device))

    def made() -> nn.Module:
        torch.manual_seed(0)
        return build_network("vnet", {"in_channels": 1, "out_channels": 2}).to(device).train()

    def ours(reduced: bool) -> Step:
        network = place_network(made(), device)
        setting = Setting(network, "softmax", 1, network.feature_channels, torch.zeros((1, 1), dtype=bool))
        method = Mutual(setting, ramp_steps=0, min_voxels=1).to(device)
        return _step(network, method, batch, device, reduced)

    network = made()
    optimiser = torch.optim.SGD(network.parameters(), lr=1e-2, momentum=0.9)
    labelled = batch.labels[:2]
    ways = {
        PLAIN: whole_step(lambda: plain_mutual_loss(network, batch.image, labelled), optimiser),
        FP32: ours(False),
    }
    if computes_bf16(device):
        ways[BF16] = ours(True)
    shape = " × ".join(map(str, size.patch))
    yield from _timed(f"step of mutual learning, 4 patches of {shape}", ways, size, device)


def add_organ_rows(bundle: Bundle, device: torch.device, size: Size) -> Iterator[Row]:
    """Time a step that adds an organ to a bundle: on patches not seen before, and on patches seen again."""
    said = bundle.metadata
    organs = len(said.labels.keys) + 1
    arguments = {**said.arguments, "branches": [1], "in_channels": 1, "out_channels": said.channels + 1}
    network = build_network(said.architecture, arguments)
    network.load_state_dict(load_network(bundle).state_dict(), strict=False)
    start_branch(network, said.activation)
    network = place_network(network, device)
    patch = [
        max(2 * step, length // size.shrink // step * step)
        for length, step in zip(said.patch_shape, network.divisor, strict=True)
    ]
    labels = torch.zeros((2, *patch), dtype=torch.int64)
    labels[0, : patch[0] // 2, : patch[1] // 4, : patch[2] // 4] = organs
    known = torch.zeros((2, organs), dtype=torch.bool)
    known[0, -1] = True
    image = torch.rand((2, 1, *patch)) * 2 - 1
    batch = Batch(image.to(device), labels.to(device), known.to(device))
    within = torch.zeros((organs, organs), dtype=torch.bool)
    setting = Setting(network, said.activation, organs, network.feature_channels, within)
    method = AddOrgan(setting).to(device)
    ways = {FP32: _step(network, method, batch, device, False)}
    if computes_bf16(device):
        ways[BF16] = _step(network, method, batch, device, True)
        with torch.autocast(device.type, torch.bfloat16):
            seen = method.see(network, batch, np.random.default_rng(0))
        optimiser = torch.optim.AdamW([each for each in network.parameters() if each.requires_grad])

        def loss() -> Tensor:
            with torch.autocast(device.type, torch.bfloat16):
                return method.learn(network, seen).loss

        ways[SEEN] = whole_step(loss, optimiser)
    shape = " × ".join(map(str, patch))
    yield from _timed(f"step of adding an organ to {said.name}, 2 patches of {shape}", ways, size, device)


def look_rows(device: torch.device, size: Size) -> Iterator[Row]:
    """Time the changes of a training patch's look: contrast phase, intensity, sharpness, field of view."""
    labels = torch.zeros(size.patch, dtype=torch.int64, device=device)
    labels[: size.patch[0] // 2, : size.patch[1] // 2] = 1
    labels[:, size.patch[1] // 2 :, : size.patch[2] // 4] = 2
    image = labels[None] / 2 - 0.5
    spec, numbers = AugmentationSpec(phases=1.0, field_cuts=1.0), np.random.default_rng(0)
    organs = {1: "liver", 2: "kidney_left"}

    def run() -> None:
        for _ in PHASES:
            change_look(image, labels, organs, (-125.0, 275.0), spec, numbers)

    seconds = _median(run, size.repeat, device) / len(PHASES)
    yield Row(f"look of a patch of {' × '.join(map(str, size.patch))}", "another phase and field", seconds)


def pack_rows(pack: Path, device: torch.device, output: Path) -> Iterator[Row]:
    """Time a whole packed run."""
    started = time.perf_counter()
    train_pack(pack, output / "learned.safetensors", device)
    yield Row(f"whole training of {pack.name}", "as planned", time.perf_counter() - started)


def _step(network: nn.Module, method: nn.Module, batch: Batch, device: torch.device, reduced: bool) -> Step:
    weights = [each for each in (*network.parameters(), *method.parameters()) if each.requires_grad]
    optimiser, numbers = torch.optim.AdamW(weights, lr=1e-3), np.random.default_rng(0)

    def loss() -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=reduced):
            loss: Tensor = method(network, batch, numbers).loss
        return loss

    return whole_step(loss, optimiser, lambda: method.after_step(network))  # type: ignore[operator]


def _timed(part: str, ways: dict[str, Step], size: Size, device: torch.device) -> Iterator[Row]:
    timings = time_steps(part, ways, size.repeat, device)
    plain = {timing.way: timing.seconds for timing in timings}.get(PLAIN)
    for timing in timings:
        note = f"{plain / timing.seconds:.2f} times as fast as plain" if plain else ""
        yield Row(part, timing.way, timing.seconds, note)


def _median(run: Callable[[], object], repeat: int, device: torch.device) -> float:
    run()
    seconds = []
    for _ in range(repeat):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        started = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - started)
    return float(np.median(seconds))


def measure(
    device: torch.device, size: Size, pack: Path | None, output: Path, minutes: float = MOST_MINUTES
) -> list[Row]:
    """Measure part after part, the most wanted first; none begins when the time is over.

    Args:
        device: Where.
        size: Of the steps.
        pack: File of a packed run; None leaves it out.
        output: Folder for what the packed run learns, and for `gpu.json`, which grows with each part.
        minutes: After which no part begins.
    """
    output.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    bundles = [load_bundle(MODELS / name) for name in ("abdomen-ct", "head-neck-ct", "left-atrium-mr")]
    parts: list[Callable[[], Iterator[Row]]] = [
        lambda: add_organ_rows(bundles[0], device, size),
        *(lambda bundle=bundle: inference_rows(bundle, device, size) for bundle in bundles),  # type: ignore[misc]
        lambda: ltuda_rows(device, size),
        lambda: mutual_rows(device, size),
        lambda: look_rows(device, size),
        *([lambda: pack_rows(pack, device, output)] if pack else []),
    ]
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    rows: list[Row] = []
    for part in parts:
        if time.perf_counter() - started > 60 * minutes:
            break
        for row in part():
            rows.append(row)
            sys.stdout.write(f"| {row.part} | {row.way} | {row.seconds:.4f} | {row.note} |\n")
            sys.stdout.flush()
        said = {"device": name, "torch": torch.__version__, "rows": [asdict(row) for row in rows]}
        (output / "gpu.json").write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")
    return rows


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    parser.add_argument("--output", type=Path, default=Path("build/gpu"), help="folder for gpu.json")
    parser.add_argument("--pack", type=Path, help="file of `multiorganseg-train pack`")
    parser.add_argument("--minutes", type=float, default=MOST_MINUTES, help="after which no part begins")
    parser.add_argument("--toy", action="store_true", help="at a size for tests")
    asked = parser.parse_args()
    sys.stdout.write("| part | way | seconds | |\n|---|---|---|---|\n")
    size = TOY if asked.toy else Size()
    measure(choose_device(asked.device), size, asked.pack, asked.output, asked.minutes)


if __name__ == "__main__":
    main()
