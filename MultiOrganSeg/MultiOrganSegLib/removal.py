"""Removing a segmentation from the scene, in the order that the application survives."""

from __future__ import annotations

import slicer


def remove_segmentation(node: slicer.vtkMRMLSegmentationNode) -> None:
    """Remove a segmentation from scene and tree with its display nodes; leave one alone that is in no scene.

    The segmentation goes first. While it is in the scene, the 3D views keep a pointer to its display node,
    and its tree item takes the display node along: in another order the next event of the segmentation ends
    the application.
    """
    scene = node.GetScene()
    if scene is None:
        return
    displays = [node.GetNthDisplayNode(number) for number in range(node.GetNumberOfDisplayNodes())]
    tree = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    item = tree.GetItemByDataNode(node)
    scene.RemoveNode(node)
    for display in displays:
        if display is not None and scene.IsNodePresent(display):
            scene.RemoveNode(display)
    if item and tree.GetItemByDataNode(node) == item:
        tree.RemoveItem(item, False, True)
