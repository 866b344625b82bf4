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
