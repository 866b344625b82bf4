"""A small abdomen of ellipsoids, on any grid, as volume, segmentation and DICOM series."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from multiorganseg.organs.labels import LabelTable
from multiorganseg.quality.statistics import OrganStatistics
from multiorganseg.results.segmentation import Segmentation
from multiorganseg.volumes import Affine, Grid, Volume

LPS_CENTERS = {
    "liver": ((-50.0, -20.0, 10.0), (45.0, 50.0, 40.0)),
    "spleen": ((75.0, 30.0, 15.0), (20.0, 25.0, 30.0)),
    "kidney_right": ((-50.0, 50.0, -25.0), (20.0, 15.0, 25.0)),
    "aorta": ((12.0, 40.0, 0.0), (10.0, 10.0, 80.0)),
}
TABLE = LabelTable({2: "spleen", 3: "kidney_right", 5: "gallbladder", 6: "liver", 9: "aorta"})
PROVENANCE = {
    "bundle": {"name": "abdomen-ct", "version": "1.0.0", "sha256": "0123abcd"},
    "settings": {"quality": "balanced", "note": 'Größe "groß" \\ one|two'},
}


@pytest.fixture(scope="session")
def phantom():
    """The functions and constants of this file."""
    return SimpleNamespace(
        case=case, grid=grid, write_dicom_series=write_dicom_series, TABLE=TABLE, PROVENANCE=PROVENANCE
    )


def grid(shape: tuple[int, int, int] = (24, 40, 44), directions: Affine | None = None) -> Grid:
    """A grid centred on the origin of patient space; `directions` has the steps (i, j, k) as columns."""
    affine = np.eye(4)
    affine[:3, :3] = np.diag([6.0, 6.0, 8.0]) if directions is None else directions
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape[::-1]) - 1) / 2)
    return Grid(shape, affine)


def case(where: Grid | None = None, source: str = "patient one.nii.gz") -> tuple[Volume, Segmentation]:
    """CT-like volume and its exact segmentation; the gallbladder is absent."""
    where = where or grid()
    points = where.to_patient(np.moveaxis(np.indices(where.shape), 0, -1))
    voxels = np.full(where.shape, -1000, dtype=np.int16)
    voxels[((points[..., :2] / (115, 95)) ** 2).sum(axis=-1) < 1] = 20
    labels = np.zeros(where.shape, dtype=np.uint8)
    for number, (key, (center, radii)) in enumerate(LPS_CENTERS.items()):
        inside = (((points - center) / radii) ** 2).sum(axis=-1) < 1
        labels[inside] = TABLE.value(key)
        voxels[inside] = 60 + 30 * number
    statistics = tuple(
        _statistics(key, labels == value, voxels, where) for value, key in TABLE.organs.items()
    )
    return Volume(voxels, where.affine, source), Segmentation(
        labels, where.affine, TABLE, statistics, PROVENANCE
    )


def _statistics(key: str, mask: np.ndarray, voxels: np.ndarray, where: Grid) -> OrganStatistics:
    count = int(mask.sum())
    return OrganStatistics(
        key,
        count,
        count * where.voxel_volume / 1000,
        float(voxels[mask].mean()) if count else float("nan"),
        0.9 if count else float("nan"),
        ("cut by the field of view",) if key == "aorta" else (),
    )


def write_dicom_series(volume: Volume, folder: Path) -> list[Path]:
    """Write one CT slice a file, under shuffled names."""
    import pydicom
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    folder.mkdir(parents=True, exist_ok=True)
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    step_i, step_j = (volume.affine[:3, axis] for axis in (0, 1))
    files = []
    for k, pixels in enumerate(volume.voxels):
        header = pydicom.Dataset()
        header.file_meta = FileMetaDataset()
        header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID = CTImageStorage
        header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID = generate_uid()
        header.StudyInstanceUID, header.SeriesInstanceUID, header.FrameOfReferenceUID = study, series, frame
        header.Modality, header.PatientID, header.PatientName = "CT", "P1", "Doe^Jane"
        header.PatientBirthDate = header.PatientSex = header.AccessionNumber = header.StudyID = ""
        header.StudyDate, header.StudyTime, header.ReferringPhysicianName = "20250101", "120000", ""
        header.SeriesNumber, header.InstanceNumber = 2, k + 1
        header.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        header.ImagePositionPatient = [
            float(f"{part:.6f}") for part in volume.affine[:3] @ np.array([0.0, 0.0, k, 1.0])
        ]
        header.ImageOrientationPatient = [
            float(f"{part:.8f}") for step in (step_i, step_j) for part in step / np.linalg.norm(step)
        ]
        header.PixelSpacing = [float(np.linalg.norm(step_j)), float(np.linalg.norm(step_i))]
        header.SliceThickness = 8.0
        header.Rows, header.Columns = pixels.shape
        header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
        header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 16, 16, 15, 1
        header.RescaleSlope, header.RescaleIntercept, header.RescaleType = 1, 0, "HU"
        header.PixelData = pixels.astype("<i2").tobytes()
        file = folder / f"{(k * 7) % 1000:03d}-{k}.dcm"
        header.save_as(file, enforce_file_format=True)
        files.append(file)
    return files
