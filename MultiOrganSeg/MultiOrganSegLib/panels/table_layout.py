"""How the tables of the panel are laid out."""

from __future__ import annotations

from typing import Any

import qt

_WIDEST = 150


def lay_out(table: Any) -> None:
    """Return columns the width of their text, and rows just its height.

    Names stay readable in a narrow panel: what matters less stands further to the right and is scrolled to.
    """
    header = table.horizontalHeader()
    header.setSectionResizeMode(qt.QHeaderView.ResizeToContents)
    header.setMaximumSectionSize(_WIDEST)
    header.setHighlightSections(False)
    rows = table.verticalHeader()
    rows.setSectionResizeMode(qt.QHeaderView.ResizeToContents)
    rows.hide()
