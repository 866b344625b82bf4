"""Stand-in for the Segment Editor as a widget: real logic, scripted effects, and the names of the others."""

from __future__ import annotations

from typing import Any, ClassVar

from PySide6 import QtCore

from pythonqt.classes import exported_names, stand_in
from pythonqt.mrml_widgets import qMRMLWidget
from pythonqt.segment_effects import cloned_effects

_names = exported_names()
Property: Any = QtCore.Property
EFFECTS = (
    *("Threshold", "Paint", "Draw", "Erase", "Level tracing", "Grow from seeds", "Fill between slices"),
    *("Margin", "Hollow", "Smoothing", "Scissors", "Islands", "Logical operators", "Mask volume"),
)


@stand_in
class qMRMLSegmentEditorWidget(qMRMLWidget):
    """Keeps its choices in a vtkMRMLSegmentEditorNode, as the application's widget does.

    Attributes:
        logic: The editor's real logic.
    """

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        import slicer

        self._node: Any = None
        self._tag: Any = None
        self._follower = _Follower(self)
        self._effect = ""
        self._logic = slicer.vtkSlicerSegmentEditorLogic()
        self._logic.SetMRMLScene(slicer.mrmlScene)
        self._logic.SetMRMLApplicationLogic(slicer.app.applicationLogic())
        self._scripted = cloned_effects(self)
        self._order: list[str] = []
        self._others = True
        self._has_views = False
        self._has_shortcuts = False
        layout = _names["QVBoxLayout"](self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._label = _names["QLabel"]("", self)
        self._label.setStyleSheet(
            "border: 1px dashed palette(mid); padding: 12px; color: palette(mid); "
            "qproperty-alignment: AlignCenter"
        )
        layout.addWidget(self._label)
        self._tell()

    def setMRMLSegmentEditorNode(self, node: Any) -> None:
        """Keep all choices in this node."""
        if self._node is not None:
            self._node.RemoveObserver(self._tag)
        self._node = node
        self._logic.SetSegmentEditorNode(node)
        if node is not None:
            self._tag = node.AddObserver("ModifiedEvent", self._follower.follow)
            for effect in self._scripted.values():
                effect.self().setMRMLDefaults()

    def mrmlSegmentEditorNode(self) -> Any:
        """The node that keeps the choices."""
        return self._node

    def setSegmentationNode(self, node: Any) -> None:
        """Edit this segmentation, or none."""
        if node is not self._needed().GetSegmentationNode():
            self._take("")
        self._needed().SetAndObserveSegmentationNode(node)
        self._logic.SetSegmentationNode(node)
        self._tell()

    def segmentationNode(self) -> Any:
        """The segmentation that is edited."""
        return self._node.GetSegmentationNode() if self._node else None

    def setSourceVolumeNode(self, node: Any) -> None:
        """Draw over this volume, or over none."""
        self._needed().SetAndObserveSourceVolumeNode(node)
        self._logic.SetSourceVolumeNode(node)

    def sourceVolumeNode(self) -> Any:
        """The volume that is drawn over."""
        return self._node.GetSourceVolumeNode() if self._node else None

    def setCurrentSegmentID(self, identity: str) -> None:
        """Edit this segment, which must exist."""
        segmentation = self.segmentationNode()
        if segmentation is None or segmentation.GetSegmentation().GetSegment(identity) is None:
            message = f"there is no segment {identity}"
            raise ValueError(message)
        self._node.SetSelectedSegmentID(identity)
        self._tell()

    def currentSegmentID(self) -> str:
        """The segment that is edited."""
        return self._node.GetSelectedSegmentID() or "" if self._node else ""

    def setActiveEffectByName(self, name: str) -> None:
        """Take an effect in hand, which must exist and be shown."""
        known = (*EFFECTS, *self._scripted)
        if name not in known or (not self._others and name not in self._order):
            message = f"there is no effect {name}"
            raise ValueError(message)
        self._take(name)
        self._tell()

    def setActiveEffect(self, effect: Any) -> None:
        """Lay the effect aside; the stand-in has no effect objects."""
        if effect is not None:
            message = "the stand-in takes effects by name"
            raise TypeError(message)
        self._take("")
        self._tell()

    def activeEffect(self) -> Any:
        """The effect in hand; None for one that is only known by name."""
        return self._scripted.get(self._effect)

    def effectByName(self, name: str) -> Any:
        """A scripted effect of this editor."""
        return self._scripted.get(name)

    def undo(self) -> None:
        """Take back the last step."""
        self._logic.Undo()

    def redo(self) -> None:
        """Give back what was taken back last."""
        self._logic.Redo()

    def activeEffectName(self) -> str:
        """Name of the effect in hand; for tests, the application has `activeEffect().name`."""
        return self._effect

    def setEffectNameOrder(self, names: Any) -> None:
        """Show these effects first."""
        self._order = list(names)

    def setSegmentationNodeSelectorVisible(self, visible: bool) -> None:
        """Show or hide the choice of the segmentation."""

    def setSourceVolumeNodeSelectorVisible(self, visible: bool) -> None:
        """Show or hide the choice of the volume."""

    def setSwitchToSegmentationsButtonVisible(self, visible: bool) -> None:
        """Show or hide the button that leads to the module Segmentations."""

    def setMaximumNumberOfUndoStates(self, count: int) -> None:
        """Remember as many steps."""

    def setupViewObservations(self) -> None:
        """Follow the views."""
        self._has_views = True

    def removeViewObservations(self) -> None:
        """Stop following the views."""
        self._has_views = False

    def installKeyboardShortcuts(self) -> None:
        """Listen to keys."""
        self._has_shortcuts = True

    def uninstallKeyboardShortcuts(self) -> None:
        """Stop listening to keys."""
        self._has_shortcuts = False

    def close_effects(self) -> None:
        """The widget goes away."""
        self._take("")
        for effect in self._scripted.values():
            effect.self().cleanup()
        self.setMRMLSegmentEditorNode(None)

    logic = property(lambda self: self._logic)
    unorderedEffectsVisible = Property(
        bool, lambda self: self._others, lambda self, visible: setattr(self, "_others", visible)
    )

    def _take(self, name: str) -> None:
        if name != self._effect and self._effect in self._scripted:
            self._scripted[self._effect].self().deactivate()
        former, self._effect = self._effect, name
        if name != former and name in self._scripted:
            self._scripted[name].self().activate()

    def _update_effect(self) -> None:
        if self._effect in self._scripted:
            self._scripted[self._effect].self().updateGUIFromMRML()

    def _needed(self) -> Any:
        if self._node is None:
            message = "the Segment Editor has no vtkMRMLSegmentEditorNode"
            raise RuntimeError(message)
        return self._node

    def _tell(self) -> None:
        lines = ["Segment Editor"]
        segmentation = self.segmentationNode()
        if segmentation is not None and self.currentSegmentID():
            segment = segmentation.GetSegmentation().GetSegment(self.currentSegmentID())
            lines.append(f"{segment.GetName() if segment else ''}: {self._effect or 'no effect'}")
        self._label.text = "\n".join(lines)


class _Follower:
    """Tells an editor of changes of its node as long as there is the editor: a node outlives widgets.

    It is kept here: Python's collector would empty what only an observer of a node holds, and the node would
    still call it.
    """

    kept: ClassVar[set[_Follower]] = set()

    def __init__(self, editor: Any) -> None:
        self._editor = editor
        self.kept.add(self)
        editor.destroyed.connect(self._forget)

    def follow(self, *_: Any) -> None:
        """The node was changed."""
        if self._editor is not None:
            self._editor._update_effect()

    def _forget(self, *_: Any) -> None:
        self._editor = None
