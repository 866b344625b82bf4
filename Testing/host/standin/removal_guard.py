"""Refuses what crashes the application: taking display node or tree item from a segmentation in the scene."""

from __future__ import annotations

from typing import Any

import vtk


class RemovalOrderError(RuntimeError):
    """A part of a living segmentation was removed."""

    def __init__(self, segmentation: Any, part: str) -> None:
        super().__init__(
            f"{part} of {segmentation.GetName()!r} was removed while the segmentation is in the scene. The "
            "application crashes at the segmentation's next event, since its 3D views keep a pointer to the "
            "display node. Remove the segmentation first, then its display nodes and its tree item."
        )


class RemovalGuard:
    """Watches a scene. What it raises in an observer arrives in the host's `errors`, which fail the test.

    Args:
        scene: The vtkMRMLScene, before anything is added to it.
    """

    def __init__(self, scene: Any) -> None:
        self._scene = scene
        scene.AddObserver(scene.NodeAddedEvent, self._node_came)
        scene.AddObserver(scene.NodeAboutToBeRemovedEvent, self._node_leaves)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _node_came(self, _scene: Any, _event: str, node: Any) -> None:
        if node.IsA("vtkMRMLSegmentationNode"):
            node.AddObserver(node.ReferenceRemovedEvent, self._reference_leaves)
        elif node.IsA("vtkMRMLSubjectHierarchyNode"):
            node.AddObserver(node.SubjectHierarchyItemAboutToBeRemovedEvent, self._item_leaves)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _node_leaves(self, _scene: Any, _event: str, node: Any) -> None:
        if not node.IsA("vtkMRMLSegmentationDisplayNode"):
            return
        for segmentation in self._living():
            if segmentation.HasNodeReferenceID(segmentation.GetDisplayNodeReferenceRole(), node.GetID()):
                raise RemovalOrderError(segmentation, "The display node")

    @vtk.calldata_type(vtk.VTK_LONG)
    def _item_leaves(self, tree: Any, _event: str, item: int) -> None:
        node = tree.GetItemDataNode(item)
        if node in self._living():
            raise RemovalOrderError(node, "The tree item")

    def _reference_leaves(self, segmentation: Any, _event: str) -> None:
        if segmentation in self._living() and not segmentation.GetNumberOfDisplayNodes():
            raise RemovalOrderError(segmentation, "The display node")

    def _living(self) -> list[Any]:
        """Segmentations of the scene; none while all of it goes away or is replaced."""
        scene = self._scene
        if scene.IsClosing() or scene.IsImporting() or scene.IsRestoring():
            return []
        nodes = scene.GetNodesByClass("vtkMRMLSegmentationNode")
        nodes.UnRegister(None)
        return [nodes.GetItemAsObject(number) for number in range(nodes.GetNumberOfItems())]
