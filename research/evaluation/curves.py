"""Curves of training loss and of Dice on the fold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from multiorganseg.atomic import atomic_path
from research.evaluation.comparison import AVERAGED, Comparison, RecipeRuns
from research.evaluation.finished import MEAN, FinishedRun

if TYPE_CHECKING:
    from matplotlib.axes import Axes


COLOURS = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#e69f00",
    "#56b4e9",
    "#7a4b1e",
    "#444444",
)
Dashes = Literal["-", "--", ":"]
DASHES: tuple[Dashes, ...] = ("-", "--", ":")
SMOOTHED_SHARE = 0.15
DPI = 150
WIDTH, PANEL_HEIGHT, LEGEND_ROW = 11.0, 4.9, 0.21
LONG_NAME = 55
LOSS_SUBTITLE = "running median; methods add up different terms: compare shapes, not heights"
DICE_SUBTITLE = "averaged network, network's grid"
TEXT, FAINT, RULE = "#222222", "#666666", "#dddddd"

Curve = Mapping[int, float]


def draw_curves(comparison: Comparison, path: Path) -> None:
    """Draw the training loss (left) and the fold's mean Dice of the averaged network (right) as PNG.

    One colour a recipe; a thin line a seed, and a bold one for their median where there are several. The loss
    is smoothed by a running median.

    Raises:
        ResourceError: The file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.ticker import FuncFormatter, LogLocator

    names = [_name(recipe) for recipe in comparison.recipes]
    columns = 1 if max(map(len, names)) > LONG_NAME else min(3, len(names))
    legend = LEGEND_ROW * -(-len(names) // columns) + 0.1
    height = PANEL_HEIGHT + legend
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    loss, dice = figure.subplots(1, 2, sharex=True)
    figure.subplots_adjust(
        left=0.06, right=0.985, wspace=0.14, top=1 - 0.62 / height, bottom=(legend + 0.5) / height
    )
    handles = []
    for number, recipe in enumerate(comparison.recipes):
        colour = COLOURS[number % len(COLOURS)]
        dashes = DASHES[number // len(COLOURS) % len(DASHES)]
        _draw(loss, [smoothed(run.losses) for run in recipe.runs], colour, dashes, "")
        _draw(dice, [_fold_curve(run) for run in recipe.runs], colour, dashes, "o")
        handles.append(Line2D([], [], color=colour, linestyle=dashes, linewidth=2.2))
    loss.set_yscale("log")
    loss.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    loss.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    dice.set_ylim(0, 1)
    loss.set_xlim(left=0)
    _dress(
        loss, "Training loss", "running median; methods add up different terms: compare shapes, not heights"
    )
    _dress(
        dice,
        "Mean Dice on the validation fold",
        f"averaged network, on the network's grid{_seeds(comparison)}",
    )
    figure.legend(
        handles, names, loc="lower center", ncols=columns, frameon=False, fontsize=9, labelcolor=TEXT
    )
    with atomic_path(path) as partial:
        canvas.print_png(str(partial))


def smoothed(curve: Curve, share: float = SMOOTHED_SHARE) -> dict[int, float]:
    """Return the running median over a share of the points; at both ends the window is cut."""
    values = np.array(list(curve.values()), float)
    half = int(len(values) * share / 2)
    medians: list[float] = []
    for place in range(len(values)):
        medians.append(float(np.median(values[max(0, place - half) : place + half + 1])))
    return dict(zip(curve, medians, strict=True))


def median_curve(curves: Sequence[Curve]) -> dict[int, float]:
    """Return the median at each iteration that all curves have."""
    shared = sorted(set.intersection(*(set(curve) for curve in curves)))
    return {place: float(np.median([curve[place] for curve in curves])) for place in shared}


def _fold_curve(run: FinishedRun) -> dict[int, float]:
    points = run.series[AVERAGED].items()
    return {place: mean for place, dice in points if (mean := dice.get(MEAN)) is not None}


def _draw(axes: Axes, curves: Sequence[Curve], colour: str, dashes: Dashes, marker: str) -> None:
    for curve in curves:
        alone = len(curves) == 1
        axes.plot(
            *_points(curve),
            color=colour,
            linestyle=dashes,
            linewidth=1.4 if alone else 0.8,
            alpha=1.0 if alone else 0.6,
            marker=marker,
            markersize=4 if alone else 2.5,
        )
    if len(curves) > 1:
        axes.plot(*_points(median_curve(curves)), color=colour, linestyle=dashes, linewidth=2.2)


def _points(curve: Curve) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return np.array(list(curve), float), np.array(list(curve.values()), float)


def _dress(axes: Axes, title: str, subtitle: str) -> None:
    axes.set_title(title, loc="left", fontsize=11, color=TEXT, pad=20)
    axes.text(0, 1.025, subtitle, transform=axes.transAxes, fontsize=8.5, color=FAINT)
    axes.set_xlabel("iteration", fontsize=9, color=FAINT)
    axes.tick_params(which="both", colors=FAINT, labelsize=8.5, length=0)
    axes.grid(axis="y", color=RULE, linewidth=0.7)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(RULE)


def _seeds(comparison: Comparison) -> str:
    several = any(len(recipe.runs) > 1 for recipe in comparison.recipes)
    return "; thin: a seed, bold: median over seeds" if several else ""


def _name(recipe: RecipeRuns) -> str:
    seeds = ", ".join(str(run.seed) for run in recipe.runs)
    return f"{recipe.label} · {'seed' if len(recipe.runs) == 1 else 'seeds'} {seeds}"
