"""The CTK widgets that the host stands in for; any other name raises AttributeError."""

from pythonqt.ctk_widgets import (
    ctkCollapsibleButton,
    ctkCollapsibleGroupBox,
    ctkComboBox,
    ctkPathLineEdit,
    ctkPushButton,
    ctkSearchBox,
    ctkSliderWidget,
)
from pythonqt.dialogs import ctkMessageBox

__all__ = [
    "ctkCollapsibleButton",
    "ctkCollapsibleGroupBox",
    "ctkComboBox",
    "ctkMessageBox",
    "ctkPathLineEdit",
    "ctkPushButton",
    "ctkSearchBox",
    "ctkSliderWidget",
]
