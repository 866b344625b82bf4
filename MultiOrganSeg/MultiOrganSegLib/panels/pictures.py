"""Tables' layout, colour swatches, pictures and plots of the panels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import qt
from slicer.i18n import tr as _

from MultiOrganSegLib.add_organ.curves import Curve, TrainingLog

_SIDE = 12


def swatch(color: Sequence[float]) -> Any:
    """Make a QIcon of one colour, given as red, green and blue in [0, 1]; a selected row shows it too."""
    pixmap = qt.QPixmap(_SIDE, _SIDE)
    pixmap.fill(qt.QColor(*(round(255 * part) for part in color)))
    icon = qt.QIcon()
    for mode in (qt.QIcon.Normal, qt.QIcon.Selected):
        icon.addPixmap(pixmap, mode)
    return icon


_WIDEST = 150


def lay_out(table: Any) -> None:
    """Return columns the width of their text, and rows just its height.

    Names stay readable in a narrow panel: what matters less stands further to the right and is scrolled to.
    """
    header = table.horizontalHeader()
    header.setSectionResizeMode(qt.QHeaderView.ResizeToContents)
    header.setMaximumSectionSize(_WIDEST)
    header.setHighlightSections(False)
    rows = table.verticalHeader()
    rows.setSectionResizeMode(qt.QHeaderView.ResizeToContents)
    rows.hide()


_MARGINS = 24
_NARROWEST = 200


def show_picture(label: Any, path: Path | None, within: Any, height: int) -> None:
    """Show a picture file as large as it fits; hide the label where there is none.

    Args:
        label: The label.
        path: The file; None for none.
        within: The widget whose width it may have, less the margins.
        height: The most it may have, in pixels.
    """
    picture = qt.QPixmap(str(path)) if path is not None else None
    label.visible = picture is not None and not picture.isNull()
    if picture is not None and not picture.isNull():
        box = qt.QSize(max(within.width - _MARGINS, _NARROWEST), height)
        label.setPixmap(picture.scaled(box, qt.Qt.KeepAspectRatio, qt.Qt.SmoothTransformation))


_GAP = 14
_LEFT, _TOP, _BOTTOM = 34, 18, 16
_LOSS = (70, 120, 200)
_MEAN = (60, 150, 90)


@dataclass(frozen=True)
class Line:
    """One curve of a plot.

    Attributes:
        curve: Its points.
        color: Red, green and blue in 0…255.
        width: Of the line, in points.
        name: For the legend.
    """

    curve: Curve
    color: tuple[int, int, int]
    width: float
    name: str


def training_plot(
    log: TrainingLog,
    organs: Sequence[tuple[str, str, tuple[int, int, int]]],
    width: int,
    height: int,
    label: Any,
) -> Any:
    """Paint loss and Dice side by side.

    Args:
        log: Of the training.
        organs: Key, name and colour of the organs whose Dice is drawn beside the mean.
        width: Of the picture, in points.
        height: Of the picture, in points.
        label: A widget with the palette and resolution to paint for.

    Returns:
        A QPixmap.
    """
    ratio = label.devicePixelRatioF()
    pixmap = qt.QPixmap(max(1, round(width * ratio)), max(1, round(height * ratio)))
    pixmap.setDevicePixelRatio(ratio)
    pixmap.fill(qt.QColor(0, 0, 0, 0))
    ink = label.palette.color(qt.QPalette.WindowText)
    painter = qt.QPainter()
    painter.begin(pixmap)
    painter.setRenderHint(qt.QPainter.Antialiasing)
    font = qt.QFont(label.font)
    font.setPointSizeF(max(7.0, font.pointSizeF() * 0.8))
    painter.setFont(font)
    half = (width - _GAP) // 2
    end = float(max(log.iterations, log.iteration, 1))
    losses = [point[1] for point in log.loss.points]
    top = max(losses) * 1.05 if losses else 1.0
    _plot(painter, ink, (0, half, height), _("Loss"), [Line(log.loss, _LOSS, 1.5, "")], end, top)
    lines = [Line(log.dice[key], color, 1.5, name) for key, name, color in organs if key in log.dice]
    dice = [Line(log.mean_dice, _MEAN, 2.5, _("mean")), *lines]
    _plot(painter, ink, (half + _GAP, half, height), _("Dice"), dice, end, 1.0)
    painter.end()
    return pixmap


def _plot(
    painter: Any,
    ink: Any,
    place: tuple[int, int, int],
    title: str,
    lines: Sequence[Line],
    end: float,
    top: float,
) -> None:
    start, width, height = place
    left, right, low = start + _LEFT, start + width - 2, height - _BOTTOM
    faint = qt.QColor(ink)
    faint.setAlpha(60)
    painter.setPen(qt.QPen(faint, 1.0))
    for part in (0.0, 0.5, 1.0):
        y = low - part * (low - _TOP)
        painter.drawLine(qt.QPointF(left, y), qt.QPointF(right, y))
    painter.setPen(ink)
    painter.drawText(qt.QPointF(left, _TOP - 6), title)
    for part in (0.0, 0.5, 1.0):
        painter.drawText(qt.QPointF(start, low - part * (low - _TOP) + 4), f"{part * top:.2f}")
    painter.drawText(qt.QPointF(left, height - 3), "0")
    painter.drawText(qt.QPointF(right - 9 * len(f"{end:.0f}"), height - 3), f"{end:.0f}")
    legend = left + 40.0
    for line in lines:
        color = qt.QColor(*line.color)
        painter.setPen(qt.QPen(color, line.width))
        points = [
            qt.QPointF(left + iteration / end * (right - left), low - min(value / top, 1.0) * (low - _TOP))
            for iteration, value in line.curve.points
        ]
        _draw(painter, points, color, line.width)
        if line.name:
            painter.drawText(qt.QPointF(legend, _TOP - 6), line.name)
            legend += 7.0 * len(line.name) + 10


def _draw(painter: Any, points: Sequence[Any], color: Any, width: float) -> None:
    if len(points) == 1:
        painter.setBrush(qt.QBrush(color))
        painter.drawEllipse(points[0], width, width)
        painter.setBrush(qt.QBrush())
        return
    for first, second in pairwise(points):
        painter.drawLine(first, second)
