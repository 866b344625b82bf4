"""Stand-ins for CTK widgets: same properties, signals and slots, similar looks."""

from __future__ import annotations

from typing import Any

from PySide6 import QtCore
from PySide6.QtCore import QRect, QSize, Qt, Signal
from PySide6.QtGui import QPainter
from PySide6.QtWidgets import QSizePolicy, QStyle, QStyleOption, QStyleOptionButton

from pythonqt.classes import exported_names, stand_in

_names = exported_names()
Property: Any = QtCore.Property
QAbstractButton: Any = _names["QAbstractButton"]
QComboBox: Any = _names["QComboBox"]
QGroupBox: Any = _names["QGroupBox"]
QLineEdit: Any = _names["QLineEdit"]
QPushButton: Any = _names["QPushButton"]
QWidget: Any = _names["QWidget"]
_HEADER_HEIGHT = 26


@stand_in
class ctkCollapsibleButton(QAbstractButton):
    """A panel with a header that folds it."""

    contentsCollapsed = Signal(bool)

    def __init__(self, *arguments: Any) -> None:
        parent = next((a for a in arguments if a is not None and not isinstance(a, str)), None)
        super().__init__(parent)
        self.text = next((a for a in arguments if isinstance(a, str)), "")
        self.setCheckable(True)
        self.setChecked(True)
        self.setContentsMargins(0, _HEADER_HEIGHT, 0, 0)
        self.setSizePolicy(QSizePolicy.Policy.Minimum, QSizePolicy.Policy.Preferred)
        self.toggled.connect(self._fold)

    def _fold(self, open_: bool) -> None:
        for child in self.children():
            if child.isWidgetType():
                child.setVisible(open_)
        self.setMaximumHeight(16777215 if open_ else _HEADER_HEIGHT)
        self.contentsCollapsed.emit(not open_)

    def _set_collapsed(self, collapsed: bool) -> None:
        self.setChecked(not collapsed)

    collapsed = Property(bool, lambda self: not self.isChecked(), _set_collapsed)

    def childEvent(self, event: Any) -> None:
        """Hide what is put into a folded panel."""
        if event.added() and event.child().isWidgetType() and not self.isChecked():
            event.child().setVisible(False)

    def hitButton(self, position: Any) -> bool:
        """Only the header folds."""
        return position.y() < _HEADER_HEIGHT

    def sizeHint(self) -> Any:
        """Header and contents."""
        inner = self.layout().totalSizeHint() if self.layout() and self.isChecked() else QSize(0, 0)
        return QSize(max(inner.width(), 160), max(inner.height(), _HEADER_HEIGHT))

    def minimumSizeHint(self) -> Any:
        """Header and contents."""
        inner = self.layout().totalMinimumSize() if self.layout() and self.isChecked() else QSize(0, 0)
        return QSize(inner.width(), max(inner.height(), _HEADER_HEIGHT))

    def paintEvent(self, event: Any) -> None:
        """Draw the header."""
        painter = QPainter(self)
        header = QRect(0, 0, self.width, _HEADER_HEIGHT)
        option: Any = QStyleOptionButton()
        option.initFrom(self)
        option.rect = header
        self.style().drawControl(QStyle.ControlElement.CE_PushButtonBevel, option, painter, self)
        arrow: Any = QStyleOption()
        arrow.initFrom(self)
        arrow.rect = QRect(6, 7, 12, 12)
        element = QStyle.PrimitiveElement.PE_IndicatorArrowDown
        if not self.isChecked():
            element = QStyle.PrimitiveElement.PE_IndicatorArrowRight
        self.style().drawPrimitive(element, arrow, painter, self)
        painter.drawText(header.adjusted(26, 0, 0, 0), Qt.AlignmentFlag.AlignVCenter, self.text)
        painter.end()


@stand_in
class ctkCollapsibleGroupBox(QGroupBox):
    """A group box whose check mark folds it."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.setCheckable(True)
        self.toggled.connect(self._fold)

    def _fold(self, open_: bool) -> None:
        for child in self.children():
            if child.isWidgetType():
                child.setVisible(open_)

    def _set_collapsed(self, collapsed: bool) -> None:
        self.setChecked(not collapsed)

    collapsed = Property(bool, lambda self: not self.isChecked(), _set_collapsed)


@stand_in
class ctkSliderWidget(QWidget):
    """A slider with a spin box for real numbers; the spin box holds value and range."""

    valueChanged = Signal(float)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        layout = _names["QHBoxLayout"](self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._slider = _names["QSlider"](Qt.Orientation.Horizontal, self)
        self._box = _names["QDoubleSpinBox"](self)
        layout.addWidget(self._slider)
        layout.addWidget(self._box)
        self._box.valueChanged.connect(self._changed)
        self._slider.sliderMoved.connect(self._moved)

    def _changed(self, value: float) -> None:
        span = self._box.maximum - self._box.minimum
        self._slider.setValue(int(99 * (value - self._box.minimum) / span) if span else 0)
        self.valueChanged.emit(value)

    def _moved(self, position: int) -> None:
        span = self._box.maximum - self._box.minimum
        self._box.setValue(self._box.minimum + span * position / 99)

    def setRange(self, minimum: float, maximum: float) -> None:
        """Set both ends."""
        self._box.setRange(minimum, maximum)

    def setValue(self, value: float) -> None:
        """Set the value, within the range."""
        self._box.setValue(value)

    value = Property(float, lambda self: self._box.value, setValue)
    minimum = Property(float, lambda self: self._box.minimum, lambda self, v: self._box.setMinimum(v))
    maximum = Property(float, lambda self: self._box.maximum, lambda self, v: self._box.setMaximum(v))
    singleStep = Property(
        float, lambda self: self._box.singleStep, lambda self, v: self._box.setSingleStep(v)
    )
    decimals = Property(int, lambda self: self._box.decimals, lambda self, v: self._box.setDecimals(v))
    suffix = Property(str, lambda self: self._box.suffix, lambda self, v: self._box.setSuffix(v))


@stand_in
class ctkPathLineEdit(QWidget):
    """A line for a path with a button to browse."""

    currentPathChanged = Signal(str)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        layout = _names["QHBoxLayout"](self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._line = _names["QLineEdit"](self)
        layout.addWidget(self._line)
        layout.addWidget(_names["QPushButton"]("…", self))
        self._line.textChanged.connect(self.currentPathChanged.emit)
        self._filters: list[str] = []

    def setCurrentPath(self, path: str) -> None:
        """Show a path."""
        self._line.setText(path)

    currentPath = Property(str, lambda self: self._line.text, setCurrentPath)
    nameFilters = Property(
        "QStringList", lambda self: self._filters, lambda self, v: setattr(self, "_filters", v)
    )


@stand_in
class ctkComboBox(QComboBox):
    """A combo box that shows a text while nothing is chosen."""

    defaultText = Property(str, lambda self: self.placeholderText, lambda self, v: self.setPlaceholderText(v))


@stand_in
class ctkPushButton(QPushButton):
    """A push button."""


@stand_in
class ctkSearchBox(QLineEdit):
    """A line edit with a clear button and a search icon."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self.setClearButtonEnabled(True)

    showSearchIcon = Property(bool, lambda self: True, lambda self, v: None)
