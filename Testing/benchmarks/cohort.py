"""What Ray costs and gains on a cohort of many small CTs, and what comes out when a node is killed.

See docs/many-machines.md. The nodes are processes of this machine. The network is tiny and its weights are
random, so that the time between cases shows.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import psutil
import typer
from harness.machine import describe_machine
from harness.report import Report, publish

from multiorganseg.children import module_command, module_environment
from multiorganseg.events import EventTail
from multiorganseg.offline import import_ray
from multiorganseg.phantom import phantom_ct
from multiorganseg.scratch import work_folder
from multiorganseg.volumes.read import read_labels
from multiorganseg.volumes.write import write_volume

OUTPUT = Path("build/benchmarks")
MIB = 2**20
OBJECT_STORE_BYTES = 80 * MIB
POLL_SECONDS = 0.5
AIM_SECONDS = 0.3
MARKS = (0.1, 0.5, 0.98)
"""Shares of the cohort at which memory is looked at."""

ONE_KILLED = "2, one killed"


@dataclass
class Run:
    """What was measured of one command.

    Attributes:
        name: What is special about it.
        code: Exit code.
        seconds: Wall time of the whole program.
        each: Wall seconds a case between the first result and the last.
        load: Mean number of running processes in the last minute of it.
        processor_seconds: By role, all processes and threads together.
        resident_mib: By role, at each of `MARKS`; of the worker that has most.
        finished: How often each case was told to be finished.
    """

    name: str
    code: int = 0
    seconds: float = 0.0
    each: float = 0.0
    load: float = 0.0
    processor_seconds: dict[str, float] = field(default_factory=dict)
    resident_mib: dict[str, list[float]] = field(default_factory=dict)
    finished: dict[str, int] = field(default_factory=dict)


def main(
    cases: Annotated[int, typer.Option(min=50, help="How many CTs.")] = 200,
    output: Annotated[Path, typer.Option(help="Folder for the table and JSON.")] = OUTPUT,
) -> None:
    """Segment a cohort without Ray, on one and two nodes of it, and on two of which one is killed half-way.

    The exit code is 1 when a result is missing, was told twice or is another than without Ray.
    """
    machine = describe_machine()
    import_ray()
    sys.path.append(str(Path(__file__).resolve().parents[1] / "hostile"))
    from campaign.bundles import write_sample_bundle

    with work_folder() as folder:
        write_cohort(folder / "cohort", cases)
        write_sample_bundle(folder / "tiny")
        words = [str(folder / "cohort"), "--model", str(folder / "tiny"), "--formats", "seg.nrrd,json"]
        words += ["--no-preview", "--device", "cpu"]
        plain = folder / "plain"
        runs = [measured(Run("without Ray"), [*words, "--resume"], plain, cases)]
        faults = faults_of(runs[0], plain, plain, cases)
        for name, nodes, kills in (("1 worker", 1, False), ("2 workers", 2, False), (ONE_KILLED, 2, True)):
            place, run = folder / name, Run(name)
            with ray_nodes(nodes) as cluster:
                more = ["--ray-address", cluster.address]
                runs.append(measured(run, [*words, *more], place, cases, cluster if kills else None))
            faults += faults_of(run, place, plain, cases)
    publish("cohort", output, machine, reports(runs, cases, faults), [asdict(run) for run in runs])
    if faults:
        raise typer.Exit(1)


def write_cohort(folder: Path, cases: int) -> None:
    """Write CTs of 24 × 50 × 64 voxels: every third of a phantom, each with noise of its own."""
    phantom, generator = phantom_ct(), np.random.default_rng(0)
    small = phantom.voxels[::3, ::3, ::3]
    for number in range(cases):
        noise = generator.normal(0, 10, small.shape).astype(np.int16)
        write_volume(replace(phantom, voxels=small + noise), folder / f"c{number:04d}.nii.gz")


@contextmanager
def ray_nodes(count: int) -> Iterator[Any]:
    """Start a head without processors and nodes of one each, for the length of the block."""
    from ray.cluster_utils import Cluster

    small = {"object_store_memory": OBJECT_STORE_BYTES, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **small})
    try:
        for _ in range(count):
            cluster.add_node(num_cpus=1, object_store_memory=OBJECT_STORE_BYTES)
        yield cluster
    finally:
        cluster.shutdown()


def measured(run: Run, words: Sequence[str], place: Path, cases: int, victim: Any = None) -> Run:
    """Run `multiorganseg segment` with one thread and watch it and the processes of Ray.

    Args:
        run: Where the measurements go.
        words: Of the command, without output and events.
        place: Output folder; log and events lie beside it.
        cases: How many there are.
        victim: A cluster of which a node is killed when half of the cases are done.
    """
    events, log = place.with_suffix(".jsonl"), place.with_suffix(".log")
    command = module_command("multiorganseg", ["segment", *words, "-o", str(place), "--events", str(events)])
    environment = {**module_environment(), "OMP_NUM_THREADS": "1"}
    tail, spent, ends = EventTail(events), dict[tuple[str, int], float](), list[float]()
    started = time.perf_counter()
    with log.open("wb") as sink:
        child = subprocess.Popen(command, stdout=sink, stderr=sink, env=environment)
        while child.poll() is None:
            time.sleep(POLL_SECONDS)
            ends += count_finished(tail, run.finished)
            resident = look(child.pid, spent)
            marks = max(map(len, run.resident_mib.values()), default=0)
            if marks < len(MARKS) and len(ends) >= MARKS[marks] * cases:
                for role, mib in resident.items():
                    run.resident_mib.setdefault(role, []).append(mib)
            if victim is not None and len(ends) >= cases / 2:
                victim.remove_node(next(iter(victim.worker_nodes)), allow_graceful=False)
                victim = None
    ends += count_finished(tail, run.finished)
    run.code, run.seconds, run.load = child.returncode, time.perf_counter() - started, os.getloadavg()[0]
    run.each = (ends[-1] - ends[0]) / (len(ends) - 1) if len(ends) > 1 else float("nan")
    for (role, _), seconds in spent.items():
        run.processor_seconds[role] = run.processor_seconds.get(role, 0.0) + seconds
    return run


def count_finished(tail: EventTail, finished: dict[str, int]) -> list[float]:
    """Count the cases told to be finished since the last call; returns the times of these events."""
    times = []
    while events := tail.poll():
        for event in events:
            if event["event"] == "finished":
                finished[event["case"]] = finished.get(event["case"], 0) + 1
                times.append(event["time"])
    return times


def look(command: int, spent: dict[tuple[str, int], float]) -> dict[str, float]:
    """Bring the processor seconds of each process up to date, and return MiB in memory by role."""
    resident: dict[str, float] = {}
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            worker = process.name().startswith("ray::Worker")
            role = "command" if process.pid == command else "workers" if worker else "Ray"
            clock = process.cpu_times()
            spent[role, process.pid] = clock.user + clock.system
            mib = process.memory_info().rss / MIB
            resident[role] = max(resident.get(role, 0.0), mib) if worker else resident.get(role, 0.0) + mib
    return resident


def faults_of(run: Run, place: Path, plain: Path, cases: int) -> list[str]:
    """Say what is wrong with the results of a run, beside those without Ray."""
    wanted = {path.name.removesuffix(".seg.nrrd"): path for path in plain.glob("*.seg.nrrd")}
    faults = [f"exit code {run.code}"] if run.code else []
    if len(wanted) != cases or run.finished != {f"{name}.nii.gz": 1 for name in wanted}:
        faults.append(f"{sum(run.finished.values())} results of {len(run.finished)} cases told")
    for name, path in wanted.items():
        mine = place / path.name
        if not mine.is_file():
            faults.append(f"{name} is missing")
        elif not np.array_equal(read_labels(mine).voxels, read_labels(path).voxels):
            faults.append(f"{name} has other labels")
        elif facts(place / f"{name}.statistics.json") != facts(plain / f"{name}.statistics.json"):
            faults.append(f"{name} has other measurements")
    return [f"{run.name}: {fault}" for fault in faults]


def facts(path: Path) -> dict[str, Any]:
    """Read the measurements of a case; the seconds that it took differ each time."""
    said = json.loads(path.read_text(encoding="utf-8"))
    del said["provenance"]["seconds"]
    return dict(said)


def reports(runs: Sequence[Run], cases: int, faults: Sequence[str]) -> list[Report]:
    """Make a table of times and one of memory."""
    plain, one = runs[0], runs[1]
    times = [
        (
            run.name,
            f"{run.seconds:.1f}",
            f"{plain.seconds / run.seconds:.2f}",
            f"{run.each:.3f}",
            f"{plain.each / run.each:.2f}",
            *(f"{run.processor_seconds.get(role, 0.0):.1f}" for role in ("command", "workers", "Ray")),
            f"{run.load:.1f}",
        )
        for run in runs
    ]
    memory = [
        (run.name, role, *(f"{mib:.0f}" for mib in run.resident_mib[role]))
        for run in runs
        for role in sorted(run.resident_mib)
    ]
    busy = (sum(one.processor_seconds.values()) - sum(plain.processor_seconds.values())) / cases
    notes = (
        f"Ray adds {one.each - plain.each:.3f} s a case on one worker between first and last result, "
        f"{(one.seconds - plain.seconds) / cases:.3f} s with its start (aim: at most {AIM_SECONDS} s), and "
        f"{busy:.3f} processor seconds.",
        f"Results: {'; '.join(faults) or 'each case once in every run, the same to the bit'}.",
    )
    header = ("way", "total s", "× faster", "s a case", "× faster", "command", "workers", "Ray", "load")
    title = f"{cases} small CTs, one thread a worker; the three columns of processes are processor seconds"
    marks = tuple(f"case {round(mark * cases)}" for mark in MARKS)
    return [
        Report(title, header, times, notes=notes),
        Report("MiB in memory; of the workers the largest", ("way", "process", *marks), memory, texts=2),
    ]


if __name__ == "__main__":
    typer.run(main)
