"""DICOM series that can be read are read right."""

from collections.abc import Callable
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest

from multiorganseg.volumes import VolumeWarning, dicom_files, find_dicom_series, read_volume, write_volume

TURNED = (0.8, 0.6, 0.0, -0.36, 0.48, 0.8)
LOCALIZER = {
    "ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"],
    "ImageOrientationPatient": [1, 0, 0, 0, 0, -1],
}


def place(slice_: pydicom.Dataset, column: int, row: int) -> np.ndarray:
    """DICOM PS3.3 equation C.7.6.2.1-1."""
    axes = np.array(slice_.ImageOrientationPatient, float).reshape(2, 3)
    row_spacing, column_spacing = map(float, slice_.PixelSpacing)
    start = np.array(slice_.ImagePositionPatient, float)
    return start + column * column_spacing * axes[0] + row * row_spacing * axes[1]


def test_axial_series_is_sorted_and_rescaled(write_series: Callable[..., Path], pixels: np.ndarray) -> None:
    volume = read_volume(write_series())
    assert volume.voxels.dtype == np.int16
    assert np.array_equal(volume.voxels, pixels - 1024)
    assert volume.affine.tolist() == [[0.8, 0, 0, -30], [0, 0.7, 0, 12.5], [0, 0, 2, 100], [0, 0, 0, 1]]


@pytest.mark.parametrize(
    ("orientation", "step"),
    [
        ((1, 0, 0, 0, 1, 0), (0, 0, -2.5)),
        ((1, 0, 0, 0, 1, 0), (0, 0.7, 2.5)),
        (TURNED, tuple(3 * np.cross(TURNED[:3], TURNED[3:]))),
        (TURNED, tuple(3 * np.cross(TURNED[:3], TURNED[3:]) + 0.8 * np.array(TURNED[3:]))),
        ((0, 1, 0, 0, 0, -1), (1.5, 0, 0)),
    ],
    ids=["feet first", "tilted gantry", "oblique", "oblique and tilted", "sagittal"],
)
def test_every_slice_keeps_its_place(
    write_series: Callable[..., Path], pixels: np.ndarray, orientation: tuple, step: tuple
) -> None:
    folder = write_series(
        position=lambda k: tuple(np.array([-30, 12.5, 100]) + k * np.array(step)),
        fields=lambda k: {"ImageOrientationPatient": list(orientation)},
    )
    volume = read_volume(folder)
    assert volume.voxels.shape == pixels.shape
    for k, file in enumerate(dicom_files(folder)):
        slice_ = pydicom.dcmread(file)
        assert np.array_equal(volume.voxels[k], slice_.pixel_array - 1024)
        assert np.allclose(volume.grid.to_patient((k, 4, 5)), place(slice_, column=5, row=4), atol=1e-6)


def test_marked_point_of_a_tilted_series_survives_every_format(
    write_series: Callable[..., Path], pixels: np.ndarray, tmp_path: Path
) -> None:
    pixels[8, 2, 6] = 3000
    tilt = np.tan(np.radians(20)) * 2
    volume = read_volume(write_series(position=lambda k: (-30, 12.5 - tilt * k, 100 + 2 * k)))
    marked = np.array([-30 + 6 * 0.8, 12.5 - tilt * 8 + 2 * 0.7, 116])
    for suffix in ("nii", "nii.gz", "nrrd", "mha"):
        write_volume(volume, tmp_path / f"tilted.{suffix}")
        back = read_volume(tmp_path / f"tilted.{suffix}")
        index = np.argwhere(back.voxels == 3000 - 1024)
        assert np.allclose(back.grid.to_patient(index), marked, atol=1e-3)


def test_rescale_of_each_slice(write_series: Callable[..., Path], pixels: np.ndarray) -> None:
    slopes = [1 if k < 3 else 2 if k < 6 else 0.5 for k in range(len(pixels))]
    folder = write_series(fields=lambda k: {"RescaleSlope": str(slopes[k]), "RescaleIntercept": str(-k)})
    volume = read_volume(folder)
    expected = pixels * np.array(slopes)[:, None, None] - np.arange(len(pixels))[:, None, None]
    assert volume.voxels.dtype == np.float32
    assert np.allclose(volume.voxels, expected)


def test_wide_values_stay_whole(write_series: Callable[..., Path], pixels: np.ndarray) -> None:
    volume = read_volume(write_series(fields=lambda k: {"RescaleSlope": "100" if k == 5 else "1"}))
    assert volume.voxels.dtype == np.int32
    assert np.array_equal(volume.voxels[5], pixels[5].astype(int) * 100 - 1024)
    assert np.array_equal(volume.voxels[4], pixels[4] - 1024)


def test_one_file_stands_for_its_series(
    write_series: Callable[..., Path], pixels: np.ndarray, ct_slice: Callable
) -> None:
    folder = write_series()
    for k, plane in enumerate(pixels):
        other = ct_slice(plane + 1, (0, 0, 3 * k), SeriesInstanceUID="1.2.826.0.1.9")
        other.save_as(folder / f"IM{k}", enforce_file_format=True)
    (folder / "a folder").mkdir()
    assert np.array_equal(read_volume(folder / "000-0.dcm").voxels, pixels - 1024)
    assert np.array_equal(read_volume(folder / "IM5").voxels, pixels - 1023)


def test_series_are_listed(write_series: Callable[..., Path]) -> None:
    folder = write_series("patient/a")
    write_series(
        "patient/b",
        fields=lambda k: {
            "SeriesInstanceUID": "1.2.826.0.1.9",
            "SeriesDescription": "scout",
            "Modality": "CR",
        },
        keep=lambda k: k == 0,
    )
    (folder.parent / "notes.txt").write_text("no image", encoding="utf-8")
    large, small = find_dicom_series(folder.parent)
    assert (large.uid, large.description, large.modality, large.slices) == (
        "1.2.826.0.1.2",
        "Bäuche axial",
        "CT",
        12,
    )
    assert (small.description, small.modality, small.slices) == ("scout", "CR", 1)
    heights = [float(pydicom.dcmread(file).ImagePositionPatient[2]) for file in large.files]
    assert heights == sorted(heights)
    assert read_volume(folder.parent).voxels.shape == (12, 9, 7)


def test_main_series_is_found_beside_small_ones(write_series: Callable[..., Path]) -> None:
    folder = write_series()
    write_series(
        fields=lambda k: {"SeriesInstanceUID": "1.2.826.0.1.9"}, keep=lambda k: k < 3, name="series/3"
    )
    assert read_volume(folder).voxels.shape == (12, 9, 7)


def test_identical_doubles_and_localizers_are_left_out(
    write_series: Callable[..., Path], pixels: np.ndarray, ct_slice: Callable
) -> None:
    folder = write_series()
    ct_slice(pixels[4], (-30, 12.5, 108)).save_as(folder / "again.dcm", enforce_file_format=True)
    scout = ct_slice(np.zeros((40, 30)), (0, 0, 300), **LOCALIZER)
    scout.save_as(folder / "scout.dcm", enforce_file_format=True)
    with pytest.warns(VolumeWarning) as caught:
        volume = read_volume(folder)
    assert np.array_equal(volume.voxels, pixels - 1024)
    assert any("doubled" in str(warning.message) for warning in caught)
    assert any("localizer" in str(warning.message) for warning in caught)
    with pytest.warns(VolumeWarning):
        assert len(dicom_files(folder)) == 12


def test_files_without_an_image_are_reported(write_series: Callable[..., Path], ct_slice: Callable) -> None:
    folder = write_series()
    report = ct_slice(np.zeros((2, 2)), (0, 0, 0), Modality="SR")
    for name in ("Rows", "Columns", "PixelData"):
        delattr(report, name)
    report.save_as(folder / "report.dcm", enforce_file_format=True)
    with pytest.warns(VolumeWarning, match=r"report\.dcm"):
        assert read_volume(folder).voxels.shape == (12, 9, 7)


def test_rounded_positions_are_even_enough(write_series: Callable[..., Path]) -> None:
    volume = read_volume(write_series(position=lambda k: (0, 0, round(0.625 * k, 1))))
    assert np.isclose(volume.affine[2, 2], 0.625, atol=0.01)


def test_paths_with_spaces_and_other_scripts(write_series: Callable[..., Path], pixels: np.ndarray) -> None:
    assert np.array_equal(read_volume(write_series("Bäuche 腹部/série 1")).voxels, pixels - 1024)


@pytest.mark.parametrize("syntax", [pydicom.uid.RLELossless, pydicom.uid.JPEGLSLossless])
def test_compressed_slices(syntax: pydicom.uid.UID, tmp_path: Path, ct_slice: Callable) -> None:
    pixels = np.random.default_rng(5).integers(0, 2000, (4, 64, 48))
    for k, plane in enumerate(pixels):
        slice_ = ct_slice(plane, (0, 0, 3 * k))
        slice_.compress(syntax)
        slice_.save_as(tmp_path / f"{k}.dcm", enforce_file_format=True)
    assert np.array_equal(read_volume(tmp_path).voxels, pixels - 1024)


def test_multi_frame_ct(write_series: Callable[..., Path], pixels: np.ndarray, tmp_path: Path) -> None:
    folder = write_series(
        position=lambda k: tuple(np.array([-30, 12.5, 100]) + 3 * k * np.cross(TURNED[:3], TURNED[3:])),
        fields=lambda k: {"ImageOrientationPatient": list(TURNED), "RescaleSlope": "2" if k == 3 else "1"},
    )
    single = read_volume(folder)
    slices = [pydicom.dcmread(file) for file in folder.iterdir()]
    for slice_ in slices:
        slice_.InstanceNumber, slice_.PositionReferenceIndicator = 1, ""
        slice_.Manufacturer, slice_.ReferringPhysicianName, slice_.KVP = "", "", 120
    enhanced = highdicom.legacy.LegacyConvertedEnhancedCTImage(
        slices, pydicom.uid.generate_uid(), 2, pydicom.uid.generate_uid(), 1
    )
    (tmp_path / "multi").mkdir()
    enhanced.save_as(tmp_path / "multi" / "ct.dcm")
    volume = read_volume(tmp_path / "multi")
    assert volume.voxels.dtype == single.voxels.dtype
    index = np.array([[0, 0, 0], [3, 4, 5], [11, 8, 6]])
    own = np.rint(volume.grid.to_index(single.grid.to_patient(index))).astype(int)
    assert np.allclose(volume.grid.to_patient(own), single.grid.to_patient(index), atol=1e-3)
    assert np.array_equal(volume.voxels[tuple(own.T)], single.voxels[tuple(index.T)])
