"""A picture in a label of the panel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import qt

_MARGINS = 24
_NARROWEST = 200


def show_picture(label: Any, path: Path | None, within: Any, height: int) -> None:
    """Show a picture file as large as it fits; hide the label where there is none.

    Args:
        label: The label.
        path: The file; None for none.
        within: The widget whose width it may have, less the margins.
        height: The most it may have, in pixels.
    """
    picture = qt.QPixmap(str(path)) if path is not None else None
    label.visible = picture is not None and not picture.isNull()
    if picture is not None and not picture.isNull():
        box = qt.QSize(max(within.width - _MARGINS, _NARROWEST), height)
        label.setPixmap(picture.scaled(box, qt.Qt.KeepAspectRatio, qt.Qt.SmoothTransformation))
