"""Draws the module's icon and the thumbnails of its sample data into MultiOrganSeg/Resources/Icons."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import matplotlib as mpl
import numpy as np
import typer
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Ellipse, FancyBboxPatch, PathPatch
from matplotlib.path import Path as Outline
from numpy.typing import NDArray

from multiorganseg.organs.catalogue import load_catalogue
from multiorganseg.phantom import phantom_ct, phantom_labels
from multiorganseg.volumes import Volume, read_volume

FOLDER = Path(__file__).resolve().parents[2] / "MultiOrganSeg" / "Resources" / "Icons"
PIXELS = 128
WINDOW = (-160.0, 240.0)


def main(
    ct: Annotated[Path | None, typer.Option(help="The sample CT, for its thumbnail.")] = None,
) -> None:
    """Draw the icons; the sample CT's only if its file is given."""
    mpl.rcParams["path.snap"] = False
    FOLDER.mkdir(parents=True, exist_ok=True)
    _save(_icon(), "MultiOrganSeg")
    _save(_effect_icon(), "CorrectOrgan")
    labels, table = phantom_labels()
    catalogue = load_catalogue()
    colors = np.zeros((max(table.organs) + 1, 4))
    for value, key in table.organs.items():
        colors[value] = [*(part / 255 for part in catalogue.get(key).color), 0.6]
    plane = 42
    _save(_thumbnail(phantom_ct().voxels[plane], colors[labels[plane]]), "MultiOrganSegPhantom")
    if ct is not None:
        volume = read_volume(ct)
        _save(_thumbnail(_axial_plane(volume)), "MultiOrganSegCT")


def _icon() -> Figure:
    """An axial slice through the upper abdomen, in the catalogue's colours."""
    catalogue = load_catalogue()
    color = {key: tuple(part / 255 for part in catalogue.get(key).color) for key in catalogue.organs}
    figure, axes = _canvas()
    axes.add_patch(
        FancyBboxPatch((3, 3), 122, 122, boxstyle="round,pad=0,rounding_size=24", fc="#1d2733", lw=0)
    )
    axes.add_patch(Ellipse((64, 63), 106, 82, fc="#3d4d60", ec="#b9c7d6", lw=2.4))
    liver = Outline(
        [(18, 60), (16, 92), (48, 100), (70, 94), (66, 82), (54, 78), (50, 62), (44, 40), (22, 38), (18, 60)],
        [Outline.MOVETO, *[Outline.CURVE4] * 9],
    )
    axes.add_patch(PathPatch(liver, fc=color["liver"], lw=0))
    spleen = Outline(
        [(100, 82), (112, 74), (112, 48), (96, 40), (92, 52), (100, 62), (100, 82)],
        [Outline.MOVETO, *[Outline.CURVE4] * 6],
    )
    axes.add_patch(PathPatch(spleen, fc=color["spleen"], lw=0))
    axes.add_patch(Ellipse((82, 82), 30, 20, angle=-20, fc="#e8c3a0", lw=0))
    axes.add_patch(Ellipse((70, 66), 26, 9, angle=18, fc=color["pancreas"], lw=0))
    for x, tilt in ((42, 25), (86, -25)):
        axes.add_patch(Ellipse((x, 41), 15, 20, angle=tilt, fc=color["kidney_left"], lw=0))
    axes.add_patch(Circle((64, 36), 9.5, fc="#eef2f5", lw=0))
    axes.add_patch(Circle((67, 52), 4.6, fc=color["aorta"], lw=0))
    axes.add_patch(Circle((56, 53), 4.6, fc=color["inferior_vena_cava"], lw=0))
    return figure


def _effect_icon() -> Figure:
    """An organ that gains on one side and loses on the other."""
    liver = tuple(part / 255 for part in load_catalogue().get("liver").color)
    figure, axes = _canvas()
    axes.add_patch(Ellipse((64, 62), 104, 78, angle=20, fc=liver, ec="#1d2733", lw=5))
    for x, y, color in ((88, 84, "#1f9d45"), (42, 44, "#c8332b")):
        axes.add_patch(Circle((x, y), 24, fc="white", ec=color, lw=4))
        axes.plot([x - 13, x + 13], [y, y], color=color, lw=7, solid_capstyle="round")
    axes.plot([88, 88], [71, 97], color="#1f9d45", lw=7, solid_capstyle="round")
    return figure


def _thumbnail(plane: NDArray, overlay: NDArray[np.float64] | None = None) -> Figure:
    figure, axes = _canvas("black")
    height = PIXELS * len(plane) / len(plane[0])
    extent = (0.0, float(PIXELS), (PIXELS - height) / 2, (PIXELS + height) / 2)
    axes.imshow(plane, cmap="gray", vmin=WINDOW[0], vmax=WINDOW[1], extent=extent)
    if overlay is not None:
        axes.imshow(overlay, extent=extent)
    axes.set(xlim=(0, PIXELS), ylim=(0, PIXELS))
    return figure


def _axial_plane(volume: Volume) -> NDArray:
    """A plane near the feet, where the CT shows the abdomen, with the front up."""
    plane = volume.voxels[volume.voxels.shape[0] // 8]
    return plane[::-1] if volume.affine[1, 1] < 0 else plane


def _canvas(background: str = "none") -> tuple[Figure, Axes]:
    figure = Figure(figsize=(1, 1), dpi=PIXELS, facecolor=background)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, PIXELS), ylim=(0, PIXELS))
    axes.set_axis_off()
    return figure, axes


def _save(figure: Figure, name: str) -> None:
    figure.savefig(FOLDER / f"{name}.png", dpi=PIXELS, metadata={"Software": None})


if __name__ == "__main__":
    typer.run(main)
