"""How the tables of the panel are laid out."""

from __future__ import annotations

from typing import Any

import qt


def lay_out(table: Any) -> None:
    """Give the first column what the others leave, and rows just the height of their text."""
    header = table.horizontalHeader()
    header.setSectionResizeMode(qt.QHeaderView.ResizeToContents)
    header.setSectionResizeMode(0, qt.QHeaderView.Stretch)
    header.setHighlightSections(False)
    rows = table.verticalHeader()
    rows.setSectionResizeMode(qt.QHeaderView.ResizeToContents)
    rows.hide()
