"""The Segment Editor inside the module's own panel."""

from __future__ import annotations

from typing import Any

import slicer

CORRECT = "Correct organ"
PAINT, FILL, GROW = "Paint", "Fill between slices", "Grow from seeds"
_EFFECTS = (CORRECT, PAINT, "Erase", "Threshold", GROW, FILL, "Islands", "Smoothing", "Scissors")
_TAG = "MultiOrganSegAddOrgan"
_UNDO_STEPS = 10


class EmbeddedEditor:
    """Slicer's Segment Editor with the effects that an organ needs, on one segmentation at a time.

    It has a parameter node of its own, so that the module Segment Editor keeps what is chosen there.

    Args:
        holder: The widget that it is put into, when it is shown first.
    """

    def __init__(self, holder: Any) -> None:
        self._holder = holder
        self._editor: Any = None

    def show(self, volume: Any, segmentation: Any, segment: str) -> None:
        """Edit a segment over a volume."""
        editor = self._editor or self._make()
        editor.setMRMLSegmentEditorNode(_editor_node())
        editor.setSegmentationNode(segmentation)
        editor.setSourceVolumeNode(volume)
        self.choose(segment)

    def choose(self, segment: str) -> None:
        """Edit another segment of the same segmentation."""
        if self._editor is not None:
            self._editor.setCurrentSegmentID(segment)

    def use(self, effect: str) -> None:
        """Take one of the effects in hand."""
        if self._editor is not None:
            self._editor.setActiveEffectByName(effect)

    def enter(self) -> None:
        """The panel is shown: follow views and keys."""
        if self._editor is not None:
            self._editor.setupViewObservations()
            self._editor.installKeyboardShortcuts()

    def exit(self) -> None:
        """The panel is hidden: let go of views and keys."""
        if self._editor is not None:
            self._editor.setActiveEffect(None)
            self._editor.uninstallKeyboardShortcuts()
            self._editor.removeViewObservations()

    def close(self) -> None:
        """Let go of the segmentation."""
        if self._editor is not None:
            self._editor.setActiveEffect(None)
            self._editor.setSegmentationNode(None)
            self._editor.setSourceVolumeNode(None)

    def _make(self) -> Any:
        import qt

        layout = self._holder.layout() or qt.QVBoxLayout(self._holder)
        layout.setContentsMargins(0, 0, 0, 0)
        editor = slicer.qMRMLSegmentEditorWidget()
        editor.setMRMLScene(slicer.mrmlScene)
        editor.setSegmentationNodeSelectorVisible(False)
        editor.setSourceVolumeNodeSelectorVisible(False)
        editor.setSwitchToSegmentationsButtonVisible(False)
        editor.setMaximumNumberOfUndoStates(_UNDO_STEPS)
        editor.setEffectNameOrder(list(_EFFECTS))
        editor.unorderedEffectsVisible = False
        layout.addWidget(editor)
        self._editor = editor
        self.enter()
        return editor


def _editor_node() -> Any:
    scene = slicer.mrmlScene
    node = scene.GetSingletonNode(_TAG, "vtkMRMLSegmentEditorNode")
    if node is None:
        node = scene.CreateNodeByClass("vtkMRMLSegmentEditorNode")
        node.SetSingletonTag(_TAG)
        node.UnRegister(None)
        node = scene.AddNode(node)
    return node
