from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from multiorganseg.volumes import Volume

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def ct_slice(pixels: np.ndarray, position: tuple[float, float, float], **fields: object) -> Dataset:
    """A CT slice of stored int16 values; `fields` overrides any attribute, None deletes it."""
    slice_ = Dataset()
    slice_.file_meta = FileMetaDataset()
    slice_.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    slice_.file_meta.MediaStorageSOPClassUID = slice_.SOPClassUID = CTImageStorage
    slice_.file_meta.MediaStorageSOPInstanceUID = slice_.SOPInstanceUID = generate_uid()
    attributes = {
        "SpecificCharacterSet": "ISO_IR 100",
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "StudyDate": "20200101",
        "StudyTime": "120000",
        "StudyInstanceUID": "1.2.826.0.1.1",
        "SeriesInstanceUID": "1.2.826.0.1.2",
        "FrameOfReferenceUID": "1.2.826.0.1.3",
        "SeriesDescription": "Bäuche axial",
        "SeriesNumber": 1,
        "Modality": "CT",
        "PatientID": "synthetic",
        "PatientName": "Synthetic^",
        "PatientBirthDate": "",
        "PatientSex": "",
        "StudyID": "1",
        "AccessionNumber": "",
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 1,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "PixelSpacing": [0.7, 0.8],
        "SliceThickness": 2.0,
        "ImagePositionPatient": list(position),
        "ImageOrientationPatient": list(AXIAL),
        "RescaleSlope": "1",
        "RescaleIntercept": "-1024",
    }
    for name, value in {**attributes, **fields}.items():
        if value is not None:
            setattr(slice_, name, value)
    slice_.PixelData = pixels.astype(np.int16).tobytes()
    return slice_


@pytest.fixture(name="ct_slice")
def ct_slice_maker() -> Callable[..., Dataset]:
    """The function `ct_slice`."""
    return ct_slice


@pytest.fixture
def pixels() -> np.ndarray:
    """Stored values (k, j, i) of the synthetic series, rows ≠ columns ≠ slices."""
    return np.random.default_rng(7).integers(0, 2000, (12, 9, 7)).astype(np.int16)


@pytest.fixture
def write_series(tmp_path: Path, pixels: np.ndarray) -> Callable[..., Path]:
    """Write slices of `pixels`; `position(k)` and `fields(k)` shape each one, `keep` chooses them."""

    def write(
        name: str = "series",
        position: Callable[[int], tuple[float, float, float]] = lambda k: (-30.0, 12.5, 100.0 + 2.0 * k),
        fields: Callable[[int], dict] = lambda k: {},
        keep: Callable[[int], bool] = lambda k: True,
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir(parents=True, exist_ok=True)
        for k, plane in enumerate(pixels):
            if keep(k):
                file = folder / f"{(k * 5) % 12:03d}-{k}.dcm"
                ct_slice(plane, position(k), **fields(k)).save_as(file, enforce_file_format=True)
        return folder

    return write


@pytest.fixture
def oblique() -> np.ndarray:
    """An affine turned about all axes, anisotropic, with one flipped axis."""
    from scipy.spatial.transform import Rotation

    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", (12, -25, 40), degrees=True).as_matrix() * (0.8, -0.9, 3.0)
    affine[:3, 3] = (-120.5, 33.25, 410.0)
    return affine


@pytest.fixture
def sheared(oblique: np.ndarray) -> np.ndarray:
    """The oblique affine of a tilted gantry: axis k leans along j."""
    affine = oblique.copy()
    affine[:3, 2] += 0.35 * oblique[:3, 1]
    return affine


@pytest.fixture
def ct(oblique: np.ndarray) -> Volume:
    """A small oblique CT of int16."""
    voxels = np.random.default_rng(1).integers(-1000, 1500, (5, 6, 7)).astype(np.int16)
    return Volume(voxels, oblique, "made up")
