"""The one border between MRML and the engine: RAS here, LPS there; and the window in which a CT is shown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import slicer
import vtk
from numpy.typing import NDArray
from slicer.i18n import tr as _
from vtk.util.numpy_support import vtk_to_numpy

from multiorganseg.errors import OrganError, VolumeError

if TYPE_CHECKING:
    from multiorganseg.results.segmentation import Segmentation
    from multiorganseg.volumes.volume import Affine, Volume

_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def volume_from_node(node: slicer.vtkMRMLScalarVolumeNode) -> Volume:
    """Return a volume node's voxels in patient space.

    Args:
        node: A scalar volume. Linear transforms above it are multiplied into the affine.

    Returns:
        A volume that shares its voxels (k, j, i) with the node: it must not be changed, nor kept for long.

    Raises:
        VolumeError: There is no volume, or one that cannot be segmented; the next step is reported.
    """
    check_volume_node(node)
    from multiorganseg.volumes.check import check_affine
    from multiorganseg.volumes.volume import Volume

    affine = _RAS_TO_LPS @ _transform_to_world(node) @ _ijk_to_ras(node)
    check_affine(affine, Path(re.sub(r"[/\\]", " ", node.GetName())))
    return Volume(slicer.util.arrayFromVolume(node), affine, node.GetName())


def add_volume_node(volume: Volume, name: str) -> slicer.vtkMRMLScalarVolumeNode:
    """Add a volume to the scene under a name."""
    return slicer.util.addVolumeFromArray(volume.voxels, _RAS_TO_LPS @ volume.affine, name)


def check_volume_node(node: Any) -> None:
    """Refuse what cannot be segmented, without looking at the voxels.

    Raises:
        VolumeError: None, an empty, flat, colour or label volume, a sequence, or a non-linear transform.
    """
    if node is None:
        raise VolumeError(
            _("No volume is chosen."),
            next_step=_("Load a CT, for example by dropping its DICOM folder onto Slicer, and choose it."),
        )
    name = node.GetName()
    if node.IsA("vtkMRMLSequenceNode") or node.IsA("vtkMRMLMultiVolumeNode"):
        raise VolumeError(
            _("{name} is a sequence of volumes.").format(name=name),
            cause=_("One volume in three dimensions is segmented at a time."),
            next_step=_("Choose a time point in the Sequences module, and segment the volume that it shows."),
        )
    if not node.IsA("vtkMRMLScalarVolumeNode") or node.IsA("vtkMRMLLabelMapVolumeNode"):
        raise VolumeError(
            _("{name} is no scalar volume.").format(name=name),
            cause=_("It is a {kind}.").format(kind=node.GetNodeTagName()),
            next_step=_("Choose the CT itself."),
        )
    image = node.GetImageData()
    if image is None or image.GetNumberOfPoints() == 0 or image.GetPointData().GetScalars() is None:
        raise VolumeError(
            _("{name} is empty.").format(name=name),
            cause=_("The volume has no voxels."),
            next_step=_("Load the image again."),
        )
    if image.GetNumberOfScalarComponents() != 1:
        raise VolumeError(
            _("{name} is a colour or vector volume.").format(name=name),
            cause=_("Each voxel has {count} numbers.").format(count=image.GetNumberOfScalarComponents()),
            next_step=_("Choose the CT itself, with one number a voxel."),
        )
    if min(image.GetDimensions()) < 2:
        raise VolumeError(
            _("{name} is a single slice.").format(name=name),
            cause=_("It has {sizes} voxels.").format(sizes=" × ".join(map(str, image.GetDimensions()))),
            next_step=_("Load the whole series."),
        )
    transform = node.GetParentTransformNode()
    if transform is not None and not transform.IsTransformToWorldLinear():
        raise VolumeError(
            _("{name} is under a non-linear transform.").format(name=name),
            cause=_("The transform {transform} bends space.").format(transform=transform.GetName()),
            next_step=_("Harden the transform in the Transforms module, or take the volume out of it."),
        )


def segmentation_from_node(
    node: slicer.vtkMRMLSegmentationNode, volume_node: slicer.vtkMRMLScalarVolumeNode
) -> Segmentation:
    """Return a segmentation node's segments as labels on a volume's own grid.

    The segments are numbered from 1 in their order; where they overlap, the later one wins. Of transforms
    only what differs between the two nodes counts: the affine is the volume's own, as in its DICOM files.
    Measurements, provenance and who drew a segment come from the segment tags, as far as they are there;
    voxels are counted.

    Raises:
        OrganError: There are no segments, or two of them would have the same key.
        VolumeError: See `check_volume_node`.
    """
    check_volume_node(volume_node)
    from multiorganseg.organs.labels import LabelTable
    from multiorganseg.results.segmentation import Segmentation
    from MultiOrganSegLib.tags import author, organ_key, provenance_from_tags, statistics_from_tags

    ids = node.GetSegmentation().GetSegmentIDs()
    if not ids:
        raise OrganError(
            _("{name} has no segments.").format(name=node.GetName()),
            next_step=_("Segment a volume first."),
        )
    labels = merged_labels(node, volume_node, ids)
    segments = [node.GetSegmentation().GetSegment(identity) for identity in ids]
    table = LabelTable.numbered(map(organ_key, ids, segments))
    counts = np.bincount(labels.ravel(), minlength=len(ids) + 1)
    statistics = tuple(
        replace(found, voxels=int(counts[value]))
        for (value, key), segment in zip(table.organs.items(), segments, strict=True)
        if (found := statistics_from_tags(segment, key))
    )
    affine = _RAS_TO_LPS @ _ijk_to_ras(volume_node)
    authors = {key: author(segment) for key, segment in zip(table.keys, segments, strict=True)}
    origin = next((found for each in segments if (found := provenance_from_tags(each))), {})
    return Segmentation(labels, affine, table, statistics, origin, authors=authors)


def merged_labels(
    node: slicer.vtkMRMLSegmentationNode, volume_node: slicer.vtkMRMLScalarVolumeNode, ids: Sequence[str]
) -> NDArray[np.unsignedinteger]:
    """Return segments as labels 1, 2, … (k, j, i) on a volume's grid; of overlapping ones the later wins."""
    names, values = vtk.vtkStringArray(), vtk.vtkIntArray()
    for value, identity in enumerate(ids, start=1):
        names.InsertNextValue(identity)
        values.InsertNextValue(value)
    merged = slicer.vtkOrientedImageData()
    slicer.vtkSlicerSegmentationsModuleLogic.GenerateMergedLabelmapInReferenceGeometry(
        node, volume_node, names, slicer.vtkSegmentation.EXTENT_REFERENCE_GEOMETRY, merged, values
    )
    array = vtk_to_numpy(merged.GetPointData().GetScalars())
    shape = volume_node.GetImageData().GetDimensions()[::-1]
    return array.reshape(shape).astype(np.uint8 if len(ids) < 256 else np.uint16)


def _ijk_to_ras(node: slicer.vtkMRMLVolumeNode) -> Affine:
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def _transform_to_world(node: slicer.vtkMRMLTransformableNode) -> Affine:
    transform = node.GetParentTransformNode()
    matrix = vtk.vtkMatrix4x4()
    if transform is not None:
        transform.GetMatrixTransformToWorld(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


WINDOW_LEVEL = (350.0, 40.0)
"""Width and centre in HU: soft tissue of the abdomen."""


def use_ct_window(node: Any) -> bool:
    """Show a CT in the window of soft tissue, while its window is Slicer's automatic one.

    Files other than DICOM name no window, and the automatic one spans air to metal.

    Returns:
        Whether the window was changed.
    """
    display = node.GetScalarVolumeDisplayNode()
    if display is None or not display.GetAutoWindowLevel() or not _is_ct(node):
        return False
    set_ct_window(node)
    return True


def set_ct_window(node: Any) -> None:
    """Show a volume in the window of soft tissue."""
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    display.AutoWindowLevelOff()
    display.SetWindowLevel(*WINDOW_LEVEL)


def _is_ct(node: Any) -> bool:
    from multiorganseg.volumes.modality import apparent_modality

    try:
        check_volume_node(node)
        appearance = apparent_modality(volume_from_node(node))
    except VolumeError:
        return False
    return appearance is not None and appearance.modality == "CT"
