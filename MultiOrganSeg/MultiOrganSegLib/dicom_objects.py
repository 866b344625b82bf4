"""Results as DICOM objects in Slicer's database, and from there to a server by Slicer's own dialog."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from multiorganseg.errors import ResourceError
from MultiOrganSegLib.corrections import recount
from MultiOrganSegLib.mrml import segmentation_from_node
from MultiOrganSegLib.result import catalogue_from_node, dicom_files, modality_of


def add_to_database(
    node: slicer.vtkMRMLSegmentationNode, volume_node: slicer.vtkMRMLScalarVolumeNode
) -> list[str]:
    """Put a DICOM SEG and a report of the measurements into the study of the volume in Slicer's database.

    Returns:
        Where the database keeps them.

    Raises:
        DependencyError: highdicom is not installed.
        OrganError: There are no segments, or two of them have the same name or the same codes.
        ResourceError: The database is not open, or did not take them.
        VolumeError: The volume is no DICOM series of the database, or no longer lies where its slices are.
    """
    from DICOMLib import DICOMUtils
    from pydicom import dcmread

    from multiorganseg.results.dicom_report import write_dicom_report
    from multiorganseg.results.dicom_seg import write_dicom_seg

    sources = dicom_files(volume_node)
    recount(node)
    made, catalogue = segmentation_from_node(node, volume_node), catalogue_from_node(node)
    with tempfile.TemporaryDirectory(prefix="multiorganseg-") as folder:
        seg, report = Path(folder, "organs.seg.dcm"), Path(folder, "organs.sr.dcm")
        write_dicom_seg(made, seg, catalogue, sources)
        write_dicom_report(made, report, catalogue, sources, seg, modality=modality_of(node))
        identifiers = [str(dcmread(path, stop_before_pixels=True).SOPInstanceUID) for path in (seg, report)]
        if slicer.dicomDatabase is None or not slicer.dicomDatabase.isOpen:
            raise ResourceError(
                _("The DICOM database is not open."),
                next_step=_("Open the DICOM module once, and let it make its database."),
            )
        DICOMUtils.importDicom(folder, slicer.dicomDatabase, copyFiles=True)
    kept = [slicer.dicomDatabase.fileForInstance(each) for each in identifiers]
    if not all(kept):
        raise ResourceError(
            _("The DICOM database did not take the results."),
            next_step=_("Look into Slicer's log; there may be no room on the disk of the database."),
        )
    return kept


def ask_to_send(files: list[str], parent: Any) -> None:
    """Open Slicer's own dialog, in which the user names a server; nothing is sent before."""
    from DICOMLib import DICOMSendDialog

    DICOMSendDialog(files, parent)
