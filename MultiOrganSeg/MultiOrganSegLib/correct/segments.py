"""Segments as the labels of a session, and an answer written back into them."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import slicer
import vtk
from numpy.typing import NDArray
from slicer.i18n import tr as _
from vtk.util.numpy_support import vtk_to_numpy

from multiorganseg.errors import MultiOrganSegError, VolumeError
from MultiOrganSegLib.mrml import check_volume_node, merged_labels
from MultiOrganSegLib.tags import PREFIX, organ_key, provenance_from_tags, set_tag, tag

if TYPE_CHECKING:
    from multiorganseg.refine.prompts import Prompt
    from multiorganseg.volumes import Grid

LABELMAP, SURFACE = "Binary labelmap", "Closed surface"
PROMPTS, STALE, LOCKED = f"{PREFIX}Prompts", f"{PREFIX}SurfaceIsStale", f"{PREFIX}Locked"
_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])

Box = tuple[slice, slice, slice]
Labels = NDArray[np.unsignedinteger]


class Editor(Protocol):
    """What of Slicer's Segment Editor writes an answer: an effect, or the editor's logic for scripts."""

    @property
    def parameters(self) -> slicer.vtkMRMLSegmentEditorNode:
        """Node with the masks that the person has set."""

    def save_state(self) -> None:
        """Make what follows one step of undo."""

    def modify(self, node: slicer.vtkMRMLSegmentationNode, segment: str, image: Any, *, add: bool) -> None:
        """Add an image's voxels to a segment, or remove them from it; masks hold."""


def check_place(node: slicer.vtkMRMLSegmentationNode, volume: slicer.vtkMRMLScalarVolumeNode) -> None:
    """Refuse a segmentation whose voxels are not those of the volume.

    Raises:
        VolumeError: It is, or the volume cannot be segmented.
    """
    from multiorganseg.geometry.lattice import shared_lattice

    check_volume_node(volume)
    if node.GetTransformNodeID() != volume.GetTransformNodeID():
        raise VolumeError(
            _("{segmentation} and {volume} are under different transforms.").format(
                segmentation=node.GetName(), volume=volume.GetName()
            ),
            next_step=_("Put both under the same transform, or harden it on both."),
        )
    grid = _volume_grid(volume)
    for other in _grids(node):
        if shared_lattice(other, grid) is None:
            raise VolumeError(
                _("{segmentation} does not lie on the grid of {volume}.").format(
                    segmentation=node.GetName(), volume=volume.GetName()
                ),
                cause=_("Its voxels have another place, size or direction."),
                next_step=_(
                    "Choose the volume that was segmented as source volume, or resample the segmentation: "
                    "in the Segment Editor, the button beside the source volume sets its geometry."
                ),
            )


def voxels_at(volume: slicer.vtkMRMLScalarVolumeNode, points: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the nearest voxels (n, 3) in (k, j, i) of points (n, 3) in RAS of the world, mm."""
    to_local, to_voxel = vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()
    slicer.vtkMRMLTransformNode.GetMatrixTransformBetweenNodes(
        None, volume.GetParentTransformNode(), to_local
    )
    volume.GetRASToIJKMatrix(to_voxel)
    matrix = slicer.util.arrayFromVTKMatrix(to_voxel) @ slicer.util.arrayFromVTKMatrix(to_local)
    return np.rint(points @ matrix[:3, :3].T + matrix[:3, 3])[:, ::-1].astype(np.intp)


def clicks_at(
    volume: slicer.vtkMRMLScalarVolumeNode, points: Sequence[Sequence[float]], positive: bool
) -> list[Prompt]:
    """Return clicks at points in RAS of the world, mm."""
    from multiorganseg.refine.prompts import Prompt

    if not len(points):
        return []
    voxels = voxels_at(volume, np.asarray(points, dtype=float).reshape(-1, 3))
    return [Prompt.click(voxel, positive=positive) for voxel in voxels.tolist()]


def stamp(node: slicer.vtkMRMLSegmentationNode) -> tuple[Any, ...]:
    """Return what changes whenever voxels or segments may have changed."""
    segmentation = node.GetSegmentation()
    layers = range(segmentation.GetNumberOfLayers(LABELMAP))
    images = [segmentation.GetLayerDataObject(layer, LABELMAP).GetMTime() for layer in layers]
    return tuple(segmentation.GetSegmentIDs()), tuple(images)


def place_of(volume: slicer.vtkMRMLScalarVolumeNode) -> tuple[Any, ...]:
    """Return what changes whenever a volume's voxels or its place may have changed."""
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    transform = volume.GetParentTransformNode()
    moved = (transform.GetID(), transform.GetMTime()) if transform else None
    ras = slicer.util.arrayFromVTKMatrix(matrix).tobytes()
    return volume.GetID(), volume.GetImageData().GetMTime(), ras, moved


def read_labels(
    node: slicer.vtkMRMLSegmentationNode, volume: slicer.vtkMRMLScalarVolumeNode
) -> tuple[list[str], Labels]:
    """Return IDs of all segments, and labels 1, 2, … (k, j, i) in their order on the volume's grid."""
    ids = list(node.GetSegmentation().GetSegmentIDs())
    return ids, merged_labels(node, volume, ids)


def organ_keys(node: slicer.vtkMRMLSegmentationNode, ids: Sequence[str]) -> list[str]:
    """Return an organ key for each segment; of two that would have the same, the later gets a number."""
    keys: list[str] = []
    for identity in ids:
        key = organ_key(identity, node.GetSegmentation().GetSegment(identity))
        number = 2
        while key in keys:
            key = f"{organ_key(identity, node.GetSegmentation().GetSegment(identity))}_{number}"
            number += 1
        keys.append(key)
    return keys


def model_of(node: slicer.vtkMRMLSegmentationNode) -> str:
    """Return the name of the model that drew a segmentation; empty when none is told or it is gone."""
    from multiorganseg.bundles import find_bundle

    segmentation = node.GetSegmentation()
    for identity in segmentation.GetSegmentIDs():
        told = provenance_from_tags(segmentation.GetSegment(identity)).get("bundle")
        if told:
            try:
                return str(find_bundle(told["name"]).metadata.name)
            except MultiOrganSegError:
                return ""
    return ""


def locked_segments(
    node: slicer.vtkMRMLSegmentationNode, own: str, parameters: slicer.vtkMRMLSegmentEditorNode
) -> list[str]:
    """Return IDs of segments that an answer must leave: locked ones, and those not to be overwritten."""
    segmentation, display = node.GetSegmentation(), node.GetDisplayNode()
    mode = parameters.GetOverwriteMode()
    locked = []
    for identity in segmentation.GetSegmentIDs():
        hidden = display is not None and not display.GetSegmentVisibility(identity)
        kept = mode == parameters.OverwriteNone or (mode == parameters.OverwriteVisibleSegments and hidden)
        if is_locked(node, identity) or (kept and identity != own):
            locked.append(identity)
    return locked


def is_locked(node: slicer.vtkMRMLSegmentationNode, identity: str) -> bool:
    """Whether a person locked a segment."""
    segment = node.GetSegmentation().GetSegment(identity)
    return segment is not None and tag(segment, LOCKED) == "1"


def set_locked(node: slicer.vtkMRMLSegmentationNode, identity: str, locked: bool) -> None:
    """Lock a segment against corrections of others, or unlock it."""
    if is_locked(node, identity) != locked:
        set_tag(node.GetSegmentation().GetSegment(identity), LOCKED, "1" if locked else "")


def allowed(
    node: slicer.vtkMRMLSegmentationNode,
    volume: slicer.vtkMRMLScalarVolumeNode,
    parameters: slicer.vtkMRMLSegmentEditorNode,
    ids: Sequence[str],
    before: Labels,
    box: Box,
) -> NDArray[np.bool_]:
    """Return where in a box masks let anything change: editable area and range of intensities."""
    kind = slicer.vtkMRMLSegmentationNode
    mode, display = parameters.GetMaskMode(), node.GetDisplayNode()
    visible = [i + 1 for i, each in enumerate(ids) if display is None or display.GetSegmentVisibility(each)]
    free = np.ones(before.shape, bool)
    if mode == kind.EditAllowedInsideAllSegments:
        free = before > 0
    elif mode == kind.EditAllowedInsideVisibleSegments:
        free = np.isin(before, visible)
    elif mode == kind.EditAllowedOutsideAllSegments:
        free = before == 0
    elif mode == kind.EditAllowedOutsideVisibleSegments:
        free = ~np.isin(before, visible)
    elif mode == kind.EditAllowedInsideSingleSegment and parameters.GetMaskSegmentID() in ids:
        free = before == 1 + list(ids).index(parameters.GetMaskSegmentID())
    if parameters.GetSourceVolumeIntensityMask():
        low, high = parameters.GetSourceVolumeIntensityMaskRange()
        voxels = slicer.util.arrayFromVolume(volume)[box]
        free &= (voxels >= low) & (voxels <= high)
    return free


def write_answer(
    editor: Editor,
    node: slicer.vtkMRMLSegmentationNode,
    volume: slicer.vtkMRMLScalarVolumeNode,
    ids: Sequence[str],
    box: Box,
    before: Labels,
    after: Labels,
    said: tuple[str, str],
) -> None:
    """Write the labels of a box as one step of undo; surfaces are put aside and marked stale.

    Args:
        editor: Writes.
        node: Its segments have the labels 1, 2, … in the order of `ids`.
        volume: Gives the lattice.
        ids: IDs of the segments.
        box: Slices (k, j, i) of the volume.
        before: Labels in it as they are.
        after: As they shall be.
        said: ID of a segment, and the text of its tag of prompts.
    """
    editor.save_state()
    segmentation, parameters = node.GetSegmentation(), editor.parameters
    changed = before != after
    values = sorted({*np.unique(before[changed]).tolist(), *np.unique(after[changed]).tolist()} - {0})
    touched = [ids[value - 1] for value in values]
    aside = touched if segmentation.GetNumberOfLayers() == 1 else list(segmentation.GetSegmentIDs())
    with ExitStack() as stack:
        stack.enter_context(slicer.util.NodeModify(node))
        stack.enter_context(slicer.util.NodeModify(parameters))
        masks = _lift_masks(parameters)
        surfaces = _take_surfaces(segmentation, aside)
        try:
            for value, segment in zip(values, touched, strict=True):
                lost = (before == value) & (after == 0)
                if lost.any():
                    editor.modify(node, segment, _image(volume, box, lost), add=False)
            for value, segment in zip(values, touched, strict=True):
                gained = (after == value) & (before != value)
                if gained.any():
                    editor.modify(node, segment, _image(volume, box, gained), add=True)
        finally:
            for segment, surface in surfaces.items():
                segmentation.GetSegment(segment).AddRepresentation(SURFACE, surface)
            _put_masks_back(parameters, masks)
        for segment in touched:
            if segment in surfaces:
                set_tag(segmentation.GetSegment(segment), STALE, "1")
        set_tag(segmentation.GetSegment(said[0]), PROMPTS, said[1])


def make_surfaces(node: slicer.vtkMRMLSegmentationNode) -> bool:
    """Make those surfaces anew that answers left behind.

    Nothing happens where none is stale: any change after an undo would take redo away.
    """
    segmentation = node.GetSegmentation()
    stale = [each for each in segmentation.GetSegmentIDs() if tag(segmentation.GetSegment(each), STALE)]
    if not stale:
        return False
    with slicer.util.NodeModify(node):
        for each in stale:
            segmentation.GetSegment(each).RemoveRepresentation(SURFACE)
        segmentation.CreateRepresentation(SURFACE)
        for each in stale:
            segmentation.GetSegment(each).RemoveTag(STALE)
    return True


def prompts_text(entries: Iterable[dict[str, Any]]) -> str:
    """Return the tag for what was said of a segment: entries of "n", the place among all, and "prompts"."""
    said = list(entries)
    return base64.b64encode(json.dumps(said, separators=(",", ":")).encode()).decode() if said else ""


def prompts_of(node: slicer.vtkMRMLSegmentationNode, identity: str) -> list[dict[str, Any]]:
    """Read the tag of a segment; what is damaged counts as nothing said."""
    try:
        entries = json.loads(base64.b64decode(tag(node.GetSegmentation().GetSegment(identity), PROMPTS)))
        return [{"n": int(entry["n"]), "prompts": list(entry["prompts"])} for entry in entries]
    except (ValueError, KeyError, TypeError):
        return []


def _volume_grid(volume: slicer.vtkMRMLScalarVolumeNode) -> Grid:
    from multiorganseg.volumes import Grid

    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    i, j, k = volume.GetImageData().GetDimensions()
    return Grid((k, j, i), _TO_LPS @ slicer.util.arrayFromVTKMatrix(matrix))


def _grids(node: slicer.vtkMRMLSegmentationNode) -> list[Grid]:
    """Grids of the layers that hold voxels; of an empty segmentation, that of its reference geometry."""
    segmentation = node.GetSegmentation()
    layers = range(segmentation.GetNumberOfLayers(LABELMAP))
    images = [segmentation.GetLayerDataObject(layer, LABELMAP) for layer in layers]
    images = [image for image in images if image is not None and not image.IsEmpty()]
    if not images:
        kind = slicer.vtkSegmentationConverter
        text = segmentation.GetConversionParameter(kind.GetReferenceImageGeometryParameterName())
        image = slicer.vtkOrientedImageData()
        images = [image] if text and kind.DeserializeImageGeometry(text, image, False) else []
    return [_image_grid(image) for image in images]


def _image_grid(image: Any) -> Grid:
    from multiorganseg.volumes import Grid

    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    i0, i1, j0, j1, k0, k1 = image.GetExtent()
    affine = _TO_LPS @ slicer.util.arrayFromVTKMatrix(matrix)
    affine[:3, 3] = (affine @ (i0, j0, k0, 1.0))[:3]
    return Grid((k1 - k0 + 1, j1 - j0 + 1, i1 - i0 + 1), affine)


def _image(volume: slicer.vtkMRMLScalarVolumeNode, box: Box, mask: NDArray[np.bool_]) -> Any:
    """Return an image of a box on the volume's lattice."""
    k, j, i = box
    image = slicer.vtkOrientedImageData()
    image.SetExtent(i.start, i.stop - 1, j.start, j.stop - 1, k.start, k.stop - 1)
    image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
    vtk_to_numpy(image.GetPointData().GetScalars())[:] = mask.ravel()
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    image.SetImageToWorldMatrix(matrix)
    return image


def _take_surfaces(segmentation: Any, identities: Iterable[str]) -> dict[str, Any]:
    """Put surfaces aside: they would be made anew at every write."""
    surfaces = {}
    for identity in identities:
        segment = segmentation.GetSegment(identity)
        surface = segment.GetRepresentation(SURFACE)
        if surface is not None:
            surfaces[identity] = surface
            segment.RemoveRepresentation(SURFACE)
    return surfaces


def _lift_masks(parameters: Any) -> tuple[int, int, bool]:
    masks = (
        parameters.GetOverwriteMode(),
        parameters.GetMaskMode(),
        bool(parameters.GetSourceVolumeIntensityMask()),
    )
    everywhere = slicer.vtkMRMLSegmentationNode.EditAllowedEverywhere
    _put_masks_back(parameters, (parameters.OverwriteAllSegments, everywhere, False))
    return masks


def _put_masks_back(parameters: Any, masks: tuple[int, int, bool]) -> None:
    parameters.SetOverwriteMode(masks[0])
    parameters.SetMaskMode(masks[1])
    parameters.SetSourceVolumeIntensityMask(masks[2])
