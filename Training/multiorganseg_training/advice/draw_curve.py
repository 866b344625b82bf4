"""A learning curve as a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from multiorganseg.atomic import atomic_path
from multiorganseg_training.advice.learning_curve import CasesNeeded, LearningCurve

SIZE_INCHES, DPI = (8.0, 5.0), 120
FURTHEST = 4
CURVE, BAND, POINT, AIM = "#0b6fb8", "#0b6fb8", "#1b1f24", "#c2410c"


def draw_curve(learned: LearningCurve, needed: CasesNeeded, organ: str, path: Path) -> None:
    """Draw the runs, the curve with its 80 % band, and the Dice that is asked for, as PNG of 960×600 pixels.

    Args:
        learned: The curve.
        needed: What is asked for.
        organ: Its name for people.
        path: PNG file.

    Raises:
        ResourceError: The file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=SIZE_INCHES, dpi=DPI, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    first, last = min(point.cases for point in learned.points), learned.most_cases
    aim = None if needed.more is None else last + needed.more
    end = max(last * 1.5, last + 3, min(aim * 1.1, last * FURTHEST) if aim is not None else 0)
    grid = np.linspace(first, end, 200)
    low, high = np.clip(learned.band(grid), 0, 1)
    axes.fill_between(
        grid, low, high, color=BAND, alpha=0.18, linewidth=0, label="80 % of the curves that fit"
    )
    measured = grid <= last
    axes.plot(grid[measured], learned.dice(grid[measured]), color=CURVE, linewidth=2, label="fitted curve")
    axes.plot(grid[~measured], learned.dice(grid[~measured]), color=CURVE, linewidth=2, linestyle=(0, (4, 3)))
    counts, dice = zip(*((point.cases, point.dice) for point in learned.points), strict=True)
    axes.plot(counts, dice, "o", color=POINT, markersize=7, label="runs, on held-out cases", zorder=3)
    axes.axhline(needed.target, color=AIM, linewidth=1.2, linestyle=":")
    axes.annotate(
        f"Dice {needed.target:.2f}", (1, needed.target), (-4, 4), xycoords=("axes fraction", "data"),
        textcoords="offset points", ha="right", va="bottom", color=AIM, fontsize=10,
    )  # fmt: skip
    if aim is not None and aim <= end:
        axes.plot([aim], [needed.target], "D", color=AIM, markersize=8, zorder=4, label=f"about {aim} cases")
    bottom = min(float(low.min()), *dice) - 0.05
    axes.set_ylim(max(bottom, 0), min(max(float(high.max()), needed.target) + 0.06, 1.0))
    axes.set_xlim(left=max(first - 0.5, 0), right=end)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("annotated cases in training")
    axes.set_ylabel("Dice")
    axes.set_title(organ, loc="left", weight="bold", parse_math=False)
    axes.grid(color="#d9dde3", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower right", frameon=False)
    with atomic_path(path) as partial:
        canvas.print_png(str(partial))
