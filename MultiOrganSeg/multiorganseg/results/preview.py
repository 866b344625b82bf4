"""A picture of the segmentation: planes, organs in 3D, a legend, and where the network is uncertain."""

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
from multiorganseg.privacy import without_input
from multiorganseg.results.legend import BACKGROUND, FAINT, FRAME, MARK, PANEL, SHADE, TEXT, draw_legend
from multiorganseg.results.planes import Plane, make_planes
from multiorganseg.results.preview3d import render_in_child
from multiorganseg.results.segmentation import Segmentation
from multiorganseg.results.segments import model_title, segments_of
from multiorganseg.volumes.volume import Volume

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

WINDOW_HU = (-160.0, 240.0)
WIDTH, HEIGHT, HEAT_HEIGHT, DPI = 1600, 1000, 460, 100
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
    """Draw the preview as PNG of 1600×1000 pixels, or of 1600×1460 with a row for the map of the uncertainty.

    Planes are shown in radiological convention (the patient's right on the left side), CT at level 40 HU and
    width 400 HU. Where VTK cannot render, the third dimension is left out and the reason is logged.

    Args:
        segmentation: Labels on the volume's grid, and the map if there is one.
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

    rows = (HEIGHT, HEAT_HEIGHT) if segmentation.uncertainty is not None else (HEIGHT,)
    whole = Figure(figsize=(WIDTH / DPI, sum(rows) / DPI), dpi=DPI, facecolor=BACKGROUND)
    canvas = FigureCanvasAgg(whole)
    figure, *below = whole.subfigures(len(rows), 1, height_ratios=rows, squeeze=False)[:, 0]
    scene = render_in_child(segmentation, colors, (1184, 900)) if surfaces else None
    for place, plane in zip(_places(scene is not None), planes, strict=True):
        _draw_plane(_panel(figure, place), plane, window, colors)
    if scene is not None:
        _draw_scene(_panel(figure, _QUARTERS[3]), scene)
    _draw_header(figure, title or Path(volume.source).name, model_title(segmentation.provenance))
    draw_legend(figure.add_axes(LEGEND_PLACE, facecolor=BACKGROUND), segments, segmentation)
    for heat_row in below:
        _draw_heat_row(heat_row, planes, window, colors)
    provenance = json.dumps(without_input(segmentation.provenance), ensure_ascii=True)
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
_THIRDS: tuple[_Place, ...] = tuple((0.012 + 0.314 * number, 0.048, 0.308, 0.952) for number in range(3))
_HEAT_BAR: _Place = (0.964, 0.11, 0.012, 0.8)


def _places(with_scene: bool) -> Sequence[_Place]:
    """Places of axial, coronal and sagittal panel as (left, bottom, width, height) of the figure."""
    if with_scene:
        return _QUARTERS[:3]
    return (0.012, 0.022, 0.430, 0.910), (0.448, 0.482, 0.310, 0.450), (0.448, 0.022, 0.310, 0.450)


def _percentile_window(voxels: NDArray) -> tuple[float, float]:
    low, high = np.percentile(voxels[::4, ::4, ::4], (1, 99))
    return float(low), float(max(high, low + 1))


def _panel(figure: Figure | SubFigure, place: _Place) -> Axes:
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
    _draw_organs(axes, plane, colors, 1.5)
    _frame_plane(axes, plane, f"slice {plane.slice_index + 1} of {plane.slice_count}")


def _draw_heat_row(
    figure: Figure | SubFigure,
    planes: Sequence[Plane],
    window: tuple[float, float],
    colors: dict[int, tuple[float, float, float]],
) -> None:
    """Draw the same planes again with the map of the uncertainty over them."""
    for place, plane in zip(_THIRDS, planes, strict=True):
        assert plane.uncertainty is not None
        axes = _panel(figure, place)
        axes.imshow(plane.image, cmap="gray", vmin=window[0], vmax=window[1], interpolation="bilinear")
        draw_heat(axes, plane.uncertainty)
        _draw_organs(axes, plane, colors, 0.8)
        _frame_plane(axes, plane, "where the network is uncertain")
    draw_heat_bar(figure.add_axes(_HEAT_BAR))


def _draw_organs(
    axes: Axes, plane: Plane, colors: dict[int, tuple[float, float, float]], width: float
) -> None:
    for value, share in plane.organs.items():
        axes.contour(np.pad(share, 1), [0.5], colors=[colors[value]], linewidths=width, extent=_padded(share))


def _frame_plane(axes: Axes, plane: Plane, detail: str) -> None:
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
    _caption(axes, plane.name, detail)
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


def _draw_header(figure: Figure | SubFigure, title: str, model: str) -> None:
    figure.text(
        0.012, 0.966, _shortened(title, 70), color=TEXT, fontsize=17, weight="bold", va="center",
        parse_math=False,
    )  # fmt: skip
    line = " · ".join(part for part in (model, f"MultiOrganSeg {__version__}") if part)
    figure.text(0.988, 0.022, ADVICE, color=FAINT, fontsize=8.5, va="bottom", ha="right")
    figure.text(0.988, 0.966, line, color=FAINT, fontsize=11.5, va="center", ha="right", parse_math=False)


def _shortened(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest // 2]}…{text[-longest // 2 + 1 :]}"


COLOURS = "inferno"
OPAQUE_FROM = 0.5
STRONGEST = 0.85


def draw_heat(axes: Axes, uncertainty: NDArray[np.float32]) -> None:
    """Lay the uncertainty (row, column) in [0, 1] over a plane; what is certain stays clear."""
    axes.imshow(_heat(uncertainty), interpolation="bilinear")


def draw_heat_bar(axes: Axes) -> None:
    """Fill narrow axes with the scale of the colours."""
    steps = np.linspace(0, 1, 128, dtype=np.float32)[:, None]
    axes.imshow(np.broadcast_to(0.25, (128, 1)), cmap="gray", vmin=0, vmax=1, aspect="auto")
    axes.imshow(_heat(steps), extent=(-0.5, 0.5, 127.5, -0.5), origin="upper", aspect="auto")
    axes.invert_yaxis()
    axes.set_xticks([])
    axes.set_yticks([0, 63.5, 127], ["0", "0.5", "1"], color=FAINT, fontsize=9)
    axes.tick_params(length=0)
    axes.yaxis.tick_right()
    axes.set_title("uncertain", color=TEXT, fontsize=9.5)
    axes.set_xlabel("certain", color=TEXT, fontsize=9.5)
    for spine in axes.spines.values():
        spine.set_color(FRAME)


def _heat(uncertainty: NDArray[np.float32]) -> NDArray[np.float64]:
    from matplotlib import colormaps

    colours = np.array(colormaps[COLOURS](uncertainty))
    colours[..., 3] = STRONGEST * np.clip(uncertainty / OPAQUE_FROM, 0, 1)
    return colours
