"""Putting a result into the scene, and taking it back."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import slicer
import vtk
from slicer.i18n import tr as _

from multiorganseg.errors import MultiOrganSegError, OptionError, VolumeError
from MultiOrganSegLib.corrections import drawn_by_people, names_of, recount

if TYPE_CHECKING:
    from multiorganseg.organs.catalogue import Catalogue
    from multiorganseg.results.segmentation import Segmentation


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


@dataclass(frozen=True, eq=False)
class NodeState:
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


def capture(node: slicer.vtkMRMLSegmentationNode) -> NodeState:
    """Copy what a node holds."""
    segmentation = slicer.vtkSegmentation()
    segmentation.DeepCopy(node.GetSegmentation())
    display = None
    if node.GetDisplayNode():
        display = slicer.vtkMRMLSegmentationDisplayNode()
        display.CopyContent(node.GetDisplayNode())
    return NodeState(
        segmentation,
        display,
        node.GetNodeReferenceID(_geometry_role()),
        node.GetTransformNodeID(),
        _parent_item(node),
    )


def restore(state: NodeState, node: slicer.vtkMRMLSegmentationNode) -> None:
    """Return a node back what it held; what was removed from the scene meanwhile stays away.

    A display node that it got meanwhile stays: see `removal`.
    """
    scene = node.GetScene()
    node.GetSegmentation().DeepCopy(state.segmentation)
    node.SetNodeReferenceID(_geometry_role(), _if_there(scene, state.volume_id))
    node.SetAndObserveTransformNodeID(_if_there(scene, state.transform_id))
    if state.display is not None and node.GetDisplayNode():
        node.GetDisplayNode().CopyContent(state.display)
    tree = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    item = tree.GetItemByDataNode(node)
    if item and state.parent_item and tree.GetItemParent(item) != state.parent_item:
        tree.SetItemParent(item, state.parent_item)


def _geometry_role() -> str:
    return slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()


def _if_there(scene: slicer.vtkMRMLScene, identity: str | None) -> str | None:
    return identity if identity and scene.GetNodeByID(identity) else None


def _parent_item(node: slicer.vtkMRMLSegmentationNode) -> int:
    tree = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(node.GetScene())
    item = tree.GetItemByDataNode(node)
    return tree.GetItemParent(item) if item else 0


_LABELMAP = "Binary labelmap"


def place_result(
    path: Path,
    volume_node: slicer.vtkMRMLScalarVolumeNode,
    target: slicer.vtkMRMLSegmentationNode | None = None,
) -> tuple[slicer.vtkMRMLSegmentationNode, NodeState | None]:
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
    return _place(_read(path, volume_node), volume_node, target)


def place_labels(
    made: Segmentation, catalogue: Catalogue, volume_node: slicer.vtkMRMLScalarVolumeNode
) -> slicer.vtkMRMLSegmentationNode:
    """Put labels on a volume's grid into the scene as a new node, as `place_result` does.

    Raises:
        VolumeError: The volume has other voxels.
    """
    return _place(_from_labels(made, catalogue, volume_node), volume_node, None)[0]


def _place(
    result: slicer.vtkSegmentation,
    volume_node: slicer.vtkMRMLScalarVolumeNode,
    target: slicer.vtkMRMLSegmentationNode | None,
) -> tuple[slicer.vtkMRMLSegmentationNode, NodeState | None]:
    node = target or slicer.vtkMRMLSegmentationNode()
    state = capture(target) if target else None
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
        if target is not None and state is not None:
            restore(state, target)
        else:
            remove_segmentation(node)
        raise
    return node, state


def _read(path: Path, volume_node: slicer.vtkMRMLScalarVolumeNode) -> slicer.vtkSegmentation:
    """Read in a scene apart, and lay the voxels exactly onto the volume's.

    The engine reads it first: Slicer's reader would end the application at a damaged file.
    """
    from multiorganseg.volumes import read_labels

    try:
        shape = read_labels(path).grid.shape
    except MultiOrganSegError as error:
        raise _unreadable(error.cause) from error
    _require_shape(shape, volume_node)
    apart = slicer.vtkMRMLScene()
    node = apart.AddNewNodeByClass("vtkMRMLSegmentationNode")
    storage = slicer.vtkMRMLSegmentationStorageNode()
    storage.SetFileName(str(path))
    if not storage.ReadData(node):
        raise _unreadable(_("Slicer's reader of segmentations failed."))
    segmentation = slicer.vtkSegmentation()
    segmentation.DeepCopy(node.GetSegmentation())
    for layer in range(segmentation.GetNumberOfLayers()):
        segmentation.GetLayerDataObject(layer, _LABELMAP).SetImageToWorldMatrix(_to_world(volume_node))
    return segmentation


def _from_labels(
    made: Segmentation, catalogue: Catalogue, volume_node: slicer.vtkMRMLScalarVolumeNode
) -> slicer.vtkSegmentation:
    """Let all segments share one labelmap, of the box in which something is labelled."""
    import numpy as np
    from vtk.util.numpy_support import numpy_to_vtk

    from multiorganseg.results.seg_nrrd import filled_extent, segment_tags
    from multiorganseg.results.segments import segments_of

    _require_shape(made.grid.shape, volume_node)
    segmentation, image = slicer.vtkSegmentation(), slicer.vtkOrientedImageData()
    segmentation.SetSourceRepresentationName(_LABELMAP)
    extent = filled_extent(made.labels)
    if extent[0] <= extent[1]:
        i, j, k = (slice(low, high + 1) for low, high in zip(extent[::2], extent[1::2], strict=True))
        box = np.ascontiguousarray(made.labels[k, j, i])
        image.SetExtent(*extent)
        image.GetPointData().SetScalars(numpy_to_vtk(box.ravel(), deep=True))
    image.SetImageToWorldMatrix(_to_world(volume_node))
    for each in segments_of(made, catalogue):
        segment = slicer.vtkSegment()
        segment.SetName(each.organ.name)
        segment.SetColor(*each.unit_color)
        segment.SetLabelValue(each.value)
        segment.AddRepresentation(_LABELMAP, image)
        for name, text in segment_tags(each).items():
            segment.SetTag(name, text)
        segmentation.AddSegment(segment, each.organ.key)
    return segmentation


def _require_shape(shape: tuple[int, ...], volume_node: slicer.vtkMRMLScalarVolumeNode) -> None:
    if shape[::-1] != volume_node.GetImageData().GetDimensions():
        raise VolumeError(
            _("{name} was changed while it was segmented.").format(name=volume_node.GetName()),
            cause=_("It has another number of voxels now."),
            next_step=_("Segment it again."),
        )


def _to_world(volume_node: slicer.vtkMRMLScalarVolumeNode) -> vtk.vtkMatrix4x4:
    matrix = vtk.vtkMatrix4x4()
    volume_node.GetIJKToRASMatrix(matrix)
    return matrix


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


class UndoHistory:
    """What nodes held before their last run; forgotten when a node leaves the scene.

    Args:
        scene: The scene of the nodes.
    """

    def __init__(self, scene: slicer.vtkMRMLScene) -> None:
        self._scene = scene
        self._states: dict[str, tuple[Any, NodeState | None]] = {}
        events = (slicer.vtkMRMLScene.NodeRemovedEvent, slicer.vtkMRMLScene.EndCloseEvent)
        forget = weakref.WeakMethod(self._forget_gone)
        self._observers = [scene.AddObserver(event, lambda *_: (forget() or _nothing)()) for event in events]

    def remember(self, node: slicer.vtkMRMLSegmentationNode, state: NodeState | None) -> None:
        """Keep what `undo` will give back; None when the run made the node."""
        self._states[node.GetID()] = (node, state)

    def can_undo(self, node: slicer.vtkMRMLSegmentationNode | None) -> bool:
        """Whether `undo` has something to give back."""
        return node is not None and self._states.get(node.GetID(), (None,))[0] is node

    def undo(self, node: slicer.vtkMRMLSegmentationNode | None, *, discard: bool = False) -> None:
        """Return a node back what it held before its last run, or remove it when that run made it.

        Args:
            node: The node.
            discard: Whether what people drew in it since may be lost.

        Raises:
            OptionError: There is nothing to undo, or something that people drew would be lost.
        """
        if node is None or not self.can_undo(node):
            raise OptionError(
                _("There is nothing to undo."),
                cause=_("No run of this session filled this segmentation."),
                next_step=_("Choose the segmentation of the last run."),
            )
        if not discard and (drawn := drawn_by_people(node)):
            raise OptionError(
                _("{name} holds work by hand, which undoing the run would delete.").format(
                    name=node.GetName()
                ),
                cause=_("Corrected or drawn by hand: {segments}.").format(segments=names_of(node, drawn)),
                next_step=_("Copy it into another segmentation, or undo with discardCorrections=True."),
            )
        _node, state = self._states.pop(node.GetID())
        if state is None:
            remove_segmentation(node)
        else:
            restore(state, node)

    def close(self) -> None:
        """Stop observing the scene and forget all."""
        for observer in self._observers:
            self._scene.RemoveObserver(observer)
        self._observers.clear()
        self._states.clear()

    def _forget_gone(self) -> None:
        for identity, (node, _state) in tuple(self._states.items()):
            if not self._scene.IsNodePresent(node):
                del self._states[identity]


def _nothing() -> None:
    return None
