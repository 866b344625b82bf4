"""`qt` as PythonQt offers it, on PySide6: names of QtCore, QtGui and QtWidgets in one module."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pythonqt.classes import exported_names
from pythonqt.dialogs import DesktopServices, give_answers
from pythonqt.ui_loader import QUiLoader

globals().update(exported_names())
give_answers(globals())
QDesktopServices = DesktopServices

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Whatever PySide6 has."""


__all__ = ["QDesktopServices", "QUiLoader"]
