"""The tables of the inference benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.measured import FINISHED, GIB, KILLED, Measurement
from harness.report import Report

COLUMNS = {
    "start": ("start",),
    "read": ("read",),
    "resample": ("resample",),
    "load": ("load bundle", "load network"),
    "network": ("network",),
    "labels": ("clean", "restore", "interpolate", "argmax", "reorient", "export"),
    "measure": ("measure",),
    "write": ("write",),
}
"""Stages of the processes by column of the table."""

NAMES = {
    "ours": "ours, balanced",
    "ours-fast": "ours, fast",
    "plain": "plain",
    "plain-fp32": "plain, fp32",
    "nnunet": "nnU-Net v2, export alone",
}


@dataclass(frozen=True)
class Cell:
    """One method on one case with one number of classes.

    Attributes:
        case: Name of the CT.
        classes: Organs, without background.
        method: A key of `NAMES`.
        weights: Where the network's weights came from.
        shape: Voxels of the CT, (k, j, i).
        measured: The fastest run.
        computed_bytes: Least peak that the method needs by its shapes; None for the engine.
        agreement: With the engine's labels; None where there is nothing to compare.
    """

    case: str
    classes: int
    method: str
    weights: str
    shape: tuple[int, ...]
    measured: Measurement
    computed_bytes: float | None
    agreement: dict[str, Any] | None


def stage_report(cells: Sequence[Cell], slices: int | None) -> Report:
    """Seconds a stage and peak memory of every cell."""
    rows = []
    for cell in cells:
        seconds = cell.measured.seconds
        stages = [[seconds[part] for part in parts if part in seconds] for parts in COLUMNS.values()]
        shown = ["" if not values else f"{sum(values):.1f}" for values in stages]
        finished = cell.measured.outcome == FINISHED
        peak = f"{cell.measured.peak_bytes / GIB:.2f}"
        rows.append(
            (
                cell.case,
                str(cell.classes),
                NAMES[cell.method],
                *shown,
                f"{cell.measured.total:.1f}" if finished and cell.method != "nnunet" else "–",
                peak if finished else "–",
                f"{cell.computed_bytes / GIB:.1f}" if cell.computed_bytes else "",
                cell.measured.note,
            )
        )
    volumes = {cell.case: "×".join(map(str, reversed(cell.shape))) for cell in cells}
    backends = {NAMES[cell.method]: cell.measured.facts.get("backend") for cell in cells}
    weights = {cell.classes: cell.weights for cell in cells}
    notes = (
        "CTs: " + "; ".join(f"{name} {shape}" for name, shape in volumes.items()) + ".",
        "Networks: " + "; ".join(f"{number} classes: {text}" for number, text in weights.items()) + ".",
        "Precision: " + "; ".join(f"{name}: {text}" for name, text in backends.items() if text) + ".",
        "Start is the interpreter with its imports; labels is all between the network and labels on the CT's "
        "grid. The computed peak follows from the shapes alone. A stage that was broken off counts so far.",
    )
    trial = f" (a trial on {slices} slices: no figures to quote)" if slices else ""
    header = ("Case", "Classes", "Method", *COLUMNS, "total s", "peak GiB", "computed GiB", "Note")
    return Report(f"Seconds a stage and peak memory{trial}", header, rows, texts=3, notes=notes)


def ratio_report(cells: Sequence[Cell]) -> Report:
    """How much faster and smaller the engine is than each rival in the same run."""
    ours = {(cell.case, cell.classes): cell for cell in cells if cell.method == "ours"}
    rows: list[tuple[str, ...]] = []
    for cell in cells:
        own = ours.get((cell.case, cell.classes))
        if own is None or own.measured.outcome != FINISHED or cell.computed_bytes is None:
            continue
        if cell.measured.outcome not in (FINISHED, KILLED):
            continue
        sign = "" if cell.measured.outcome == FINISHED else "≥ "
        rival, engine = cell.measured.total, own.measured.total
        if cell.method == "nnunet":
            rival, engine = (_labels_seconds(item.measured) for item in (cell, own))
        peak = own.measured.peak_bytes
        rows.append(
            (
                cell.case,
                str(cell.classes),
                NAMES[cell.method],
                f"{sign}{rival / engine:.1f}×",
                f"{sign}{cell.measured.peak_bytes / peak:.1f}×",
                f"{cell.computed_bytes / peak:.1f}×",
            )
        )
    header = ("Case", "Classes", "Rival", "seconds", "peak memory", "computed peak")
    notes = (
        "Rival divided by ours, balanced, of the same run. '≥': the rival was killed, so that it would have "
        "taken more. nnU-Net's export is compared with our column labels, and its peak with our whole run's.",
    )
    return Report("How many times ours", header, rows, texts=3, notes=notes)


def agreement_report(cells: Sequence[Cell]) -> list[Report]:
    """How far the labels of the plain way are those of the engine; empty when nothing could be compared."""
    rows: list[tuple[str, ...]] = [
        (
            cell.case,
            str(cell.classes),
            NAMES[cell.method],
            f"{cell.agreement['equal']:.1%}",
            f"{cell.agreement['mean_dice']:.3f}",
            str(cell.agreement["organs"]),
        )
        for cell in cells
        if cell.agreement
    ]
    header = ("Case", "Classes", "Rival", "equal voxels", "mean Dice", "organs found")
    notes = (
        "Equal voxels among those that either labels. The engine also drops an organ's small surplus pieces.",
    )
    report = Report("Agreement of ours, balanced, with the rival", header, rows, texts=3, notes=notes)
    return [report] if rows else []


def _labels_seconds(measured: Measurement) -> float:
    return sum(measured.seconds.get(part, 0.0) for part in COLUMNS["labels"])
