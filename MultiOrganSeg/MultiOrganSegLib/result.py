"""The result in the scene: a table of its organs, and files of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import slicer
from slicer.i18n import tr as _

from multiorganseg.errors import ResourceError, VolumeError
from multiorganseg.quality.flags import CORRECTED
from MultiOrganSegLib.corrections import recount
from MultiOrganSegLib.mrml import check_volume_node, segmentation_from_node
from MultiOrganSegLib.tags import (
    PREFIX,
    catalogue_from_node,
    flags_tag,
    number_tag,
    organ_key,
    statistics_from_tags,
    tag,
)


@dataclass(frozen=True)
class OrganRow:
    """One organ of a result.

    Attributes:
        segment_id: ID of the segment.
        name: As the segment is named now.
        color: (r, g, b) in [0, 1].
        volume_ml: As it is drawn now, in millilitres.
        mean_intensity: HU for CT; NaN for an organ that was not found.
        confidence: In [0, 1]; NaN for an organ that was not found, or was corrected by hand.
        flags: Of `multiorganseg.quality.flags`, worst first.
    """

    segment_id: str
    name: str
    color: tuple[float, float, float]
    volume_ml: float
    mean_intensity: float
    confidence: float
    flags: tuple[str, ...]

    @property
    def is_corrected(self) -> bool:
        """Whether a person changed it after the segmentation."""
        return CORRECTED in self.flags

    @property
    def deserves_a_look(self) -> bool:
        """Whether something was noticed that nobody has corrected."""
        return bool(self.flags) and not self.is_corrected


def organ_rows(node: slicer.vtkMRMLSegmentationNode) -> list[OrganRow]:
    """Return the organs that were segmented, worst first: flagged, then by uncertainty, then corrected.

    All is read from segment tags, so that a reloaded scene has it too. Segments that others added are left
    out. What was edited after the segmentation is measured anew, see `corrections.recount`.
    """
    recount(node)
    segmentation = node.GetSegmentation()
    rows = []
    for identity in segmentation.GetSegmentIDs():
        segment = segmentation.GetSegment(identity)
        if not tag(segment, f"{PREFIX}Voxels"):
            continue
        red, green, blue = segment.GetColor()
        rows.append(
            OrganRow(
                identity,
                segment.GetName(),
                (red, green, blue),
                number_tag(segment, f"{PREFIX}VolumeMl"),
                number_tag(segment, f"{PREFIX}MeanIntensity"),
                number_tag(segment, f"{PREFIX}Confidence"),
                flags_tag(segment),
            )
        )
    return sorted(rows, key=_goodness)


def export_csv(node: slicer.vtkMRMLSegmentationNode, path: Path) -> None:
    """Write the organs as CSV, with the columns of the engine's table.

    Raises:
        OrganError: Two segments have the same name or the same codes.
        ResourceError: The file cannot be written.
        VolumeError: The node holds no organ of a segmentation.
    """
    from multiorganseg.organs.labels import LabelTable
    from multiorganseg.results.segmentation import Segmentation
    from multiorganseg.results.tables import statistics_rows, write_csv

    recount(node)
    segmentation = node.GetSegmentation()
    segments = {each: segmentation.GetSegment(each) for each in segmentation.GetSegmentIDs()}
    keys = [organ_key(each, segment) for each, segment in segments.items()]
    entries = map(statistics_from_tags, segments.values(), keys)
    measured = tuple(entry for entry in entries if entry)
    if not measured:
        raise VolumeError(
            _("{name} has no measured organs.").format(name=node.GetName()),
            next_step=_("Segment the volume with this module first."),
        )
    no_voxels = np.zeros((0, 0, 0), np.uint8)
    table = Segmentation(no_voxels, np.eye(4), LabelTable.numbered(keys), measured)
    write_csv(statistics_rows(table, catalogue_from_node(node), modality=modality_of(node)), Path(path))


def modality_of(node: slicer.vtkMRMLSegmentationNode) -> str:
    """Return "CT" or "MR", as the segments' tags say; CT where they are silent."""
    segmentation = node.GetSegmentation()
    segments = map(segmentation.GetSegment, segmentation.GetSegmentIDs())
    return next((found for each in segments if (found := tag(each, f"{PREFIX}Modality"))), "CT")


def export_seg_nrrd(node: slicer.vtkMRMLSegmentationNode, path: Path) -> None:
    """Write the segmentation as `.seg.nrrd` by Slicer's own writer; the node's own file stays as it is.

    Raises:
        ResourceError: The file cannot be written.
    """
    from multiorganseg.atomic import atomic_path

    recount(node)
    storage = slicer.vtkMRMLSegmentationStorageNode()
    with atomic_path(Path(path)) as partial:
        storage.SetFileName(str(partial))
        if not storage.WriteData(node):
            raise ResourceError(
                _("Cannot write {path}.").format(path=path),
                cause=_("Slicer's writer of segmentations failed; its log tells more."),
                next_step=_("Choose a name that ends in .seg.nrrd, in a folder with enough free space."),
            )


def export_dicom_seg(
    node: slicer.vtkMRMLSegmentationNode, volume_node: slicer.vtkMRMLScalarVolumeNode, path: Path
) -> None:
    """Write a DICOM SEG that refers to the slices which the volume was loaded from.

    Raises:
        DependencyError: highdicom is not installed.
        OrganError: There are no segments, or two of them have the same name or the same codes.
        ResourceError: The file cannot be written.
        VolumeError: The volume is no DICOM series of the database, or no longer lies where its slices are.
    """
    from multiorganseg.results.dicom_seg import write_dicom_seg

    files = dicom_files(volume_node)
    recount(node)
    write_dicom_seg(segmentation_from_node(node, volume_node), Path(path), catalogue_from_node(node), files)


def dicom_files(volume_node: slicer.vtkMRMLScalarVolumeNode) -> list[Path]:
    """The files that a volume node was loaded from, as Slicer's DICOM database knows them.

    Raises:
        VolumeError: It was not loaded from DICOM, or files are no longer there.
    """
    check_volume_node(volume_node)
    name = volume_node.GetName()
    identifiers = (volume_node.GetAttribute("DICOM.instanceUIDs") or "").split()
    if not identifiers:
        raise VolumeError(
            _("A DICOM SEG needs a volume that was loaded from DICOM; {name} was not.").format(name=name),
            cause=_("It refers to the slices, which this volume does not know."),
            next_step=_("Load the series from the DICOM database, or export .seg.nrrd instead."),
        )
    files = [Path(slicer.dicomDatabase.fileForInstance(each) or "") for each in identifiers]
    missing = sum(not file.is_file() for file in files)
    if missing:
        raise VolumeError(
            _("The DICOM files of {name} are not all there.").format(name=name),
            cause=_("Slices that are not in the DICOM database: {missing} of {count}.").format(
                missing=missing, count=len(files)
            ),
            next_step=_("Import the series into the DICOM database again."),
        )
    return files


def _goodness(row: OrganRow) -> tuple[bool, bool, float]:
    confidence = -1.0 if math.isnan(row.confidence) else row.confidence
    return not row.deserves_a_look, row.is_corrected, confidence
