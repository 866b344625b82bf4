"""What a DICOM SEG takes over from its images: no more about people and places than DICOM requires."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydicom import Dataset

REQUIRED = frozenset(
    {
        "PatientName",
        "PatientID",
        "PatientBirthDate",
        "PatientSex",
        "AccessionNumber",
        "StudyID",
        "StudyDate",
        "StudyTime",
        "ReferringPhysicianName",
        "Modality",
        "SOPClassUID",
        "SOPInstanceUID",
        "SpecificCharacterSet",
        "ImageType",
        "Manufacturer",
        "ManufacturerModelName",
        "DeviceSerialNumber",
        "SoftwareVersions",
        "SeriesDescription",
    }
)
"""Attributes of type 1 and 2 of the modules Patient, General Study, General and Enhanced General
Equipment and SOP Common (PS3.3, A.51), and those that say what made the segmentation."""

_IDENTIFYING_GROUPS = frozenset({0x0008, 0x0010, 0x0012, 0x0018, 0x0032, 0x0038, 0x0040})


def leave_out_identity(seg: Dataset, source: Dataset) -> None:
    """Delete what a DICOM SEG copied from its source and DICOM does not require, in place.

    Args:
        seg: To be written.
        source: A slice that it was made from.
    """
    for element in list(seg):
        is_taken_over = element.tag in source and source[element.tag].value == element.value
        is_identifying = element.tag.group in _IDENTIFYING_GROUPS or element.tag.is_private
        if is_taken_over and is_identifying and element.keyword not in REQUIRED:
            del seg[element.tag]
    if "ContributingEquipmentSequence" in seg:
        del seg.ContributingEquipmentSequence
