"""A picture of the segmentation: three planes, the organs in 3D and a legend with their volumes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from multiorganseg import __version__
from multiorganseg.atomic import atomic_path
from multiorganseg.organs.catalogue import Catalogue
from multiorganseg.results.legend import draw_legend
from multiorganseg.results.palette import BACKGROUND, FAINT, FRAME, MARK, PANEL, SHADE, TEXT
from multiorganseg.results.planes import Plane, make_planes
from multiorganseg.results.preview3d import render_in_child
from multiorganseg.results.segmentation import Segmentation
from multiorganseg.results.segments import model_title, segments_of
from multiorganseg.volumes.volume import Volume

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WINDOW_HU = (-160.0, 240.0)
WIDTH, HEIGHT, DPI = 1600, 1000, 100
LEGEND_PLACE = (0.768, 0.048, 0.222, 0.884)
ADVICE = "Made by a network: check every contour."


def write_preview(
    segmentation: Segmentation,
    volume: Volume,
    path: Path,
    catalogue: Catalogue,
    *,
    title: str = "",
    modality: str = "CT",
    surfaces: bool = True,
) -> None:
    """Draw the preview as PNG of 1600×1000 pixels.

    Planes are shown in radiological convention (the patient's right on the left side), CT at level 40 HU and
    width 400 HU. Where VTK cannot render, the third dimension is left out and the reason is logged.

    Args:
        segmentation: Labels on the volume's grid.
        volume: The segmented volume.
        path: PNG file.
        catalogue: Gives names and colours.
        title: Name of the input; by default the last part of `volume.source`.
        modality: "CT" takes the HU window; any other takes the 1st to 99th percentile.
        surfaces: Whether to render the organs in 3D.

    Raises:
        OrganError: The table names an organ that the catalogue lacks.
        ResourceError: The file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    segments = segments_of(segmentation, catalogue)
    window = WINDOW_HU if modality == "CT" else _percentile_window(volume.voxels)
    planes = make_planes(volume, segmentation, window)
    colors = {segment.value: segment.unit_color for segment in segments}

    figure = Figure(figsize=(WIDTH / DPI, HEIGHT / DPI), dpi=DPI, facecolor=BACKGROUND)
    canvas = FigureCanvasAgg(figure)
    scene = render_in_child(segmentation, colors, (1184, 900)) if surfaces else None
    for place, plane in zip(_places(scene is not None), planes, strict=True):
        _draw_plane(_panel(figure, place), plane, window, colors)
    if scene is not None:
        _draw_scene(_panel(figure, _QUARTERS[3]), scene)
    _draw_header(figure, title or Path(volume.source).name, model_title(segmentation.provenance))
    draw_legend(figure.add_axes(LEGEND_PLACE, facecolor=BACKGROUND), segments, segmentation)
    provenance = json.dumps(dict(segmentation.provenance), ensure_ascii=True)
    with atomic_path(path) as partial:
        canvas.print_png(
            str(partial),
            metadata={"Software": f"MultiOrganSeg {__version__}", "MultiOrganSeg_Provenance": provenance},
        )


_Place = tuple[float, float, float, float]
_QUARTERS: tuple[_Place, ...] = (
    (0.012, 0.482, 0.370, 0.450),
    (0.388, 0.482, 0.370, 0.450),
    (0.012, 0.022, 0.370, 0.450),
    (0.388, 0.022, 0.370, 0.450),
)


def _places(with_scene: bool) -> Sequence[_Place]:
    """Places of axial, coronal and sagittal panel as (left, bottom, width, height) of the figure."""
    if with_scene:
        return _QUARTERS[:3]
    return (0.012, 0.022, 0.430, 0.910), (0.448, 0.482, 0.310, 0.450), (0.448, 0.022, 0.310, 0.450)


def _percentile_window(voxels: NDArray) -> tuple[float, float]:
    low, high = np.percentile(voxels[::4, ::4, ::4], (1, 99))
    return float(low), float(max(high, low + 1))


def _panel(figure: Figure, place: _Place) -> Axes:
    axes = figure.add_axes(place, facecolor=PANEL)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color(FRAME)
    return axes


def _draw_plane(
    axes: Axes, plane: Plane, window: tuple[float, float], colors: dict[int, tuple[float, float, float]]
) -> None:
    axes.imshow(plane.image, cmap="gray", vmin=window[0], vmax=window[1], interpolation="bilinear")
    fill = np.zeros((*plane.image.shape, 4), dtype=np.float32)
    for value, share in plane.organs.items():
        fill[share > 0.5] = (*colors[value], 0.22)
    axes.imshow(fill, interpolation="nearest")
    for value, share in plane.organs.items():
        axes.contour(np.pad(share, 1), [0.5], colors=[colors[value]], linewidths=1.5, extent=_padded(share))
    rows, columns = plane.image.shape
    box = axes.get_window_extent()
    aspect = box.width / box.height
    width, height = max(columns, rows * aspect), max(rows, columns / aspect)
    axes.set_xlim(columns / 2 - width / 2, columns / 2 + width / 2)
    axes.set_ylim(rows / 2 + height / 2, rows / 2 - height / 2)
    left, right, top, bottom = tuple(plane.marks)
    _mark(axes, 0.012, 0.5, left, "left", "center")
    _mark(axes, 0.988, 0.5, right, "right", "center")
    _mark(axes, 0.5, 0.985, top, "center", "top")
    _mark(axes, 0.5, 0.015, bottom, "center", "bottom")
    _caption(axes, plane.name, f"slice {plane.slice_index + 1} of {plane.slice_count}")
    _scale_bar(axes, 50 / plane.pixel / width)


def _padded(share: NDArray) -> tuple[float, float, float, float]:
    rows, columns = share.shape
    return -1.0, float(columns), -1.0, float(rows)


def _draw_scene(axes: Axes, scene: NDArray[np.float32]) -> None:
    axes.set_facecolor(BACKGROUND)
    axes.imshow(scene, interpolation="antialiased", aspect="auto")
    _mark(axes, 0.012, 0.5, "R", "left", "center")
    _mark(axes, 0.988, 0.5, "L", "right", "center")
    _caption(axes, "3D", "from the front")


def _outlined() -> list[Any]:
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=2.5, foreground=SHADE)]


def _mark(axes: Axes, x: float, y: float, text: str, across: str, up: str) -> None:
    axes.text(
        x, y, text, transform=axes.transAxes, ha=across, va=up, color=MARK, fontsize=12, weight="bold",
        path_effects=_outlined(),
    )  # fmt: skip


def _caption(axes: Axes, name: str, detail: str) -> None:
    for text, down, size, weight in ((name, 6, 12, "bold"), (detail, 23, 9.5, "normal")):
        axes.annotate(
            text, (0, 1), (6, -down), xycoords="axes fraction", textcoords="offset points",
            ha="left", va="top", color=TEXT, fontsize=size, weight=weight, path_effects=_outlined(),
        )  # fmt: skip


def _scale_bar(axes: Axes, length: float) -> None:
    from matplotlib.transforms import offset_copy

    raised = offset_copy(axes.transAxes, fig=axes.get_figure(root=True), x=-8, y=8, units="points")
    axes.plot(
        [1 - length, 1], [0, 0], transform=raised, color=TEXT, linewidth=2, solid_capstyle="butt",
        path_effects=_outlined(),
    )  # fmt: skip
    axes.annotate(
        "5 cm", (1 - length / 2, 0), (0, 4), xycoords=raised, textcoords="offset points", ha="center",
        va="bottom", color=TEXT, fontsize=9, path_effects=_outlined(),
    )  # fmt: skip


def _draw_header(figure: Figure, title: str, model: str) -> None:
    figure.text(
        0.012, 0.966, _shortened(title, 70), color=TEXT, fontsize=17, weight="bold", va="center",
        parse_math=False,
    )  # fmt: skip
    line = " · ".join(part for part in (model, f"MultiOrganSeg {__version__}") if part)
    figure.text(0.988, 0.022, ADVICE, color=FAINT, fontsize=8.5, va="bottom", ha="right")
    figure.text(0.988, 0.966, line, color=FAINT, fontsize=11.5, va="center", ha="right", parse_math=False)


def _shortened(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest // 2]}…{text[-longest // 2 + 1 :]}"
