"""Mouse and keys over the slice views, as clicks, scribbles and lassos."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import qt
import slicer
import vtk
from slicer.i18n import tr as _

from MultiOrganSegLib.correct.segments import voxels_at

if TYPE_CHECKING:
    from multiorganseg.refine.prompts import Prompt

_STILL_PIXELS = 4
_CURSOR = 32
_GREEN, _RED = (60, 220, 90), (240, 80, 70)
_EVENTS = vtk.vtkCommand
_LEFT = (_EVENTS.LeftButtonPressEvent, _EVENTS.LeftButtonReleaseEvent)
_RIGHT = (_EVENTS.RightButtonPressEvent, _EVENTS.RightButtonReleaseEvent)


class Pointer:
    """Follows one stroke of the mouse at a time.

    Args:
        effect: The qSlicerSegmentEditorScriptedEffect.
        said: Gets each prompt, in voxels of the source volume.

    Attributes:
        lasso: Whether a stroke encloses what is meant, rather than touching it.
    """

    def __init__(self, effect: Any, said: Callable[[Prompt], None]) -> None:
        self.lasso = False
        self._effect = effect
        self._said = said
        self._stroke: _Stroke | None = None
        self._removes = False
        self._view: Any = None
        self._shortcut: Any = None

    def start(self) -> None:
        """Listen to the key L as well."""
        if self._shortcut is None and slicer.util.mainWindow() is not None:
            self._shortcut = qt.QShortcut(qt.QKeySequence("L"), slicer.util.mainWindow())
            self._shortcut.connect("activated()", self.switch)

    def stop(self) -> None:
        """Drop a stroke under way, and let go of the key."""
        self._drop()
        self._view = None
        if self._shortcut is not None:
            self._shortcut.disconnect("activated()", self.switch)
            self._shortcut.setParent(None)
            self._shortcut.deleteLater()
            self._shortcut = None

    def switch(self) -> None:
        """Change between pointing and lasso."""
        self.lasso = not self.lasso
        self._show_cursor()

    def handle(self, interactor: Any, event: int, view: Any) -> bool:
        """Take an event of a view; gives whether it was meant for corrections."""
        if view.className() != "qMRMLSliceWidget":
            return False
        self._view = view
        if event == _EVENTS.MouseMoveEvent:
            return self._move(interactor, view)
        if event == _EVENTS.LeftButtonDoubleClickEvent:
            return True
        if event == _EVENTS.LeaveEvent and self._stroke is None:
            self._view = None
        for press, release in (_LEFT, _RIGHT):
            if event == press and not interactor.GetShiftKey():
                self._drop()
                removes = press == _RIGHT[0] or bool(interactor.GetControlKey())
                self._stroke = _Stroke(self._effect, view, release, not removes, self.lasso)
                self._stroke.add(interactor.GetEventPosition())
                return True
            if event == release and self._stroke is not None and self._stroke.release == release:
                self._finish(interactor)
                return True
        return False

    def cursor(self) -> Any:
        """The mouse pointer of what a click would do now."""
        pixmap = qt.QPixmap(_CURSOR, _CURSOR)
        pixmap.fill(qt.QColor(0, 0, 0, 0))
        painter = qt.QPainter(pixmap)
        for color, width in ((qt.QColor(0, 0, 0), 4), (qt.QColor(*(_RED if self._removes else _GREEN)), 2)):
            pen = qt.QPen()
            pen.setColor(color)
            pen.setWidth(width)
            painter.setPen(pen)
            middle, arm = _CURSOR // 2, 7
            painter.drawLine(middle - arm, middle, middle + arm, middle)
            if not self._removes:
                painter.drawLine(middle, middle - arm, middle, middle + arm)
            if self.lasso:
                painter.drawEllipse(3, 3, _CURSOR - 6, _CURSOR - 6)
        painter.end()
        return qt.QCursor(pixmap)

    def _move(self, interactor: Any, view: Any) -> bool:
        removes = bool(interactor.GetControlKey())
        if self._stroke is None and removes != self._removes:
            self._removes = removes
            self._show_cursor()
        if self._stroke is None or self._stroke.view is not view:
            return False
        self._stroke.add(interactor.GetEventPosition())
        return True

    def _finish(self, interactor: Any) -> None:
        stroke, self._stroke = self._stroke, None
        assert stroke is not None
        stroke.add(interactor.GetEventPosition())
        stroke.hide()
        volume = self._effect.parameterSetNode().GetSourceVolumeNode()
        if volume is not None:
            self._said(stroke.prompt(volume))

    def _drop(self) -> None:
        if self._stroke is not None:
            self._stroke.hide()
            self._stroke = None

    def _show_cursor(self) -> None:
        if self._view is not None:
            self._effect.cursorOn(self._view)


class _Stroke:
    """Points of one stroke, drawn over the view while it lasts."""

    def __init__(self, effect: Any, view: Any, release: int, positive: bool, lasso: bool) -> None:
        self.view, self.release = view, release
        self._effect, self._positive, self._lasso = effect, positive, lasso
        self._positions: list[tuple[int, int]] = []
        self._points = vtk.vtkPoints()
        self._line = vtk.vtkPolyData()
        self._line.SetPoints(self._points)
        mapper = vtk.vtkPolyDataMapper2D()
        mapper.SetInputData(self._line)
        self._actor = vtk.vtkActor2D()
        self._actor.SetMapper(mapper)
        self._actor.GetProperty().SetColor(*(part / 255 for part in (_GREEN if positive else _RED)))
        self._actor.GetProperty().SetLineWidth(2)
        effect.addActor2D(view, self._actor)

    def add(self, position: Sequence[int]) -> None:
        """Go on to a position in the view, in pixels."""
        if self._positions and self._positions[-1] == tuple(position):
            return
        self._positions.append((position[0], position[1]))
        self._points.InsertNextPoint(position[0], position[1], 0)
        count = self._points.GetNumberOfPoints()
        cells = vtk.vtkCellArray()
        cells.InsertNextCell(count + self._lasso)
        for number in [*range(count), *([0] if self._lasso else [])]:
            cells.InsertCellPoint(number)
        self._line.SetLines(cells)
        self._line.Modified()
        if count > 1:
            self._effect.forceRender(self.view)

    def hide(self) -> None:
        """Take the line away."""
        self._effect.removeActor2D(self.view, self._actor)
        self._effect.forceRender(self.view)

    def prompt(self, volume: Any) -> Prompt:
        """Return what was meant, in voxels of a volume; a stroke is cut off at its edge."""
        from multiorganseg.refine.prompts import Prompt

        voxels = self._voxels(volume)
        shape = np.array(volume.GetImageData().GetDimensions()[::-1])
        inside = ((voxels >= 0) & (voxels < shape)).all(axis=1)
        voxels = voxels[inside] if inside.any() else voxels[:1]
        moved = np.ptp(np.array(self._positions), axis=0).max() >= _STILL_PIXELS
        if moved and self._lasso and len(voxels) > 2:
            flat = int(np.argmin(np.ptp(voxels, axis=0)))
            if np.ptp(voxels[:, flat]) <= 1:
                voxels[:, flat] = voxels[0, flat]
            return Prompt.lasso(voxels.tolist(), positive=self._positive)
        if moved and len(voxels) > 1:
            return Prompt.scribble(voxels.tolist(), positive=self._positive)
        return Prompt.click(voxels[0].tolist(), positive=self._positive)

    def _voxels(self, volume: Any) -> np.ndarray:
        """Nearest voxels (k, j, i) below the positions, each only where it differs from the one before."""
        world = [self._effect.xyToRas(qt.QPoint(x, y), self.view) for x, y in self._positions]
        voxels = voxels_at(volume, np.array([(point.x(), point.y(), point.z()) for point in world]))
        kept = [0, *(1 + np.flatnonzero((np.diff(voxels, axis=0) != 0).any(axis=1)))]
        return voxels[kept]


def help_text() -> str:
    """What mouse and keys do, for tooltip and help."""
    return _(
        "Click where the organ is missing to add; Ctrl-click or right-click where it is too much to remove.\n"
        "Drag to scribble. Press L to enclose a region of a slice instead, and L again to leave that.\n"
        "Shift-drag moves the slice, the wheel changes it. Ctrl+Z takes the last answer back, for all organs "
        "that it touched.\n"
        "Click in the middle of what is wrong: the deeper in it, the more is meant."
    )
