"""Putting a result into the scene."""

from __future__ import annotations

from pathlib import Path

import slicer
import vtk
from slicer.i18n import tr as _

from multiorganseg.errors import MultiOrganSegError, VolumeError
from MultiOrganSegLib.corrections import recount
from MultiOrganSegLib.former import Former, capture, restore
from MultiOrganSegLib.removal import remove_segmentation

_LABELMAP = "Binary labelmap"


def place_result(
    path: Path,
    volume_node: slicer.vtkMRMLScalarVolumeNode,
    target: slicer.vtkMRMLSegmentationNode | None = None,
) -> tuple[slicer.vtkMRMLSegmentationNode, Former | None]:
    """Load the engine's `.seg.nrrd` beside the volume that it was made from.

    The node stands under the volume's transform and parent in the subject hierarchy, has the volume as its
    reference geometry, and no file of its own, since the file is temporary. When anything fails the scene
    is as before.

    Args:
        path: The file.
        volume_node: It gives the place: labels belong to voxels, so that its geometry counts as it is now,
            even if it was moved after the file was written.
        target: Gets the segments in place of its own; a new node when None.

    Returns:
        The target or the new node, and what the target held before.

    Raises:
        VolumeError: The file cannot be read, or the volume has other voxels than were segmented.
    """
    result = _read(path, volume_node)
    node = target or slicer.vtkMRMLSegmentationNode()
    former = capture(target) if target else None
    try:
        if target is None:
            node.SetName(_name(volume_node))
            slicer.mrmlScene.AddNode(node)
        node.GetSegmentation().DeepCopy(result)
        node.CreateDefaultDisplayNodes()
        node.SetAndObserveTransformNodeID(volume_node.GetTransformNodeID())
        node.SetReferenceImageGeometryParameterFromVolumeNode(volume_node)
        _put_beside(node, volume_node)
        recount(node)
    except BaseException:
        if target is not None and former is not None:
            restore(former, target)
        else:
            remove_segmentation(node)
        raise
    return node, former


def _read(path: Path, volume_node: slicer.vtkMRMLScalarVolumeNode) -> slicer.vtkSegmentation:
    """Read in a scene apart, and lay the voxels exactly onto the volume's.

    The engine reads it first: Slicer's reader would end the application at a damaged file.
    """
    from multiorganseg.volumes import read_labels

    try:
        shape = read_labels(path).grid.shape
    except MultiOrganSegError as error:
        raise _unreadable(error.cause) from error
    if shape[::-1] != volume_node.GetImageData().GetDimensions():
        raise VolumeError(
            _("{name} was changed while it was segmented.").format(name=volume_node.GetName()),
            cause=_("It has another number of voxels now."),
            next_step=_("Segment it again."),
        )
    apart = slicer.vtkMRMLScene()
    node = apart.AddNewNodeByClass("vtkMRMLSegmentationNode")
    storage = slicer.vtkMRMLSegmentationStorageNode()
    storage.SetFileName(str(path))
    if not storage.ReadData(node):
        raise _unreadable(_("Slicer's reader of segmentations failed."))
    segmentation = slicer.vtkSegmentation()
    segmentation.DeepCopy(node.GetSegmentation())
    matrix = vtk.vtkMatrix4x4()
    volume_node.GetIJKToRASMatrix(matrix)
    for layer in range(segmentation.GetNumberOfLayers()):
        segmentation.GetLayerDataObject(layer, _LABELMAP).SetImageToWorldMatrix(matrix)
    return segmentation


def _unreadable(cause: str) -> VolumeError:
    return VolumeError(
        _("The result of the segmentation cannot be read."),
        cause=cause,
        next_step=_("Try again; if it happens again, report it with the log."),
    )


def _name(volume_node: slicer.vtkMRMLScalarVolumeNode) -> str:
    name = _("{volume} organs").format(volume=volume_node.GetName())
    taken = slicer.mrmlScene.GetFirstNodeByName(name)
    return slicer.mrmlScene.GenerateUniqueName(name) if taken else name


def _put_beside(node: slicer.vtkMRMLSegmentationNode, volume_node: slicer.vtkMRMLScalarVolumeNode) -> None:
    tree = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    volume_item, item = tree.GetItemByDataNode(volume_node), tree.GetItemByDataNode(node)
    if not volume_item:
        return
    parent = tree.GetItemParent(volume_item)
    if item:
        tree.SetItemParent(item, parent)
    else:
        tree.CreateItem(parent, node)
