"""Bringing one organ into the views and into the Segment Editor."""

from __future__ import annotations

from typing import Any

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
