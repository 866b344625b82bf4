"""A framed text in a panel that says what happened, why, and what to do: no popup to click away."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from slicer.i18n import tr as _

from multiorganseg.errors import MultiOrganSegError
from MultiOrganSegLib.panels.reveal import reveal

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
