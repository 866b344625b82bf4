"""The picture of labelled and unlabelled features, after Fig. 1 of LTUDA, and tables of a study."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from multiorganseg import __version__
from multiorganseg.atomic import atomic_path
from multiorganseg.organs.catalogue import load_catalogue
from multiorganseg.progress import Progress
from multiorganseg.results.legend import BACKGROUND, FAINT, FRAME, TEXT
from research.features.pixels import FOLD, GROUPS, LABELLED, UNLABELLED, Pixels
from research.features.study import PCA, PROJECTED, Plane, RunFeatures, Study, to_plane

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
import json
from dataclasses import asdict

from research.features.study import PARTS

if TYPE_CHECKING:
    from rich.table import Table


OTHER_COLOR = (0.6, 0.6, 0.6)


def organ_name(key: str) -> str:
    """Return the catalogue's name; the key of an organ that it lacks."""
    organ = load_catalogue().organs.get(key)
    return organ.name if organ else key


def organ_color(key: str) -> tuple[float, float, float]:
    """Return the catalogue's colour, each value in 0…1; grey for an organ that it lacks."""
    organ = load_catalogue().organs.get(key)
    if organ is None:
        return OTHER_COLOR
    red, green, blue = (value / 255 for value in organ.color)
    return red, green, blue


Means = dict[int, dict[str, tuple[float, float]]]

MOST_DRAWN = 2400
COLUMNS = 3
PANEL_INCHES, LEGEND_INCHES, HEADER_INCHES, FOOTER_INCHES, DPI = 5.2, 2.6, 0.55, 0.5, 110

PIXEL_STYLES: dict[str, dict[str, Any]] = {
    LABELLED: {"marker": "o", "s": 11, "linewidths": 0},
    UNLABELLED: {"marker": "o", "s": 17, "linewidths": 0.8},
    FOLD: {"marker": "+", "s": 22, "linewidths": 0.8},
}
BANK_MARKERS = {LABELLED: "^", UNLABELLED: "v"}


def write_picture(study: Study, path: Path, progress: Progress) -> None:
    """Draw the features of each run in a panel of its own, with means and prototypes, as PNG.

    Every organ has its colour of the catalogue; a mean stands in the middle of its pixels in the plane. All
    panels show the same pixels, at most 2400, equally many of each organ and group; each panel lies in a
    space of its own, so that only the order within a panel tells something.

    Args:
        study: What to draw.
        path: PNG file.
        progress: Reports each panel.

    Raises:
        DependencyError: scikit-learn is not installed.
        ResourceError: The file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = math.ceil(len(study.runs) / math.ceil(len(study.runs) / COLUMNS))
    rows = math.ceil(len(study.runs) / columns)
    width = columns * PANEL_INCHES + LEGEND_INCHES
    height = rows * (PANEL_INCHES + HEADER_INCHES) + FOOTER_INCHES
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor=BACKGROUND)
    canvas = FigureCanvasAgg(figure)
    drawn = _drawn(study)
    for number, run in enumerate(study.runs):
        progress("drawing features", number / len(study.runs))
        row, column = divmod(number, columns)
        place = (
            (column * PANEL_INCHES + 0.4) / width,
            (height - (row + 1) * (PANEL_INCHES + HEADER_INCHES) + 0.4) / height,
            (PANEL_INCHES - 0.55) / width,
            (PANEL_INCHES - 0.55) / height,
        )
        _draw_panel(figure.add_axes(place, facecolor=BACKGROUND), run, study, drawn)
    _draw_legend(figure, study, columns * PANEL_INCHES / width)
    _draw_footer(figure, study, width)
    progress("drawing features", 1.0)
    with atomic_path(path) as partial:
        canvas.print_png(str(partial), metadata={"Software": f"MultiOrganSeg {__version__}"})


def _drawn(study: Study) -> NDArray[np.intp]:
    """Choose the pixels of the picture, in random order, so that no organ lies over the others."""
    generator = np.random.default_rng(study.settings.seed)
    order = generator.permutation(len(study.pixels.channel))
    names = study.pixels.channel * len(GROUPS) + study.pixels.group
    present = np.unique(names)
    most = max(MOST_DRAWN // len(present), 2)
    chosen = np.concatenate([order[names[order] == name][:most] for name in present])
    return generator.permutation(chosen)


def _draw_panel(axes: Axes, run: RunFeatures, study: Study, drawn: NDArray[np.intp]) -> None:
    features, pixels = run.features[drawn], study.pixels.take(drawn)
    prototypes = np.empty((2, 0, 0, features.shape[1])) if run.prototypes is None else run.prototypes
    flat = prototypes.reshape(-1, features.shape[1]).astype(np.float32)
    plane = to_plane(features, flat, study.settings.method, study.settings.seed)
    organs = run.recipe.data.table.organs
    _draw_pixels(axes, plane, pixels, organs)
    if run.prototypes is not None:
        _draw_prototypes(axes, plane.marks.reshape(*prototypes.shape[:3], 2), organs)
    _square_limits(axes, plane)
    means = _means(plane, pixels)
    _draw_means(axes, means, organs)
    _draw_names(axes, means, organs)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color(FRAME)
    if study.settings.method == PCA:
        axes.set_xlabel(plane.axes[0], color=FAINT, fontsize=9)
        axes.set_ylabel(plane.axes[1], color=FAINT, fontsize=9)
    spread, steps = run.spread, run.recipe.optimisation.iterations
    unfinished = f", iteration {run.iteration} of {steps}" if run.iteration < steps else ""
    axes.set_title(f"{run.name}{unfinished}", color=TEXT, fontsize=13, pad=22, parse_math=False)
    space = "projected features" if run.space == PROJECTED else "last features"
    axes.text(
        0.5,
        1.018,
        f"{space} · gap {spread.gap:.3f} · relative gap {spread.relative_gap:.3f}",
        color=FAINT,
        fontsize=9.5,
        ha="center",
        transform=axes.transAxes,
    )


def _draw_pixels(axes: Axes, plane: Plane, pixels: Pixels, organs: Mapping[int, str]) -> None:
    colors = {channel: organ_color(key) for channel, key in organs.items()}
    rgb = np.array([colors[channel] for channel in pixels.channel])
    for group in GROUPS:
        own = pixels.of(group)
        if own.any():
            x, y = plane.pixels[own].T
            hollow: dict[str, Any] = {"facecolors": "none", "edgecolors": rgb[own]}
            faces = hollow if group == UNLABELLED else {"c": rgb[own]}
            axes.scatter(x, y, alpha=0.75, zorder=2, **faces, **PIXEL_STYLES[group])


def _draw_prototypes(axes: Axes, places: NDArray[np.float64], organs: Mapping[int, str]) -> None:
    for group, of_bank in zip((LABELLED, UNLABELLED), places, strict=True):
        for key, of_organ in zip(organs.values(), of_bank, strict=True):
            x, y = of_organ.T
            axes.scatter(x, y, s=95, marker=BANK_MARKERS[group], zorder=4, **_mark_style(group, key))


def _draw_means(axes: Axes, means: Means, organs: Mapping[int, str]) -> None:
    for channel, of_organ in means.items():
        x, y = np.array(list(of_organ.values())).T
        axes.plot(x, y, color="white", linewidth=1.6, zorder=4.5)
        for group, (x_mean, y_mean) in of_organ.items():
            style = _mark_style(group, organs[channel])
            axes.scatter([x_mean], [y_mean], s=210, marker="o", zorder=5, **style)


def _mark_style(group: str, key: str) -> dict[str, Any]:
    if group == LABELLED:
        return {"facecolors": [organ_color(key)], "edgecolors": "white", "linewidths": 1.6}
    return {"facecolors": BACKGROUND, "edgecolors": [organ_color(key)], "linewidths": 2.6}


def _means(plane: Plane, pixels: Pixels) -> Means:
    means: Means = {}
    for channel in np.unique(pixels.channel).tolist():
        for group in (LABELLED, UNLABELLED):
            own = pixels.of(group, channel=channel)
            if own.any():
                x, y = plane.pixels[own].mean(axis=0).tolist()
                means.setdefault(channel, {})[group] = (x, y)
    return means


def _draw_names(axes: Axes, means: Means, organs: Mapping[int, str]) -> None:
    """Name each organ beside its first mean, away from the second, below a name that is in the way."""
    from matplotlib.patheffects import withStroke

    (left, right), low = axes.get_xlim(), axes.get_ylim()[0]
    spots = []
    for channel, of_organ in means.items():
        (x, y), *_, (other, _) = [*of_organ.values(), *of_organ.values()]
        across, side = (x - left) / (right - left), -1 if x < other else 1
        side = 1 if across < 0.25 else -1 if across > 0.75 else side
        spots.append(((y - low) / (right - left), across, side, organs[channel]))
    placed: list[tuple[float, float]] = []
    for y, x, side, key in sorted(spots, reverse=True):
        while any(abs(x - other_x) < 0.3 and abs(y - other_y) < 0.043 for other_x, other_y in placed):
            y -= 0.01
        placed.append((x, y))
        axes.text(
            x + 0.035 * side,
            y,
            organ_name(key),
            color=organ_color(key),
            fontsize=11.5,
            fontweight="bold",
            ha="right" if side < 0 else "left",
            va="center",
            zorder=6,
            transform=axes.transAxes,
            path_effects=[withStroke(linewidth=4, foreground=BACKGROUND)],
            parse_math=False,
        )


def _square_limits(axes: Axes, plane: Plane) -> None:
    points = np.concatenate([plane.pixels, plane.marks])
    low, high = points.min(axis=0), points.max(axis=0)
    half = 0.54 * float((high - low).max()) or 1.0
    centre = (low + high) / 2
    axes.set_xlim(centre[0] - half, centre[0] + half)
    axes.set_ylim(centre[1] - half, centre[1] + half)


def _draw_legend(figure: Figure, study: Study, left: float) -> None:
    present = {GROUPS[number] for number in np.unique(study.pixels.group)}
    keys = study.runs[0].recipe.data.table.keys
    handles = [_handle(organ_name(key), "s", organ_color(key), organ_color(key), 9) for key in keys]
    names = {LABELLED: "labelled pixel", UNLABELLED: "unlabelled pixel", FOLD: "pixel of the fold"}
    for group in GROUPS:
        if group in present:
            style = PIXEL_STYLES[group]
            handles.append(_handle(names[group], style["marker"], TEXT, _face(group), 5))
    handles += [_handle(f"{group} mean", "o", "white", _face(group), 12) for group in (LABELLED, UNLABELLED)]
    if any(run.prototypes is not None for run in study.runs):
        for group, marker in BANK_MARKERS.items():
            handles.append(_handle(f"{group} prototype", marker, "white", _face(group), 9))
    figure.legend(
        handles=handles,
        loc="center left",
        bbox_to_anchor=(left, 0.52),
        frameon=False,
        labelcolor=TEXT,
        fontsize=11,
        labelspacing=0.75,
    )


def _face(group: str) -> str:
    return "none" if group == UNLABELLED else TEXT


def _handle(name: str, marker: str, edge: Any, face: Any, size: float) -> Line2D:
    from matplotlib.lines import Line2D

    return Line2D(
        [], [], linestyle="", label=name, marker=marker, mec=edge, mfc=face, markersize=size, mew=1.4
    )


def _draw_footer(figure: Figure, study: Study, width: float) -> None:
    several = "The same pixels in every panel; each panel has a space of its own. " if study.runs[1:] else ""
    text = (
        f"{several}Labelled or unlabelled as in {study.runs[0].name}; the true organ of unlabelled pixels is "
        "read from label files that the training did not see. Features of unit length; gap: 1 − cosine "
        "between the two means of an organ, averaged over organs."
    )
    figure.text(
        0.4 / width,
        0.12 / figure.get_figheight(),
        textwrap.fill(text, int(width * 13.5)),
        color=FAINT,
        fontsize=9,
        va="bottom",
        parse_math=False,
    )


FORMAT = 1


def study_json(study: Study) -> str:
    """Return all settings and figures; null where a figure is not defined.

    By run and part (labelled, unlabelled, all, fold): intra and inter as `Spread` defines them; by organ the
    number of pixels, intra and gap.
    """
    settings = asdict(study.settings)
    data = {
        "format": FORMAT,
        "settings": settings,
        "labelled_as_in": study.runs[0].recipe.name,
        "runs": [_run(run, study) for run in study.runs],
    }
    return json.dumps(_without_nan(data), indent=2) + "\n"


def variance_table(study: Study) -> Table:
    """Return intra-class and inter-class variance, one row for each run and part."""
    from rich.table import Table

    table = Table(title="Variance of features of unit length")
    for name in ("run", "features", "pixels"):
        table.add_column(name, overflow="fold")
    for name in ("intra-class", "inter-class"):
        table.add_column(name, justify="right", no_wrap=True)
    for run in study.runs:
        for row, part in enumerate(_parts(study)):
            spread = run.spread
            names = ("", "") if row else (run.name, run.space)
            table.add_row(*names, part, _figure(spread.intra[part]), _figure(spread.inter[part]))
        table.add_section()
    return table


def gap_table(study: Study) -> Table:
    """Return the gap of each organ: 1 − cosine between its labelled and its unlabelled mean."""
    from rich.table import Table

    table = Table("organ", title="Gap between the labelled and the unlabelled mean (1 − cosine)")
    for name in ("labelled\npixels", "unlabelled\npixels", *(run.name for run in study.runs)):
        table.add_column(name, justify="right", overflow="fold")
    for key, organ in study.runs[0].spread.organs.items():
        counts = (str(organ.pixels[part]) for part in (LABELLED, UNLABELLED))
        table.add_row(organ_name(key), *counts, *(_figure(run.spread.organs[key].gap) for run in study.runs))
    table.add_section()
    table.add_row("mean", "", "", *(_figure(run.spread.gap) for run in study.runs))
    table.add_row("relative gap", "", "", *(_figure(run.spread.relative_gap) for run in study.runs))
    return table


def _run(run: RunFeatures, study: Study) -> dict[str, Any]:
    parts, spread = _parts(study), run.spread
    return {
        "name": run.name,
        "run": run.folder.as_posix(),
        "iteration": run.iteration,
        "seed": run.recipe.seed,
        "space": run.space,
        "intra": {part: spread.intra[part] for part in parts},
        "inter": {part: spread.inter[part] for part in parts},
        "gap": spread.gap,
        "relative_gap": spread.relative_gap,
        "organs": {
            key: {
                "pixels": {part: organ.pixels[part] for part in parts},
                "intra": {part: organ.intra[part] for part in parts},
                "gap": organ.gap,
            }
            for key, organ in spread.organs.items()
        },
    }


def _parts(study: Study) -> list[str]:
    return [part for part in PARTS if part != FOLD or study.settings.fold]


def _figure(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.4f}"


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
