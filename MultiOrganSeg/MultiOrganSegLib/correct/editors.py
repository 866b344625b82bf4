"""The Segment Editor as that which writes answers: inside an effect, and without a window for scripts."""

from __future__ import annotations

from typing import Any

import slicer


class EffectEditor:
    """Writes through a Segment Editor effect.

    Args:
        effect: The qSlicerSegmentEditorScriptedEffect.
    """

    def __init__(self, effect: Any) -> None:
        self._effect = effect

    @property
    def parameters(self) -> slicer.vtkMRMLSegmentEditorNode:
        """See `Editor`."""
        return self._effect.parameterSetNode()

    def save_state(self) -> None:
        """See `Editor`."""
        self._effect.saveStateForUndo()

    def modify(self, node: slicer.vtkMRMLSegmentationNode, segment: str, image: Any, *, add: bool) -> None:
        """See `Editor`."""
        kind = slicer.qSlicerSegmentEditorAbstractEffect
        mode = kind.ModificationModeAdd if add else kind.ModificationModeRemove
        self._effect.modifySegmentByLabelmap(node, segment, image, mode)


class ScriptEditor:
    """Writes through the logic of the Segment Editor, with a history of its own: `undo` and `redo`.

    Args:
        node: The segmentation.
        volume: The volume that is looked at.
    """

    def __init__(self, node: slicer.vtkMRMLSegmentationNode, volume: slicer.vtkMRMLScalarVolumeNode) -> None:
        self._parameters = slicer.vtkMRMLSegmentEditorNode()
        slicer.mrmlScene.AddNode(self._parameters)
        self._parameters.SetHideFromEditors(True)
        self._parameters.SetSaveWithScene(False)
        self.logic = slicer.vtkSlicerSegmentEditorLogic()
        self.logic.SetMRMLScene(slicer.mrmlScene)
        self.logic.SetMRMLApplicationLogic(slicer.app.applicationLogic())
        self.logic.SetSegmentEditorNode(self._parameters)
        self.logic.SetSegmentationNode(node)
        self.logic.SetSourceVolumeNode(volume)

    @property
    def parameters(self) -> slicer.vtkMRMLSegmentEditorNode:
        """See `Editor`."""
        return self._parameters

    def save_state(self) -> None:
        """See `Editor`."""
        self.logic.SaveStateForUndo()

    def modify(self, node: slicer.vtkMRMLSegmentationNode, segment: str, image: Any, *, add: bool) -> None:
        """See `Editor`."""
        mode = self.logic.ModificationModeAdd if add else self.logic.ModificationModeRemove
        self.logic.ModifySegmentByLabelmap(node, segment, image, mode, False, False)

    def undo(self) -> None:
        """Take back the last answer."""
        self.logic.Undo()

    def redo(self) -> None:
        """Give back what was undone last."""
        self.logic.Redo()

    def close(self) -> None:
        """Leave the scene."""
        self.logic.SetSegmentationNode(None)
        self.logic.SetSegmentEditorNode(None)
        if slicer.mrmlScene.IsNodePresent(self._parameters):
            slicer.mrmlScene.RemoveNode(self._parameters)
