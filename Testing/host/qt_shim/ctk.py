"""The CTK widgets that the host stands in for; any other name raises AttributeError."""

from pythonqt.ctk_widgets import ctkCollapsibleButton
from pythonqt.dialogs import ctkMessageBox

__all__ = ["ctkCollapsibleButton", "ctkMessageBox"]
