"""Noticing that people edit a segmentation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
import slicer

_QUIET_MILLISECONDS = 700
_EDITS = (
    slicer.vtkSegmentation.SourceRepresentationModified,
    slicer.vtkSegmentation.SegmentModified,
    slicer.vtkSegmentation.SegmentAdded,
    slicer.vtkSegmentation.SegmentRemoved,
)


class Edits:
    """Notices that a segmentation is edited, and tells once it has been left alone for a moment.

    Args:
        tell: Called then; `pending` is true until its receiver says otherwise.
        parent: The widget that it belongs to.
    """

    def __init__(self, tell: Callable[[], None], parent: Any) -> None:
        self.pending = False
        self._observed: list[tuple[Any, int]] = []
        self._timer = qt.QTimer(parent)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_QUIET_MILLISECONDS)
        self._timer.connect("timeout()", tell)

    def watch(self, node: Any) -> None:
        """Watch a segmentation node in place of the one before; None for none."""
        for observed, tag in self._observed:
            observed.RemoveObserver(tag)
        self._observed = [] if node is None else [(node, node.AddObserver(e, self._edited)) for e in _EDITS]
        self.pending = False
        self._timer.stop()

    def _edited(self, _caller: Any, _event: str) -> None:
        self.pending = True
        self._timer.start()
