"""A project's case in the scene: its image, its segments, and their way back into a file."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import slicer
from numpy.typing import NDArray
from slicer.i18n import tr as _

from multiorganseg.earlier import SLICER_NAMES
from multiorganseg.errors import MultiOrganSegError, VolumeError
from multiorganseg.organs.catalogue import Organ
from multiorganseg.projects.matrix import LABELLED
from multiorganseg.projects.project import Project
from MultiOrganSegLib.corrections import drawn_by_people, recount
from MultiOrganSegLib.mrml import check_volume_node, merged_labels, use_ct_window, volume_from_node
from MultiOrganSegLib.placing import place_labels, remove_segmentation
from MultiOrganSegLib.tags import author, set_author

_CASE, _PROJECT = "MultiOrganSeg.ProjectCase", "MultiOrganSeg.Project"
_FILES = (".nii.gz", ".nii", ".nrrd", ".mha")
_BACKGROUND = "everything_else"
_TOLERANCE = 1e-3


def find_node(project: Project, case: str, kind: str) -> Any:
    """The node of a class that belongs to a case; None when it is not in the scene."""
    for node in slicer.util.getNodesByClass(kind):
        if _mark(node) == (case, str(project.folder)):
            return node
    return None


def mark(node: Any, project: Project, case: str) -> None:
    """Mark a node as belonging to a case."""
    node.SetAttribute(_CASE, case)
    node.SetAttribute(_PROJECT, str(project.folder))


def case_of(node: Any) -> str:
    """Name of the case that a node belongs to; empty when it belongs to none."""
    return str(node.GetAttribute(_CASE) or "")


def is_case(node: Any, project: Project) -> bool:
    """Whether a volume belongs to a case of a project."""
    case, folder = _mark(node)
    return folder == str(project.folder) and case in project.cases


def _mark(node: Any) -> tuple[str | None, str | None]:
    """The case of a node and the folder of its project."""
    case, folder = (
        node.GetAttribute(name) or node.GetAttribute(SLICER_NAMES[name]) for name in (_CASE, _PROJECT)
    )
    return case, folder


def open_case(project: Project, case: str) -> tuple[Any, Any]:
    """Return a case's volume and segmentation, loaded where they are not in the scene yet.

    Raises:
        VolumeError: A file is missing or damaged.
    """
    volume = find_node(project, case, "vtkMRMLScalarVolumeNode")
    if volume is None:
        volume = _load_image(project, case)
        mark(volume, project, case)
        use_ct_window(volume)
    segmentation = find_node(project, case, "vtkMRMLSegmentationNode")
    if segmentation is None:
        segmentation = _load_labels(project, case, volume) or _empty_segmentation(volume)
        segmentation.SetName(_("{case} labels").format(case=case))
        mark(segmentation, project, case)
    return volume, segmentation


def hide_others(node: Any) -> list[Any]:
    """Hide all segmentations but a case's own: an earlier result over it looks like an annotation.

    Returns:
        Display nodes of those that were shown.
    """
    hidden = []
    for other in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"):
        display = other.GetDisplayNode()
        if other is not node and display is not None and display.GetVisibility():
            display.SetVisibility(False)
            hidden.append(display)
    return hidden


def ensure_segment(node: Any, organ: Organ) -> str:
    """Return the ID of an organ's segment, made with its name, colour and codes where there is none."""
    from multiorganseg.results.seg_nrrd import terminology_entry
    from multiorganseg.results.segmentation import Author
    from multiorganseg.results.segments import Segment

    segmentation = node.GetSegmentation()
    if segmentation.GetSegment(organ.key) is None:
        color = [part / 255 for part in organ.color]
        segmentation.AddEmptySegment(organ.key, organ.name, color)
        entry = terminology_entry(Segment(1, organ, None))
        name = slicer.vtkSegment.GetTerminologyEntryTagName()
        segmentation.GetSegment(organ.key).SetTag(name, entry)
        set_author(segmentation.GetSegment(organ.key), Author.PEOPLE)
    return organ.key


def ensure_background(node: Any, organ: str) -> None:
    """Make a second segment where the organ's is alone: growing from seeds needs what the organ is not."""
    segmentation = node.GetSegmentation()
    if [each for each in segmentation.GetSegmentIDs() if each != organ]:
        return
    from multiorganseg.results.segmentation import Author

    segmentation.AddEmptySegment(_BACKGROUND, _("Everything else"), [0.55, 0.55, 0.55])
    set_author(segmentation.GetSegment(_BACKGROUND), Author.PEOPLE)


def take_over(result: Any, target: Any, keep: Sequence[str]) -> int:
    """Copy the segments of a model's result into a case's segmentation, and remove the result.

    Args:
        result: Segmentation node that the model made.
        target: The case's segmentation node.
        keep: Segments of the target that stay as they are.

    Returns:
        How many were copied; empty ones are not.
    """
    source, segmentation = result.GetSegmentation(), target.GetSegmentation()
    copied = 0
    for identity in source.GetSegmentIDs():
        if identity in keep or not _has_voxels(result, identity):
            continue
        if segmentation.GetSegment(identity) is not None:
            segmentation.RemoveSegment(identity)
        copied += bool(segmentation.CopySegmentFromSegmentation(source, identity))
    remove_segmentation(result)
    return copied


def kept_segments(node: Any, organ: str, annotated: Sequence[str]) -> list[str]:
    """Segments that a pre-segmentation leaves as they are: the organ's, annotated ones, and work by hand."""
    by_hand = drawn_by_people(node)
    return [key for key in drawn_segments(node) if key == organ or key in annotated or key in by_hand]


def confirm(node: Any, organ: str) -> bool:
    """Let an organ's segment say that a person answers for it; whether a model drew it first."""
    from multiorganseg.results.segmentation import Author

    recount(node)
    segment = node.GetSegmentation().GetSegment(organ)
    if author(segment) is Author.NETWORK:
        set_author(segment, Author.CORRECTED)
    return author(segment) is Author.CORRECTED


def drawn_segments(node: Any) -> list[str]:
    """IDs of the segments in which something is drawn."""
    return [each for each in node.GetSegmentation().GetSegmentIDs() if _has_voxels(node, each)]


def export_organ(node: Any, organ: Organ, volume: Any, path: Path) -> int:
    """Write an organ's segment as a label file of 0 and 1 on the case's own grid.

    Returns:
        The number of its voxels.

    Raises:
        ResourceError: The file cannot be written.
        VolumeError: Nothing is drawn, or something outside the image, or the volume cannot be used.
    """
    from multiorganseg.volumes import Volume, write_volume

    check_volume_node(volume)
    if node.GetSegmentation().GetSegment(organ.key) is None or not _has_voxels(node, organ.key):
        raise VolumeError(
            _("Nothing is drawn for {name} yet.").format(name=organ.name),
            next_step=_("Draw it, or press “Absent here” if the image does not hold it."),
        )
    labels = _labels_in(node, organ, volume)
    grid = volume_from_node(volume)
    write_volume(Volume(labels, grid.affine, organ.key), path, compress=False)
    return int(np.count_nonzero(labels))


def image_file(node: Any, folder: Path) -> Path:
    """Return a file with a volume of the scene: its own while that is unchanged, else a new one in `folder`.

    Raises:
        ResourceError: The file cannot be written.
        VolumeError: The volume cannot be used.
    """
    from multiorganseg.volumes import write_volume

    volume = volume_from_node(node)
    storage = node.GetStorageNode()
    own = Path(storage.GetFileName() or "") if storage else Path()
    is_own = (
        own.is_file() and own.name.lower().endswith(_FILES) and not own.name.lower().endswith(".seg.nrrd")
    )
    if is_own and node.GetParentTransformNode() is None and not node.GetModifiedSinceRead():
        return own
    path = folder / "image.nrrd"
    write_volume(volume, path, compress=False)
    return path


def _load_image(project: Project, case: str) -> Any:
    path = project.image_path(case)
    try:
        return slicer.util.loadVolume(str(path), properties={"name": case})
    except RuntimeError as error:
        raise VolumeError(
            _("The image of {case} cannot be loaded.").format(case=case),
            cause=_("Slicer does not read {path}.").format(path=path),
            next_step=_("Check that the file is there and complete."),
        ) from error


def _load_labels(project: Project, case: str, volume: Any) -> Any:
    """Load what is labelled in a case; None when nothing is."""
    status, path = project.matrix.rows[case], project.labels_path(case)
    keys = {value: key for value, key in project.table.organs.items() if status[key] in LABELLED}
    if path is None or not keys:
        return None
    from multiorganseg.organs.labels import LabelTable
    from multiorganseg.results.segmentation import Segmentation
    from multiorganseg.volumes import read_labels

    read = read_labels(path)
    labels = np.where(np.isin(read.voxels, list(keys)), read.voxels, 0).astype(read.voxels.dtype)
    made = Segmentation(labels, read.affine, LabelTable(keys), authors=project.authors(case))
    try:
        return place_labels(made, project.catalogue, volume)
    except MultiOrganSegError as error:
        raise VolumeError(
            _("The labels of {case} cannot be shown on its image.").format(case=case),
            cause=error.cause,
            next_step=_("Check the project: multiorganseg-train project check {folder}").format(
                folder=project.folder
            ),
        ) from error


def _empty_segmentation(volume: Any) -> Any:
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    node.CreateDefaultDisplayNodes()
    node.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    return node


def _labels_in(node: Any, organ: Organ, volume: Any) -> NDArray[np.unsignedinteger]:
    """Voxels (k, j, i) of a segment on the volume's grid; what lies outside it is not silently cut off."""
    labels = merged_labels(node, volume, [organ.key])
    drawn, size = _drawn_ml(node, organ.key), _voxel_ml(volume)
    inside = np.count_nonzero(labels) * size
    if drawn - inside > max(_TOLERANCE * drawn, 0.5 * size) and _leaves(node, organ.key, volume):
        raise VolumeError(
            _("{name} is drawn beyond the edge of the image.").format(name=organ.name),
            cause=_("{outside:.1f} of {drawn:.1f} ml lie outside the case's image.").format(
                outside=drawn - inside, drawn=drawn
            ),
            next_step=_("Erase what lies outside, or draw it in the segmentation that this panel made."),
        )
    return labels


def _image(node: Any, identity: str) -> Any:
    image = slicer.vtkOrientedImageData()
    node.GetBinaryLabelmapRepresentation(identity, image)
    return image


def _extent(image: Any) -> list[int]:
    extent = [0] * 6
    slicer.vtkOrientedImageDataResample.CalculateEffectiveExtent(image, extent)
    return extent


def _has_voxels(node: Any, identity: str) -> bool:
    image = _image(node, identity)
    if image.IsEmpty():
        return False
    extent = _extent(image)
    return all(low <= high for low, high in zip(extent[::2], extent[1::2], strict=True))


def _drawn_ml(node: Any, identity: str) -> float:
    from vtk.util.numpy_support import vtk_to_numpy

    image = _image(node, identity)
    voxels = int(np.count_nonzero(vtk_to_numpy(image.GetPointData().GetScalars())))
    return voxels * float(np.prod(image.GetSpacing())) / 1000


def _voxel_ml(volume: Any) -> float:
    return float(np.prod(volume.GetSpacing())) / 1000


def _leaves(node: Any, identity: str, volume: Any) -> bool:
    """Whether the corners of what is drawn lie outside the volume's voxels."""
    import vtk

    image = _image(node, identity)
    to_ras, to_ijk = vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(to_ras)
    volume.GetRASToIJKMatrix(to_ijk)
    matrix = slicer.util.arrayFromVTKMatrix(to_ijk) @ slicer.util.arrayFromVTKMatrix(to_ras)
    extent = np.reshape(_extent(image), (3, 2))
    corners = np.stack(np.meshgrid(*extent, indexing="ij"), axis=-1).reshape(-1, 3)
    found = corners @ matrix[:3, :3].T + matrix[:3, 3]
    last = np.asarray(volume.GetImageData().GetDimensions()) - 1
    return bool((found < -0.51).any() or (found > last + 0.51).any())


def temporary_folder() -> tempfile.TemporaryDirectory[str]:
    """A folder for files that only a command needs; its name names the process, as others of the module."""
    return tempfile.TemporaryDirectory(prefix=f"multiorganseg-{os.getpid()}-", dir=slicer.app.temporaryPath)
