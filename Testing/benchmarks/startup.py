"""Seconds that the module adds to Slicer's start, and to opening its panel: see docs/results/speed.md.

Each repetition is a process of its own. The panel is built on the Qt stand-in, so its time only tells what
is in the module's hand.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer
from harness.machine import describe_machine
from harness.report import Report, publish

ROOT = Path(__file__).resolve().parents[2]
OUTPUT = Path("build/benchmarks")
HEAVY = ("torch", "monai", "openvino", "highdicom", "SimpleITK", "matplotlib", "scipy")
AIM_SECONDS = 0.3
STEPS = {
    "slicer": "import slicer and start the host (without the module)",
    "module": "load the module: what it adds to Slicer's start",
    "logic": "make its logic, look for missing packages",
    "panel": "open its panel (Qt stand-in)",
}
CHILD = """
import json, sys, time
clocks = (time.perf_counter, time.process_time)
started = [clock() for clock in clocks]
def lap():
    global started
    now = [clock() for clock in clocks]
    passed, started = [b - a for a, b in zip(started, now)], now
    return passed
import slicer_host
from pathlib import Path
host = slicer_host.start(widgets=True)
seconds = {"slicer": lap()}
before = set(sys.modules)
module = host.load_module("MultiOrganSeg", Path(sys.argv[1]))
seconds["module"] = lap()
added = sorted(set(sys.modules) - before)
from MultiOrganSegLib.dependencies import missing_packages
module.python.MultiOrganSegLogic()
missing_packages()
seconds["logic"] = lap()
module.widgetRepresentation()
seconds["panel"] = lap()
print(json.dumps({"seconds": seconds, "added": added}))
"""


def main(
    repetitions: Annotated[int, typer.Option(min=1, help="Processes; the median counts.")] = 7,
    module: Annotated[Path, typer.Option(help="Folder of MultiOrganSeg.py.")] = ROOT / "MultiOrganSeg",
    output: Annotated[Path, typer.Option(help="Folder for the table and JSON.")] = OUTPUT,
) -> None:
    """Measure and publish; a package that must not load at start is shown by an exit code of 1."""
    machine = describe_machine()
    runs = [measure_once(module) for _ in range(repetitions)]
    rows = [row(text, [run["seconds"][key] for run in runs]) for key, text in STEPS.items()]
    heavy = heavy_packages(runs[-1]["added"])
    notes = (
        f"Aim for loading the module: at most {AIM_SECONDS} s.",
        f"Heavy packages that loading the module imports: {', '.join(heavy) or 'none'}.",
    )
    header = ("step", "median", "least", "most", "median on the CPU")
    report = Report("Start of the Slicer module, in seconds", header, rows, notes=notes)
    publish("startup", output, machine, [report], runs)
    if heavy:
        raise typer.Exit(1)


def row(text: str, seconds: list[list[float]]) -> tuple[str, ...]:
    """Return a row of the table from (elapsed, on the CPU) of each repetition."""
    elapsed, on_cpu = zip(*seconds, strict=True)
    values = (statistics.median(elapsed), min(elapsed), max(elapsed), statistics.median(on_cpu))
    return (text, *(f"{value:.3f}" for value in values))


def measure_once(module: Path) -> dict:
    """Load the module in a new process; gives `seconds` by step and the modules that loading `added`."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(module)],
        env=child_environment(module),
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def child_environment(module: Path) -> dict[str, str]:
    """Environment in which the child finds the host, and the module as Slicer does."""
    paths = [str(ROOT / "Testing" / "host"), str(module)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "QT_QPA_PLATFORM": "offscreen"}


def heavy_packages(modules: list[str]) -> list[str]:
    """Those of `HEAVY` among module names."""
    return sorted({name.partition(".")[0] for name in modules} & set(HEAVY))


if __name__ == "__main__":
    typer.run(main)
