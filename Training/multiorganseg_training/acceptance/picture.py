"""One organ of one case: annotation, old and new result as contours on three planes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from multiorganseg.atomic import atomic_path
from multiorganseg.geometry.orient import reorient
from multiorganseg.results.legend import BACKGROUND, FAINT, FRAME, PANEL, SHADE, TEXT
from multiorganseg.results.planes import MARKS, NAMES, best_slices
from multiorganseg.volumes.volume import Volume
from multiorganseg_training.acceptance.score import CaseScore

if TYPE_CHECKING:
    from matplotlib.axes import Axes


WINDOW_HU = (-160.0, 240.0)
WIDTH, HEIGHT, DPI = 1500, 620, 100
MARGIN_MM = 30.0
SMALLEST_VIEW_MM = 130.0
PIXEL_MM = 0.4
STAIR_SIGMA = 0.45

COLORS = {"annotation": "#ffffff", "old": "#35b8ff", "new": "#ff8a1f"}
_WIDTHS = {"annotation": 2.6, "old": 1.9, "new": 1.9}
_LINES: dict[str, Literal["solid", "dashed"]] = {"annotation": "solid", "old": "dashed", "new": "solid"}
_TITLES = {"annotation": "Annotation", "old": "Old network", "new": "New network"}


@dataclass(frozen=True, eq=False)
class Contours:
    """Boolean masks (k, j, i) on the image's grid; None where there is nothing to show.

    Attributes:
        annotation: Of people; empty where the organ is known to be absent.
        old: Result of the base.
        new: Result of the new network.
    """

    annotation: NDArray[np.bool_] | None
    old: NDArray[np.bool_] | None
    new: NDArray[np.bool_] | None

    def shown(self) -> dict[str, NDArray[np.bool_]]:
        """The masks there are, in the order in which they are drawn."""
        masks = {"annotation": self.annotation, "old": self.old, "new": self.new}
        return {name: mask for name, mask in masks.items() if mask is not None}


def draw_organ(volume: Volume, contours: Contours, score: CaseScore, organ: str, path: Path) -> None:
    """Draw axial, coronal and sagittal plane through an organ as PNG of 1500×620 pixels.

    The planes go where the annotation is largest; without one where the old result is, else the new one.
    They are shown in radiological convention, CT at level 40 HU and width 400 HU, anything else from its 1st
    to its 99th percentile.

    Args:
        volume: The image.
        contours: What to draw.
        score: Figures for the legend.
        organ: Its name for people.
        path: PNG file.

    Raises:
        ResourceError: The file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    figure = Figure(figsize=(WIDTH / DPI, HEIGHT / DPI), dpi=DPI, facecolor=BACKGROUND)
    canvas = FigureCanvasAgg(figure)
    orientation = reorient(volume.grid)
    masks = {name: orientation.apply(mask) for name, mask in contours.shown().items()}
    voxels = orientation.apply(volume.voxels)
    target = next((mask for mask in masks.values() if mask.any()), None)
    indices = best_slices((np.zeros(voxels.shape, bool) if target is None else target).view(np.uint8))
    view = _view(target, voxels.shape, orientation.target.spacing)
    window = _window(volume.voxels)
    for axis in range(3):
        axes = figure.add_axes((0.008 + axis * 0.331, 0.022, 0.323, 0.80), facecolor=PANEL)
        _draw_plane(axes, axis, indices, view, voxels, masks, orientation.target.spacing, window)
    figure.text(0.010, 0.945, organ, color=TEXT, fontsize=18, weight="bold", va="center", parse_math=False)
    figure.text(
        0.010,
        0.872,
        f"{score.case}: {_caption(score)}",
        color=FAINT,
        fontsize=11.5,
        va="center",
        parse_math=False,
    )
    lines = [
        Line2D([], [], color=COLORS[name], linewidth=_WIDTHS[name], linestyle=_LINES[name]) for name in masks
    ]
    texts = [_legend(name, bool(masks[name].any()), score) for name in masks]
    figure.legend(
        lines, texts, loc="center right", bbox_to_anchor=(0.992, 0.945), ncols=len(lines), frameon=False,
        labelcolor=TEXT, fontsize=12, handlelength=2.4,
    )  # fmt: skip
    with atomic_path(path) as partial:
        canvas.print_png(str(partial))


def _caption(score: CaseScore) -> str:
    if score.status == "unknown":
        return "not annotated here; the two results are compared with each other"
    if score.status == "absent":
        return "absent in this image: whatever is drawn is wrong"
    if math.isnan(score.dice_old):
        return "the held-out case with the lowest Dice"
    return f"the held-out case with the largest loss, Dice {score.dice_old:.3f} → {score.dice_new:.3f}"


def _legend(name: str, any_voxel: bool, score: CaseScore) -> str:
    volume = {
        "annotation": score.volume_ml_reference,
        "old": score.volume_ml_old,
        "new": score.volume_ml_new,
    }[name]
    found = {"annotation": float("nan"), "old": score.dice_old, "new": score.dice_new}[name]
    facts = [f"{volume:.0f} ml" if volume >= 10 else f"{volume:.1f} ml"] if any_voxel else ["nothing"]
    if not math.isnan(found):
        facts.append(f"Dice {found:.3f}")
    if name == "new" and not math.isnan(score.agreement):
        facts.append(f"agreement {score.agreement:.3f}")
    return f"{_TITLES[name]} ({', '.join(facts)})"


def _window(voxels: NDArray) -> tuple[float, float]:
    if float(voxels.min()) < WINDOW_HU[0]:
        return WINDOW_HU
    low, high = np.percentile(voxels[::4, ::4, ::4], (1, 99))
    return float(low), float(max(high, low + 1))


def _view(
    target: NDArray[np.bool_] | None, shape: tuple[int, ...], spacing: tuple[float, float, float]
) -> list[tuple[float, float]]:
    """Centre and half of the length in mm, along (k, j, i), of what to show: the organ with a margin."""
    found = ndimage.find_objects(target.view(np.uint8)) if target is not None else []
    if not found:
        return [(size * step / 2, size * step / 2) for size, step in zip(shape, spacing, strict=True)]
    return [
        (
            (part.start + part.stop) * step / 2,
            max((part.stop - part.start) * step / 2 + MARGIN_MM, SMALLEST_VIEW_MM / 2),
        )
        for part, step in zip(found[0], spacing, strict=True)
    ]


def _box(
    axis: int, view: list[tuple[float, float]], shape: tuple[int, ...], spacing: tuple[float, float, float]
) -> tuple[slice, slice]:
    """Rows and columns of a plane: a square around the organ, as far as the image reaches."""
    across = [other for other in range(3) if other != axis]
    half = max(view[other][1] for other in across)
    first, second = (
        slice(
            max(round((view[other][0] - half) / spacing[other]), 0),
            min(round((view[other][0] + half) / spacing[other]), shape[other]),
        )
        for other in across
    )
    return first, second


def _draw_plane(
    axes: Axes,
    axis: int,
    indices: tuple[int, int, int],
    view: list[tuple[float, float]],
    voxels: NDArray,
    masks: dict[str, NDArray[np.bool_]],
    spacing: tuple[float, float, float],
    window: tuple[float, float],
) -> None:
    from matplotlib.patheffects import withStroke

    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color(FRAME)
    row, column = (step for other, step in enumerate(spacing) if other != axis)
    factors = (row / PIXEL_MM, column / PIXEL_MM)
    box = _box(axis, view, voxels.shape, spacing)
    image = _zoom(_cut(voxels, axis, indices[axis], box).astype(np.float32), factors)
    axes.imshow(image, cmap="gray", vmin=window[0], vmax=window[1], interpolation="bilinear")
    rows, columns = image.shape
    for name, mask in masks.items():
        share = _zoom(_cut(mask, axis, indices[axis], box).astype(np.float32), factors)
        share = ndimage.gaussian_filter(share, [STAIR_SIGMA * factor for factor in factors], mode="nearest")
        if share.max() > 0.5:
            axes.contour(
                np.pad(share, 1), [0.5], colors=[COLORS[name]], linewidths=_WIDTHS[name],
                linestyles=[_LINES[name]],
                extent=(-1.0, float(columns), -1.0, float(rows)),
            )  # fmt: skip
    bounds = axes.get_window_extent()
    aspect = bounds.width / bounds.height
    width, height = max(columns, rows * aspect), max(rows, columns / aspect)
    axes.set_xlim(columns / 2 - width / 2, columns / 2 + width / 2)
    axes.set_ylim(rows / 2 + height / 2, rows / 2 - height / 2)
    outline = [withStroke(linewidth=2.5, foreground=SHADE)]
    left, right, top, bottom = tuple(MARKS[NAMES[axis]])
    for x, y, text, across, up in (
        (0.015, 0.5, left, "left", "center"),
        (0.985, 0.5, right, "right", "center"),
        (0.5, 0.985, top, "center", "top"),
        (0.5, 0.015, bottom, "center", "bottom"),
    ):
        axes.text(
            x, y, text, transform=axes.transAxes, ha=across, va=up, color=TEXT, fontsize=11, weight="bold",
            path_effects=outline,
        )  # fmt: skip
    axes.text(
        0.015, 0.985, f"{NAMES[axis]}, slice {indices[axis] + 1} of {voxels.shape[axis]}", ha="left",
        va="top", transform=axes.transAxes, color=TEXT, fontsize=11, path_effects=outline,
    )  # fmt: skip
    length = 20 / PIXEL_MM / width
    axes.plot(
        [0.98 - length, 0.98], [0.03, 0.03], transform=axes.transAxes, color=TEXT, linewidth=2,
        path_effects=outline,
    )  # fmt: skip
    axes.text(
        0.98 - length / 2, 0.042, "2 cm", ha="center", va="bottom", transform=axes.transAxes, color=TEXT,
        fontsize=9, path_effects=outline,
    )  # fmt: skip


def _cut(array: NDArray, axis: int, index: int, box: tuple[slice, slice]) -> NDArray:
    """Part of one slice with its first row on top."""
    cut = np.take(array, index, axis=axis)[box]
    return cut if NAMES[axis] == "Axial" else cut[::-1]


def _zoom(image: NDArray[np.float32], factors: tuple[float, float]) -> NDArray[np.float32]:
    return ndimage.zoom(image, factors, order=1, mode="nearest", grid_mode=True)
