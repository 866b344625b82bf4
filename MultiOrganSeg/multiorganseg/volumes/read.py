"""Read an image or a label map from any file format that is supported."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from multiorganseg.errors import VolumeError
from multiorganseg.volumes.check import VolumeWarning, check_header, check_voxels
from multiorganseg.volumes.dicom_scan import is_dicomdir
from multiorganseg.volumes.dicom_series import SeriesInfo, is_dicom, read_dicom, read_series
from multiorganseg.volumes.headers import read_image_header, read_image_voxels
from multiorganseg.volumes.label_values import label_values, merge_layers
from multiorganseg.volumes.nifti import read_nifti, read_nifti_header
from multiorganseg.volumes.volume import Volume

_NIFTI = (".nii", ".nii.gz")
_NRRD_AND_METAIMAGE = (".nrrd", ".nhdr", ".mha", ".mhd")


def read_volume(path: Path) -> Volume:
    """Read a CT or another scalar image.

    Args:
        path: A NIfTI (.nii, .nii.gz), NRRD (.nrrd, .nhdr) or MetaImage (.mha, .mhd) file, a folder with a
            DICOM series, a DICOMDIR, or one DICOM file of a series.

    Returns:
        Voxels (k, j, i), rescaled to their true values (HU for CT), as float32 or an integer type of at most
        32 bits. What was mended or left out stands in its `warnings` and is given as `VolumeWarning`.

    Raises:
        VolumeError: The file is missing, damaged or of an unknown kind, or `check_header` or `check_voxels`
            refuses it.
        ResourceError: The voxels do not fit into memory.
        DependencyError: A multi-frame DICOM file, and highdicom is not installed.
    """
    return _with_warnings(lambda: check_voxels(_read(Path(path), _read_image)))


def read_dicom_series(series: SeriesInfo, source: str) -> Volume:
    """Read one DICOM series of several, with the same checks as any volume.

    Args:
        series: As `find_dicom_series` gives it.
        source: Becomes the volume's source.

    Raises:
        VolumeError: As `read_volume`.
        ResourceError: As `read_volume`.
        DependencyError: As `read_volume`.
    """
    return _with_warnings(lambda: check_voxels(read_series(series, source)))


def _with_warnings(read: Callable[[], Volume]) -> Volume:
    """Read, and keep with the volume what was warned of meanwhile."""
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            volume = read()
    finally:
        for warning in caught:
            warnings.warn(warning.message, stacklevel=3)
    messages = [str(warning.message) for warning in caught if issubclass(warning.category, VolumeWarning)]
    return replace(volume, warnings=(*volume.warnings, *dict.fromkeys(messages)))


def read_labels(path: Path) -> Volume:
    """Read a label map, with the same checks as an image; it may be empty of labels.

    Several layers of a segmentation file (.seg.nrrd) are merged where no two labels share a value or a voxel.

    Args:
        path: As for `read_volume`.

    Returns:
        Label values (k, j, i) as uint8 or uint16.

    Raises:
        VolumeError: As `read_volume` or `label_values`, or overlapping layers.
        ResourceError: The voxels do not fit into memory.
    """
    volume = _read(Path(path), _read_layered)
    return replace(volume, voxels=label_values(volume.voxels, Path(path), _slope(Path(path), volume)))


def _slope(path: Path, volume: Volume) -> float:
    """Return the header's factor where it can explain labels that are no whole numbers."""
    if volume.voxels.dtype.kind != "f":
        return 1.0
    if path.name.lower().endswith(_NIFTI):
        return read_nifti_header(path).slope
    return read_image_header(path)[0].slope if path.name.lower().endswith(_NRRD_AND_METAIMAGE) else 1.0


def _read(path: Path, read_image: Callable[[Path], Volume]) -> Volume:
    name = path.name.lower()
    try:
        if path.is_dir():
            return read_dicom(path)
        if not path.exists():
            msg = f"{path} does not exist."
            raise VolumeError(msg, next_step="Check the path; put quotes around spaces.")
        if name.endswith(_NIFTI):
            return read_nifti(path)
        if name.endswith(_NRRD_AND_METAIMAGE):
            return read_image(path)
        if is_dicom(path) or is_dicomdir(path):
            return read_dicom(path)
    except OSError as error:
        msg = f"{path} cannot be opened."
        raise VolumeError(msg, cause=str(error), next_step="Check that you may read it.") from error
    msg = f"{path.name} is of no known kind."
    raise VolumeError(
        msg,
        cause="Neither its suffix nor its first bytes tell an image format.",
        next_step=f"Pass a DICOM folder or a file of the kind {', '.join((*_NIFTI, *_NRRD_AND_METAIMAGE))}.",
    )


def _read_image(path: Path) -> Volume:
    header, _ = read_image_header(path)
    check_header(header)
    return Volume(read_image_voxels(header), header.affine, str(path))


def _read_layered(path: Path) -> Volume:
    header, pairs = read_image_header(path)
    check_header(header, layered=path.name.lower().endswith(".seg.nrrd"))
    voxels = read_image_voxels(header)
    if header.components > 1:
        voxels = merge_layers(voxels, pairs, path)
    return Volume(voxels, header.affine, str(path))
