"""Colours of the preview picture."""

from __future__ import annotations

BACKGROUND = "#0c0f14"
PANEL = "#000000"
FRAME = "#232a35"
TEXT = "#e8ecf1"
FAINT = "#8a94a3"
MARK = "#ffd866"
WARNING = "#ffb454"
SHADE = "#000000b0"
