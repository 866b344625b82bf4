"""Combo boxes whose entries stand for values of the parameter node."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import qt


@dataclass(frozen=True)
class Choice:
    """One entry.

    Attributes:
        value: What the parameter node gets.
        text: What the user reads.
        tip: What the entry means.
    """

    value: str
    text: str
    tip: str


class ChoiceBox:
    """A combo box of choices.

    Args:
        combo: The QComboBox.
        changed: Called with the value that the user chose.
    """

    def __init__(self, combo: Any, changed: Callable[[str], None]) -> None:
        self._combo = combo
        combo.connect("currentIndexChanged(int)", lambda _index: changed(self.value))

    @property
    def value(self) -> str:
        """Value of the current entry; empty when there is none."""
        return str(self._combo.itemData(self._combo.currentIndex) or "")

    def fill(self, choices: Sequence[Choice]) -> None:
        """Replace the entries; the current value stays where it is still among them."""
        before = self.value
        blocked = self._combo.blockSignals(True)
        self._combo.clear()
        for row, choice in enumerate(choices):
            self._combo.addItem(choice.text, choice.value)
            self._combo.setItemData(row, choice.tip, qt.Qt.ToolTipRole)
        self._combo.currentIndex = max(self._combo.findData(before), 0 if choices else -1)
        self._combo.blockSignals(blocked)

    def set_value(self, value: str) -> bool:
        """Show a value without telling it as a change; False when no entry has it."""
        row = self._combo.findData(value)
        if row < 0:
            return False
        blocked = self._combo.blockSignals(True)
        self._combo.currentIndex = row
        self._combo.blockSignals(blocked)
        return True

    def set_text(self, value: str, text: str) -> None:
        """Rename the entry of a value."""
        self._combo.setItemText(self._combo.findData(value), text)
