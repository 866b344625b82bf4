"""The row of the preview that shows where the network is uncertain."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from multiorganseg.results.palette import FAINT, FRAME, TEXT

if TYPE_CHECKING:
    from matplotlib.axes import Axes

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
