"""What the panels are made of: boxes of choices, messages, questions for files, scrolling to a widget."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import qt
from slicer.i18n import tr as _

from multiorganseg.errors import MultiOrganSegError


def reveal(widget: Any, *, on_top: bool = False) -> None:
    """Scroll the panel so that a widget is seen, as soon as its place is known.

    Args:
        widget: A widget of the panel.
        on_top: Whether to bring its upper edge to the top, even if it is seen already.
    """
    qt.QTimer.singleShot(0, lambda: _scroll(widget, on_top))


def is_seen(widget: Any) -> bool:
    """Whether all of a widget is within the part of the panel that is shown; True where nothing scrolls."""
    area = _scroll_area(widget)
    if area is None:
        return True
    top, bottom = _edges(widget, area)
    first = area.verticalScrollBar().value
    return bool(first <= top and bottom <= first + area.viewport().height)


def _scroll(widget: Any, on_top: bool) -> None:
    area = _scroll_area(widget)
    if area is None or not widget.visible:
        return
    bar, height = area.verticalScrollBar(), area.viewport().height
    top, bottom = _edges(widget, area)
    if on_top or bottom - top > height or top < bar.value:
        bar.value = top
    elif bottom > bar.value + height:
        bar.value = bottom - height


def _edges(widget: Any, area: Any) -> tuple[int, int]:
    content = area.widget()
    if content.layout() is not None:
        content.layout().activate()
    top = widget.mapTo(content, qt.QPoint(0, 0)).y()
    return top, top + widget.height


def _scroll_area(widget: Any) -> Any:
    """The scroll area that the panel lies in; None where it lies in none, or its widget is gone."""
    try:
        parent = widget.parentWidget()
        while parent is not None and not isinstance(parent, qt.QScrollArea):
            parent = parent.parentWidget()
    except (RuntimeError, ValueError):
        return None
    return parent


_MAX_LINES = 6
_COLORS = {"error": "214, 69, 65", "warning": "230, 160, 30", "note": "60, 150, 90"}


class MessageArea:
    """One text with a coloured edge; the colours are translucent, so that they suit dark and light themes.

    The panel is scrolled to what is shown.

    Args:
        frame: The QFrame that is shown and hidden.
        label: The QLabel in it.
    """

    def __init__(self, frame: Any, label: Any) -> None:
        self._frame = frame
        self._label = label

    @property
    def text(self) -> str:
        """What is shown, as HTML; empty when nothing is."""
        return str(self._label.text)

    def clear(self) -> None:
        """Show nothing."""
        self._label.text = ""
        self._frame.visible = False

    def show_error(self, error: MultiOrganSegError, next_step: str = "") -> None:
        """Show the problem, the cause and the next step of an error.

        Args:
            error: What went wrong.
            next_step: What the user can do here, when the panel knows better than the engine.
        """
        parts = [f"<b>{escape(error.problem)}</b>"]
        if error.cause:
            parts.append(_lines(error.cause))
        if next_step or error.next_step:
            following = escape(next_step or error.next_step).replace("\n", "<br>")
            parts.append(f"<b>→</b> {following}")
        self._show("error", parts)

    def show_note(self, text: str, warnings: Sequence[str] = ()) -> None:
        """Show that something is done, and what was noticed on the way."""
        noticed = [f"⚠ {escape(warning)}" for warning in warnings]
        if (more := len(noticed) - _MAX_LINES) > 0:
            noticed = [*noticed[:_MAX_LINES], escape(_("… and {count} more").format(count=more))]
        parts = [escape(text), *noticed]
        self._show("warning" if warnings else "note", parts)

    def _show(self, kind: str, parts: Sequence[str]) -> None:
        color = _COLORS[kind]
        name = self._frame.objectName
        self._frame.styleSheet = (
            f"QFrame#{name} {{ background-color: rgba({color}, 38); border: none; "
            f"border-left: 4px solid rgb({color}); border-radius: 3px; }}"
        )
        self._label.text = "<br>".join(parts)
        self._frame.visible = True
        reveal(self._frame)


def _lines(text: str) -> str:
    lines = [escape(line) for line in text.splitlines()]
    if len(lines) > _MAX_LINES:
        more = _("… and {count} more").format(count=len(lines) - _MAX_LINES)
        lines = [*lines[:_MAX_LINES], escape(more)]
    return "<br>".join(lines)


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


def ask_open(parent: Any, title: str, kinds: str) -> Path | None:
    """Ask for a file that exists; None when the user cancelled.

    Args:
        parent: Widget over which the dialog lies.
        title: Title of the dialog.
        kinds: Filter of Qt, such as "Models (*.zip)".
    """
    name = qt.QFileDialog.getOpenFileName(parent, title, "", kinds)
    return Path(name) if name else None


def ask_save(parent: Any, title: str, suggestion: str, suffix: str) -> Path | None:
    """Ask where to save; None when the user cancelled.

    Args:
        parent: Widget over which the dialog lies.
        title: Title of the dialog.
        suggestion: File name without suffix; characters that no file system takes are replaced.
        suffix: Suffix with its dot, which the answer always has.
    """
    stem = "".join("_" if letter in '<>:"/\\|?*' or ord(letter) < 32 else letter for letter in suggestion)
    name = qt.QFileDialog.getSaveFileName(parent, title, stem + suffix, f"*{suffix}")
    if not name:
        return None
    return Path(name if name.lower().endswith(suffix) else name + suffix)


def ask_folder(parent: Any, title: str) -> Path | None:
    """Ask for a folder; None when the user cancelled."""
    name = qt.QFileDialog.getExistingDirectory(parent, title, "")
    return Path(name) if name else None


def ask_open_many(parent: Any, title: str, kinds: str) -> list[Path]:
    """Ask for files that exist; none when the user cancelled."""
    return [Path(name) for name in qt.QFileDialog.getOpenFileNames(parent, title, "", kinds) or ()]
