"""Stand-in for the selector of MRML nodes."""

from __future__ import annotations

from typing import Any

import slicer
import vtk
from PySide6 import QtCore
from PySide6.QtCore import Signal
from shiboken6 import isValid

from pythonqt.classes import exported_names, stand_in

_names = exported_names()
Property: Any = QtCore.Property
QWidget: Any = _names["QWidget"]


def _plain(name: str, kind: Any) -> Any:
    def write(self: Any, value: Any) -> None:
        self._settings[name] = value
        self._list_nodes()

    return Property(kind, lambda self: self._settings[name], write)


@stand_in
class qMRMLNodeComboBox(QWidget):
    """Lists the nodes of some classes; chooses one by itself unless "none" is allowed."""

    currentNodeChanged = Signal(object)
    mrml_slots = ("setMRMLScene", "setCurrentNode")

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._settings: dict[str, Any] = {
            "nodeTypes": [],
            "showChildNodeTypes": True,
            "noneEnabled": False,
            "noneDisplay": "None",
            "addEnabled": True,
            "removeEnabled": True,
            "renameEnabled": False,
        }
        self._scene: Any = None
        self._node: Any = None
        self._listed: list[Any] = []
        self._observers: list[tuple[Any, int]] = []
        self._box = _names["QComboBox"](self)
        layout = _names["QHBoxLayout"](self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._box)
        self._box.activated.connect(self._activated)

    nodeTypes = _plain("nodeTypes", "QStringList")
    showChildNodeTypes = _plain("showChildNodeTypes", bool)
    noneEnabled = _plain("noneEnabled", bool)
    noneDisplay = _plain("noneDisplay", str)
    addEnabled = _plain("addEnabled", bool)
    removeEnabled = _plain("removeEnabled", bool)
    renameEnabled = _plain("renameEnabled", bool)

    def mrmlScene(self) -> Any:
        """The scene."""
        return self._scene

    def setMRMLScene(self, scene: Any) -> None:
        """List the nodes of this scene."""
        if scene is self._scene:
            return
        for observed, tag in self._observers:
            observed.RemoveObserver(tag)
        self._observers = []
        self._scene = scene
        if scene is not None:
            events = (
                slicer.vtkMRMLScene.NodeAddedEvent,
                slicer.vtkMRMLScene.NodeRemovedEvent,
                slicer.vtkMRMLScene.EndBatchProcessEvent,
            )
            self._observers = [(scene, scene.AddObserver(event, self._scene_changed)) for event in events]
        self._list_nodes()

    def currentNode(self) -> Any:
        """The chosen node, or None."""
        return self._node

    def setCurrentNode(self, node: Any) -> None:
        """Choose a node, or None; a node that is not listed counts as None."""
        self._choose(node if node in self._listed else None)

    def nodes(self) -> list[Any]:
        """All listed nodes."""
        return list(self._listed)

    def _scene_changed(self, caller: Any, event: str) -> None:
        if isValid(self):
            self._list_nodes()
        else:
            for observed, tag in self._observers:
                observed.RemoveObserver(tag)
            self._observers = []

    def _list_nodes(self) -> None:
        if self._scene is not None and self._scene.IsBatchProcessing():
            return
        before = self._listed
        self._listed = self._matching()
        node = self._node if self._node in self._listed else None
        if node is None and self._listed and not self.noneEnabled:
            node = self._listed[0]
        self._show(node)
        for added in self._listed:
            if added not in before:
                added_tag = added.AddObserver(vtk.vtkCommand.ModifiedEvent, self._node_modified)
                self._observers.append((added, added_tag))
        self._choose(node)

    def _matching(self) -> list[Any]:
        found: list[Any] = []
        for class_name in self.nodeTypes if self._scene is not None else ():
            for node in slicer.util.getNodesByClass(class_name, self._scene):
                if node not in found and self._accepts(node):
                    found.append(node)
        return found

    def _accepts(self, node: Any) -> bool:
        is_listed_class = self.showChildNodeTypes or node.GetClassName() in self.nodeTypes
        return is_listed_class and not node.GetHideFromEditors()

    def _node_modified(self, caller: Any, event: str) -> None:
        if isValid(self):
            self._show(self._node)

    def _show(self, node: Any) -> None:
        texts = [listed.GetName() or "" for listed in self._listed]
        if self.noneEnabled or not texts:
            texts.insert(0, self.noneDisplay)
        self._box.clear()
        self._box.addItems(texts)
        offset = len(texts) - len(self._listed)
        self._box.setCurrentIndex(self._listed.index(node) + offset if node in self._listed else 0)

    def _activated(self, index: int) -> None:
        offset = self._box.count - len(self._listed)
        self._choose(self._listed[index - offset] if index >= offset else None)

    def _choose(self, node: Any) -> None:
        if node is self._node:
            return
        self._node = node
        self._show(node)
        self.currentNodeChanged.emit(node)
