"""Bringing a part of the panel before the user's eyes."""

from __future__ import annotations

from typing import Any

import qt


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
