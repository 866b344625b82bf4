"""Labels back to the CT's grid: nearest neighbour, vote of the eight corners, linear class by class.

Reference labels go to the network's grid and back; what is lost is lost on the way.
See docs/results/accuracy.md.
"""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from harness.linear import restore_labels_linear
from harness.machine import describe_machine
from harness.measured import GIB
from harness.report import Report, publish
from numpy.typing import NDArray
from rich.console import Console

from multiorganseg.geometry.orient import reorient
from multiorganseg.geometry.resample import (
    restore_labels,
    restore_labels_nearest,
    spacing_grid,
)
from multiorganseg.metrics import evaluate
from multiorganseg.metrics.report import mean_by_organ, mean_over_organs
from multiorganseg.metrics.scores import OrganScore
from multiorganseg.organs.labels import LabelTable
from multiorganseg.volumes.read import read_labels
from multiorganseg.volumes.volume import Grid, Volume
from multiorganseg_training.data.cases import Case, find_cases
from multiorganseg_training.recipe.file import load_recipe

RECIPE = Path(__file__).resolve().parent.parent.parent / "Training" / "recipes" / "abdomen-ct.toml"
OUTPUT = Path("build/benchmarks")

Labels = NDArray[np.unsignedinteger]
Restore = Callable[[Labels, Grid, Grid], Labels]

METHODS: dict[str, Restore] = {
    "nearest": restore_labels_nearest,
    "vote": restore_labels,
    "linear by class": restore_labels_linear,
}
COARSENING = {"network's": 1.0, "twice the network's": 2.0}
TOLERANCE_MM = 1.0
FULL_SHAPE = (300, 512, 512)
MANY_CLASSES = 104

console = Console(stderr=True, highlight=False)


def main(
    data: Annotated[Path, typer.Option(help="Folder with images/ and labels/ of equal file names.")],
    output: Annotated[Path, typer.Option(help="Folder for the table and JSON.")] = OUTPUT,
    limit: Annotated[int, typer.Option(help="Use the first so many cases; 0 for all.")] = 0,
    shrink: Annotated[int, typer.Option(help="Divide the timed volume's sides by it: a trial.")] = 1,
) -> None:
    """Compare ways to bring labels from the network's grid onto the CT's own: fidelity, seconds, memory."""
    machine = describe_machine()
    recipe = load_recipe(RECIPE)
    spacing, table = recipe.preprocessing.spacing_mm, recipe.data.table
    cases = find_cases(data)[: limit or None]
    fidelity = measure_fidelity(cases, spacing, table)
    cost = measure_cost(cases[0], spacing, shrink)
    publish(
        "restore",
        output,
        machine,
        [_fidelity_report(fidelity, len(cases), spacing), _cost_report(cost)],
        {
            "fidelity": fidelity,
            "cost": cost,
            "cases": [case.name for case in cases],
        },
    )


def measure_fidelity(cases: list[Case], spacing: tuple[float, float, float], table: LabelTable) -> list[dict]:
    """Send reference labels to the network's grid and back and compare them with themselves.

    Returns:
        One entry for each coarsening and method: mean Dice and NSD over organs, and by organ.
    """
    results = []
    for grid_name, factor in COARSENING.items():
        coarse_spacing = (spacing[0] * factor, spacing[1] * factor, spacing[2] * factor)
        scores: dict[str, list[OrganScore]] = {name: [] for name in METHODS}
        for case in cases:
            console.print(f"{case.name}, {grid_name} spacing …")
            reference = _canonical(read_labels(case.labels))
            grid = spacing_grid(reference.grid, coarse_spacing)
            coarse = restore_labels(reference.voxels, reference.grid, grid)
            for name, restore in METHODS.items():
                back = restore(coarse, grid, reference.grid)
                scores[name] += evaluate(
                    back, table, reference.voxels, table, reference.grid, tolerance_mm=TOLERANCE_MM
                )
        for name, of_method in scores.items():
            by_organ = mean_by_organ(of_method)
            overall = mean_over_organs(by_organ)
            results.append(
                {
                    "grid": grid_name,
                    "method": name,
                    "dice": overall["dice"].value,
                    "nsd": overall["nsd"].value,
                    "dice_by_organ": {key: mean["dice"].value for key, mean in by_organ.items()},
                    "nsd_by_organ": {key: mean["nsd"].value for key, mean in by_organ.items()},
                }
            )
    return results


def measure_cost(case: Case, spacing: tuple[float, float, float], shrink: int) -> list[dict]:
    """Restore one patient's labels onto 512×512×300 voxels, with the organs as they are and divided.

    Returns:
        One entry for each number of classes and method: seconds, and bytes that it allocated at most.
    """
    reference = _canonical(read_labels(case.labels))
    fine = _same_extent(reference.grid, tuple(max(1, size // shrink) for size in FULL_SHAPE))
    coarse_grid = spacing_grid(fine, spacing)
    coarse = restore_labels_nearest(reference.voxels, reference.grid, coarse_grid)
    results = []
    for labels in (coarse, _divided(coarse)):
        for name, restore in METHODS.items():
            classes = len(np.unique(labels)) - 1
            console.print(f"{name}, {classes} classes, {fine.shape} …")
            started = time.perf_counter()
            restore(labels, coarse_grid, fine)
            seconds = time.perf_counter() - started
            results.append(
                {
                    "classes": classes,
                    "method": name,
                    "shape": fine.shape,
                    "seconds": seconds,
                    "peak_bytes": _allocated(restore, labels, coarse_grid, fine),
                }
            )
    return results


def _canonical(volume: Volume) -> Volume:
    step = reorient(volume.grid)
    return Volume(np.ascontiguousarray(step.apply(volume.voxels)), step.target.affine)


def _same_extent(grid: Grid, shape: tuple[int, ...]) -> Grid:
    factors = np.array(grid.shape) / shape
    affine = grid.affine.copy()
    affine[:3, :3] = grid.affine[:3, :3] * factors[::-1]
    affine[:3, 3] = grid.to_patient(tuple(0.5 * (factors - 1)))
    return Grid((shape[0], shape[1], shape[2]), affine)


def _divided(labels: Labels) -> Labels:
    """Divide every organ into up to eight by the parity of 24-voxel blocks."""
    k, j, i = (np.arange(size) // 24 % 2 for size in labels.shape)
    part = k[:, None, None] * 4 + j[None, :, None] * 2 + i[None, None, :]
    return np.where(labels > 0, (labels.astype(np.uint8) - 1) * 8 + part + 1, 0).astype(np.uint8)


def _allocated(restore: Restore, labels: Labels, source: Grid, target: Grid) -> int:
    tracemalloc.start()
    restore(labels, source, target)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def _fidelity_report(results: list[dict], cases: int, spacing: tuple[float, float, float]) -> Report:
    rows: list[tuple[str, ...]] = [
        (entry["grid"], entry["method"], f"{entry['dice']:.4f}", f"{entry['nsd']:.4f}") for entry in results
    ]
    size = "×".join(f"{value:g}" for value in spacing)
    notes = (
        f"Means over organs, then {cases} cases. The network's spacing is {size} mm (k, j, i). On twice that "
        "the steps between labels and CT are those of a CT with half these voxel sizes.",
    )
    header = ("Spacing", "Method", "Dice", f"NSD {TOLERANCE_MM:g} mm")
    return Report("Reference labels to the network's grid and back", header, rows, texts=2, notes=notes)


def _cost_report(results: list[dict]) -> Report:
    rows: list[tuple[str, ...]] = [
        (
            str(entry["classes"]),
            entry["method"],
            f"{entry['seconds']:.2f}",
            f"{entry['peak_bytes'] / GIB:.2f}",
        )
        for entry in results
    ]
    shape = "×".join(map(str, reversed(results[0]["shape"])))
    return Report(
        f"One patient's labels onto {shape}", ("Classes", "Method", "seconds", "GiB"), rows, texts=2
    )


if __name__ == "__main__":
    typer.run(main)
