"""A small square of an organ's colour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import qt

_SIDE = 12


def swatch(color: Sequence[float]) -> Any:
    """Make a QIcon of one colour, given as red, green and blue in [0, 1]; a selected row shows it too."""
    pixmap = qt.QPixmap(_SIDE, _SIDE)
    pixmap.fill(qt.QColor(*(round(255 * part) for part in color)))
    icon = qt.QIcon()
    for mode in (qt.QIcon.Normal, qt.QIcon.Selected):
        icon.addPixmap(pixmap, mode)
    return icon
