"""The pixels of DICOM slices, rescaled to their true values."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from multiorganseg.errors import VolumeError
from multiorganseg.scratch import work_folder
from multiorganseg.volumes.check import compact
from multiorganseg.volumes.dicom_geometry import Slice
from multiorganseg.volumes.headers import unreadable

_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_STORAGE = {
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "PT": "1.2.840.10008.5.1.4.1.1.128",
}


def same_pixels(one: Slice, other: Slice) -> bool:
    """Whether two slices show the same."""
    return np.array_equal(_pixels(one), _pixels(other))


def stack_pixels(slices: Sequence[Slice]) -> NDArray:
    """Stack slices (k, j, i), each rescaled by its own header, in the narrowest type that holds them all.

    Raises:
        VolumeError: A slice cannot be decoded.
    """
    voxels = np.empty((len(slices), slices[0].rows, slices[0].columns), np.int16)
    for index, piece in enumerate(slices):
        pixels = _pixels(piece)
        if not np.can_cast(pixels.dtype, voxels.dtype):
            wider = np.result_type(pixels.dtype, voxels.dtype)
            voxels = voxels.astype(np.float32 if wider.kind == "f" else wider)
        voxels[index] = pixels
    return voxels


def _pixels(piece: Slice) -> NDArray:
    try:
        image = _decode(piece.file)
    except RuntimeError as error:
        image = _decode_mended(piece, error)
    pixels = sitk.GetArrayFromImage(image)
    if pixels.shape[:3] != (1, piece.rows, piece.columns):
        msg = f"{piece.file.name} cannot be read."
        raise VolumeError(
            msg,
            cause=f"Its pixels have the shape {pixels.shape}, not {piece.rows} × {piece.columns}.",
            next_step="Copy or export the file again.",
        )
    return compact(pixels[0], narrow=True)


def _decode(file: Path) -> sitk.Image:
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(file))
    return reader.Execute()


def _decode_mended(piece: Slice, first: RuntimeError) -> sitk.Image:
    """Decode a file whose meta information or SOP class keeps GDCM from it, through a copy that has both.

    Raises:
        VolumeError: It is not that.
    """
    import pydicom
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    try:
        data = pydicom.dcmread(piece.file, force=True)
        implicit, little = data.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        storage = UID(_STORAGE.get(piece.modality, _SECONDARY_CAPTURE))
        mended = FileMetaDataset()
        mended.TransferSyntaxUID = UID(piece.syntax or (ImplicitVRLittleEndian if implicit else explicit))
        mended.MediaStorageSOPClassUID = data.SOPClassUID = storage
        mended.MediaStorageSOPInstanceUID = data.SOPInstanceUID = pydicom.uid.generate_uid()
        data.file_meta = mended
        with work_folder() as folder:
            copy = folder / "slice.dcm"
            data.save_as(copy, enforce_file_format=True)
            return _decode(copy)
    except Exception as error:  # pydicom lets errors of any type escape from damaged bytes
        raise unreadable(piece.file, first) from error
