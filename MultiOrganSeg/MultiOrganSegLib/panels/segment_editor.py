"""The Segment Editor within a panel, noticing that people edit, and bringing one organ into the views."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
import slicer


def jump_to(node: Any, segment_id: str) -> bool:
    """Centre all slice views on a segment; an empty one moves nothing and gives False."""
    center = node.GetSegmentCenterRAS(segment_id)
    if center is None:
        return False
    mode = slicer.vtkMRMLSliceNode.CenteredJumpSlice
    slicer.vtkMRMLSliceNode.JumpAllSlices(slicer.mrmlScene, *center, mode)
    return True


def select_in_editor(node: Any, segment_id: str) -> None:
    """Make a segment the current one of the Segment Editor, so that it can be corrected at once."""
    scene = slicer.mrmlScene
    editor = scene.GetSingletonNode("SegmentEditor", "vtkMRMLSegmentEditorNode")
    if editor is None:
        editor = scene.CreateNodeByClass("vtkMRMLSegmentEditorNode")
        editor.SetSingletonTag("SegmentEditor")
        editor.UnRegister(None)
        editor = scene.AddNode(editor)
    editor.SetAndObserveSegmentationNode(node)
    editor.SetSelectedSegmentID(segment_id)


def use_effect(node: Any, segment_id: str, effect: str) -> None:
    """Take an effect of the module Segment Editor in hand, over the volume that a segmentation belongs to."""
    editor = slicer.modules.segmenteditor.widgetRepresentation().self().editor
    role = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
    editor.setSegmentationNode(node)
    if (volume := node.GetNodeReference(role)) is not None:
        editor.setSourceVolumeNode(volume)
    editor.setCurrentSegmentID(segment_id)
    editor.setActiveEffectByName(effect)
    jump_to(node, segment_id)


def set_surfaces_visible(node: Any, shown: bool) -> None:
    """Show or hide the surfaces in the 3D views; they are computed when they are shown first."""
    node.CreateDefaultDisplayNodes()
    if shown:
        with slicer.util.WaitCursor():
            node.CreateClosedSurfaceRepresentation()
    node.GetDisplayNode().SetVisibility3D(shown)


def look_at_everything() -> None:
    """Turn the cameras of all 3D views to what is shown in them."""
    manager = slicer.app.layoutManager()
    for number in range(manager.threeDViewCount if manager else 0):
        view = manager.threeDWidget(number).threeDView()
        view.resetFocalPoint()
        view.resetCamera()


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
