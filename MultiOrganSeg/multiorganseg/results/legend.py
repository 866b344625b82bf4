"""Colours of the preview, and its legend: organs by volume, with confidence and quality flags."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from multiorganseg.results.segmentation import Segmentation
from multiorganseg.results.segments import Segment

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BACKGROUND = "#0c0f14"
PANEL = "#000000"
FRAME = "#232a35"
TEXT = "#e8ecf1"
FAINT = "#8a94a3"
MARK = "#ffd866"
WARNING = "#ffb454"
SHADE = "#000000b0"


MOST_ROWS = 32
TALLEST_ROW = 0.046
FLAG_LINES = 8
FLAG_LINE = 0.021
FLAG_WIDTH = 46
RULE = 0.968


def draw_legend(axes: Axes, segments: Sequence[Segment], segmentation: Segmentation) -> None:
    """Fill `axes` with one row an organ, largest volume first, and the flags below.

    Args:
        axes: Empty axes about 350 pixels wide.
        segments: Organs of the segmentation.
        segmentation: Gives volumes where an organ has no statistics.
    """
    axes.set_axis_off()
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    volumes = _volumes(segments, segmentation)
    ordered = sorted(segments, key=lambda segment: -volumes[segment.value])
    shown = ordered[:MOST_ROWS]
    flags = _flag_lines(ordered)
    step = min(TALLEST_ROW, (0.95 - FLAG_LINE * (len(flags) + 2)) / (len(shown) + 1))
    size = min(12.0, step * 400)
    for x, text, across in ((0.075, "Organ", "left"), (0.83, "mL", "right"), (0.99, "conf.", "right")):
        axes.text(x, 0.985, text, color=FAINT, fontsize=min(size, 10), va="center", ha=across)
    axes.plot([0.008, 0.99], [RULE, RULE], color=FRAME, linewidth=1)
    y = RULE - 0.006 + step / 2
    for segment in shown:
        y -= step
        _draw_row(axes, segment, volumes[segment.value], y, step, size)
    if len(ordered) > len(shown):
        y -= step
        axes.text(0.075, y, f"and {len(ordered) - len(shown)} more", color=FAINT, fontsize=size, va="center")
    y -= 0.035
    for line in flags:
        y -= FLAG_LINE
        axes.text(0.008, y, line, color=WARNING, fontsize=9, va="center", parse_math=False)


def _draw_row(axes: Axes, segment: Segment, volume: float, y: float, step: float, size: float) -> None:
    from matplotlib.patches import Rectangle

    statistics = segment.statistics
    found = volume > 0
    color = FAINT if not found else WARNING if statistics and statistics.flags else TEXT
    swatch = Rectangle((0.008, y - step * 0.24), 0.042, step * 0.48, facecolor=segment.unit_color)
    swatch.set_alpha(1.0 if found else 0.35)
    axes.add_patch(swatch)
    name = textwrap.shorten(segment.organ.name, 30, placeholder="…")
    axes.text(0.075, y, name, color=color, fontsize=size, va="center", parse_math=False)
    amount = "–" if not found else f"{volume:,.0f}" if volume >= 10 else f"{volume:.1f}"
    axes.text(0.83, y, amount, color=color, fontsize=size, va="center", ha="right")
    if statistics and math.isfinite(statistics.confidence):
        percent = f"{statistics.confidence:.0%}"
        axes.text(0.99, y, percent, color=FAINT, fontsize=size, va="center", ha="right")


def _volumes(segments: Sequence[Segment], segmentation: Segmentation) -> dict[int, float]:
    """Volume in mL by label value, counted here where statistics are missing."""
    milliliters = segmentation.grid.voxel_volume / 1000
    return {
        segment.value: segment.statistics.volume_ml
        if segment.statistics
        else float(np.count_nonzero(segmentation.labels == segment.value)) * milliliters
        for segment in segments
    }


def _flag_lines(segments: Sequence[Segment]) -> list[str]:
    lines: list[str] = []
    for segment in segments:
        if segment.statistics and segment.statistics.flags:
            text = f"! {segment.organ.name}: {', '.join(segment.statistics.flags)}"
            lines += textwrap.wrap(text, FLAG_WIDTH, subsequent_indent="   ")
    if len(lines) > FLAG_LINES:
        return [*lines[: FLAG_LINES - 1], "More flags are in the statistics table."]
    return lines
