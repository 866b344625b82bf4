"""What a segmentation node held before, so that it can be given back."""

from __future__ import annotations

from dataclasses import dataclass

import slicer


@dataclass(frozen=True, eq=False)
class Former:
    """State of a segmentation node at one moment, kept outside the scene.

    Attributes:
        segmentation: Deep copy of its segments.
        display: Copy of how it was shown; None when it had no display node.
        volume_id: ID of the volume that gave its reference geometry, or None.
        transform_id: ID of its parent transform, or None.
        parent_item: Its parent in the subject hierarchy; 0 when it did not stand there.
    """

    segmentation: slicer.vtkSegmentation
    display: slicer.vtkMRMLSegmentationDisplayNode | None
    volume_id: str | None
    transform_id: str | None
    parent_item: int


def capture(node: slicer.vtkMRMLSegmentationNode) -> Former:
    """Copy what a node holds."""
    segmentation = slicer.vtkSegmentation()
    segmentation.DeepCopy(node.GetSegmentation())
    display = None
    if node.GetDisplayNode():
        display = slicer.vtkMRMLSegmentationDisplayNode()
        display.CopyContent(node.GetDisplayNode())
    return Former(
        segmentation,
        display,
        node.GetNodeReferenceID(_geometry_role()),
        node.GetTransformNodeID(),
        _parent_item(node),
    )


def restore(former: Former, node: slicer.vtkMRMLSegmentationNode) -> None:
    """Return a node back what it held; what was removed from the scene meanwhile stays away.

    A display node that it got meanwhile stays: see `removal`.
    """
    scene = node.GetScene()
    node.GetSegmentation().DeepCopy(former.segmentation)
    node.SetNodeReferenceID(_geometry_role(), _if_there(scene, former.volume_id))
    node.SetAndObserveTransformNodeID(_if_there(scene, former.transform_id))
    if former.display is not None and node.GetDisplayNode():
        node.GetDisplayNode().CopyContent(former.display)
    tree = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    item = tree.GetItemByDataNode(node)
    if item and former.parent_item and tree.GetItemParent(item) != former.parent_item:
        tree.SetItemParent(item, former.parent_item)


def _geometry_role() -> str:
    return slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()


def _if_there(scene: slicer.vtkMRMLScene, identity: str | None) -> str | None:
    return identity if identity and scene.GetNodeByID(identity) else None


def _parent_item(node: slicer.vtkMRMLSegmentationNode) -> int:
    tree = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(node.GetScene())
    item = tree.GetItemByDataNode(node)
    return tree.GetItemParent(item) if item else 0
