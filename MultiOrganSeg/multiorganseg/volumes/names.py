"""File names of volumes, segmentations and cases."""

from __future__ import annotations

RESULT_SUFFIXES = (".seg.nrrd", ".seg.nii.gz")
"""Segmentations by their name; they are label maps, never images."""

MAP_SUFFIXES = (".uncertainty.nii.gz",)
"""Maps that stand beside a segmentation; neither images nor label maps."""

IMAGE_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")
"""Files that hold a volume of their own."""

OWN_SUFFIXES = (
    *RESULT_SUFFIXES,
    *MAP_SUFFIXES,
    ".seg.labels.json",
    ".statistics.csv",
    ".statistics.json",
    ".preview.png",
)
"""Files that MultiOrganSeg writes beside a segmentation, which may lie beside the images."""

DICOM_SUFFIXES = (".dcm", ".dicom")


def volume_suffix(name: str) -> str:
    """Return the known suffix that a file name ends in, as spelled there; empty when there is none."""
    known = (*RESULT_SUFFIXES, *MAP_SUFFIXES, *IMAGE_SUFFIXES, *DICOM_SUFFIXES)
    suffix = next((suffix for suffix in known if name.lower().endswith(suffix)), "")
    return name[len(name) - len(suffix) :]


def case_name(name: str) -> str:
    """Return a file name without its volume suffix: `ct.nii.gz` and `ct.seg.nrrd` → `ct`."""
    return name.removesuffix(volume_suffix(name))


def is_image_name(name: str) -> bool:
    """Whether a file name is that of an image, not of a segmentation."""
    return volume_suffix(name).lower() in IMAGE_SUFFIXES
