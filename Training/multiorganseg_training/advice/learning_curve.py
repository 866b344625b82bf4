"""The learning curve: Dice of an organ over the number of its annotated cases, fitted and drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from multiorganseg.atomic import atomic_path
from multiorganseg.bundles.folders import visible_folders
from multiorganseg.errors import TrainingError
from multiorganseg.projects.acceptance import load_acceptance
from multiorganseg.projects.runs import RUNS_FOLDER

FEWEST_SIZES = 3
SMALLEST_NOISE = 0.02
DRAWS = 400
GAIN = 0.02
COVERAGE = 0.8
BEYOND = 1000
"""A number of cases past which an extrapolation from a handful means nothing."""

MOST_DROP = 2.0
RATES = np.geomspace(0.1, 2.0, 120)
"""Bounds of b and values of c that are tried; a lies in [0, 1]."""


@dataclass(frozen=True)
class CurvePoint:
    """One run.

    Attributes:
        cases: Annotated cases that trained it.
        dice: Mean Dice of the organ on held-out cases.
        run: Name of the run's folder.
    """

    cases: int
    dice: float
    run: str = ""


@dataclass(frozen=True, eq=False)
class LearningCurve:
    """Dice(n) = a − b·n^(−c), with what else would fit.

    Attributes:
        points: That it was fitted to.
        best: (a, b, c) of the least-squares fit; 0 ≤ a ≤ 1 is what it tends to.
        draws: Array (draws, 3) of fits to points that were redrawn with their scatter.
        noise: Standard deviation of a point that the redrawing took.
    """

    points: tuple[CurvePoint, ...]
    best: tuple[float, float, float]
    draws: NDArray[np.float64]
    noise: float

    @property
    def most_cases(self) -> int:
        """Annotated cases of the largest run."""
        return max(point.cases for point in self.points)

    def dice(self, cases: float | NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the best fit at a number of cases (n,)."""
        return curve(np.asarray(cases, np.float64), *self.best)

    def band(self, cases: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return lower and upper end (2, n) of the 80 % band at numbers of cases (n,)."""
        drawn = np.stack([curve(np.asarray(cases, np.float64), *draw) for draw in self.draws])
        share = 50 * (1 - COVERAGE)
        ends: NDArray[np.float64] = np.percentile(drawn, (share, 100 - share), axis=0)
        return ends


@dataclass(frozen=True)
class CasesNeeded:
    """How many annotated cases a Dice takes.

    Attributes:
        target: The Dice.
        more: Further cases by the best fit; None when it never gets there.
        interval: 80 % interval of the further cases; upper end None when the curve may never get there.
            None for the whole when even the lower end says so.
        unreachable: Share of the redrawn curves that never get there (or past a thousand cases).
    """

    target: float
    more: int | None
    interval: tuple[int, int | None] | None
    unreachable: float

    def sentence(self) -> str:
        """Return it as a sentence."""
        aim = f"a Dice of {self.target:.2f}"
        if self.interval is None:
            return f"By these runs, {aim} is out of reach with more cases alone. Look for another cause."
        low, high = self.interval
        between = f"{low} to {high}" if high is not None else f"at least {low}; maybe no number is enough"
        if self.more is None:
            return f"By these runs, {aim} is probably out of reach with more cases alone ({between})."
        if self.more == 0:
            return f"By these runs, the annotated cases are enough for {aim} (further cases: {between})."
        return (
            f"About {self.more} more annotated {'case' if self.more == 1 else 'cases'} for {aim} "
            f"(80 % interval: {between})."
        )


def curve(cases: NDArray[np.float64], limit: float, drop: float, rate: float) -> NDArray[np.float64]:
    """Return limit − drop·cases^(−rate), the inverse power law of learning curves (Cortes et al. 1993)."""
    return limit - drop * cases**-rate


def fit_curve(points: Sequence[CurvePoint], seed: int = 0) -> LearningCurve:
    """Fit a learning curve and its uncertainty.

    The points are redrawn around the fit with their residual scatter, but with at least a standard deviation
    of 0.02: a Dice over a few cases varies by as much, and three points always lie on some curve.

    Args:
        points: Of one organ.
        seed: Of the redrawing.

    Raises:
        TrainingError: There are fewer than three different numbers of cases.
    """
    sizes = sorted({point.cases for point in points})
    if len(sizes) < FEWEST_SIZES:
        msg = "There are too few points for a learning curve."
        numbers = ", ".join(map(str, sizes)) or "none"
        raise TrainingError(
            msg,
            cause=f"It takes runs with {FEWEST_SIZES} different numbers of annotated cases; there are: "
            f"{numbers}.",
            next_step="Train with fewer and with more annotated cases, and check each run.",
        )
    counts = np.array([point.cases for point in points], np.float64)
    dice = np.array([point.dice for point in points], np.float64)
    limit, drop, rate = _fit(counts, dice[None])[0].tolist()
    best = (limit, drop, rate)
    freedom = len(points) - 3
    residuals = dice - curve(counts, *best)
    scatter = math.sqrt(float((residuals**2).sum()) / freedom) if freedom > 0 else 0.0
    noise = max(scatter, SMALLEST_NOISE)
    generator = np.random.default_rng(seed)
    centre = curve(counts, *best)
    draws = _fit(counts, centre + generator.normal(0, noise, (DRAWS, len(counts))))
    return LearningCurve(tuple(points), best, draws, noise)


def cases_needed(learned: LearningCurve, target: float | None = None) -> CasesNeeded:
    """Estimate how many further annotated cases a Dice takes.

    Args:
        learned: The curve.
        target: Dice in (0, 1); None for 0.02 more than the curve says of the largest run.

    Raises:
        TrainingError: The target is out of range.
    """
    if target is None:
        target = min(float(learned.dice(learned.most_cases)) + GAIN, 1.0)
    elif not 0 < target < 1:
        msg = f"A Dice of {target:g} is no target."
        raise TrainingError(msg, next_step="Choose one between 0 and 1, such as 0.8.")
    needed = np.array([_cases_for(target, *draw) for draw in learned.draws])
    share = (1 - COVERAGE) / 2
    low, high = np.quantile(needed, (share, 1 - share), method="nearest")
    return CasesNeeded(
        target,
        _more(_cases_for(target, *learned.best), learned),
        None if math.isinf(low) else (_more(low, learned) or 0, _more(high, learned)),
        float(np.isinf(needed).mean()),
    )


def _cases_for(target: float, limit: float, drop: float, rate: float) -> float:
    if limit <= target:
        return math.inf
    logarithm = math.log(drop / (limit - target)) / rate if drop > 0 else -math.inf
    return math.inf if logarithm > math.log(BEYOND) else math.exp(logarithm)


def _more(cases: float, learned: LearningCurve) -> int | None:
    return None if math.isinf(cases) else max(math.ceil(cases - 1e-9) - learned.most_cases, 0)


def _fit(counts: NDArray[np.float64], dice: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fit curves to redrawn points by least squares.

    For a given rate the curve is linear in the other two parameters, so that the best of each rate is exact:
    it lies inside their bounds, or on an edge. All rates are tried, so that no start can lead astray.

    Args:
        counts: Annotated cases (points,).
        dice: Values (draws, points).

    Returns:
        Array (draws, 3) of limit, drop and rate.
    """
    powers = counts ** -RATES[:, None]
    mean, mean_power = dice.mean(axis=1)[:, None], powers.mean(axis=1)
    centred = powers - mean_power[:, None]
    slope = -(dice @ centred.T) / (centred**2).sum(axis=1)
    at_one = ((1 - dice) @ powers.T) / (powers**2).sum(axis=1)
    flat = np.zeros_like(slope)
    drops = np.stack([slope, at_one, flat, flat + MOST_DROP])
    limits = np.stack(
        [mean + slope * mean_power, flat + 1, flat + mean, mean + MOST_DROP * mean_power + flat]
    )
    drops, limits = np.clip(drops, 0, MOST_DROP), np.clip(limits, 0, 1)
    misses = dice[None, :, None] - (limits[..., None] - drops[..., None] * powers)
    errors = (misses**2).sum(axis=-1).transpose(1, 0, 2).reshape(len(dice), -1)
    edge, rate = np.divmod(errors.argmin(axis=1), len(RATES))
    each = np.arange(len(dice))
    return np.stack([limits[edge, each, rate], drops[edge, each, rate], RATES[rate]], axis=1)


def collect_points(project_folder: Path) -> dict[str, list[CurvePoint]]:
    """Read every acceptance.json of a project.

    Args:
        project_folder: With `runs/`.

    Returns:
        By organ key, one point for each run that learned the organ and measured it on held-out cases, fewest
        cases first.

    Raises:
        TrainingError: An acceptance.json is damaged.
    """
    points: dict[str, list[CurvePoint]] = {}
    for run in visible_folders(project_folder / RUNS_FOLDER):
        acceptance = load_acceptance(run)
        if acceptance is None:
            continue
        for key, organ in acceptance.with_role("new").items():
            count = acceptance.training_cases.get(key, 0)
            if organ.dice_new is not None and count > 0:
                points.setdefault(key, []).append(CurvePoint(count, organ.dice_new, run.name))
    return {key: sorted(found, key=lambda point: point.cases) for key, found in points.items()}


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
