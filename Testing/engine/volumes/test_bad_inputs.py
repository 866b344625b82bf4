"""Inputs that cannot be segmented: each is refused with cause and next step, or mended with a warning."""

import gzip
import sys
import tracemalloc
import warnings
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import psutil
import pytest
import SimpleITK as sitk

from multiorganseg.errors import DependencyError, ResourceError, VolumeError
from multiorganseg.volumes import (
    Volume,
    VolumeWarning,
    find_dicom_series,
    read_labels,
    read_volume,
    write_volume,
)
from multiorganseg.volumes.nifti import _NIFTI1

FORMATS = ["nii", "nii.gz", "nrrd", "mha"]
IDENTITY = "1 0 0 0 1 0 0 0 1"


def refusal(path: Path, words: str, read: Callable[[Path], Volume] = read_volume) -> VolumeError:
    """The typed error of reading `path`; its problem and cause contain `words`."""
    with pytest.raises(VolumeError) as caught:
        read(path)
    error = caught.value
    assert words in f"{error.problem} {error.cause}", str(error)
    assert error.problem
    assert error.next_step
    return error


def nifti(path: Path, voxels: np.ndarray, **fields: object) -> Path:
    """Write a plain NIfTI file, then overwrite header fields."""
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    raw = bytearray(nibabel.Nifti1Image(voxels.T, affine).to_bytes())
    record = np.frombuffer(raw, _NIFTI1, 1)[0].copy()
    for name, value in fields.items():
        record[name] = value
    raw[: _NIFTI1.itemsize] = record.tobytes()
    path.write_bytes(gzip.compress(bytes(raw)) if path.suffix == ".gz" else bytes(raw))
    return path


def metaimage(path: Path, voxels: np.ndarray, **fields: str) -> Path:
    """Write a raw .mha file by hand."""
    header = {"NDims": "3", "BinaryData": "True", "TransformMatrix": IDENTITY, "Offset": "0 0 0"}
    header |= {"ElementSpacing": "1 1 2", "DimSize": " ".join(map(str, voxels.shape[::-1]))}
    header |= {"ElementType": "MET_SHORT"} | fields | {"ElementDataFile": "LOCAL"}
    text = "".join(f"{key} = {value}\n" for key, value in header.items())
    path.write_bytes(text.encode() + voxels.astype(np.int16).tobytes())
    return path


def nrrd(path: Path, voxels: np.ndarray, **fields: str) -> Path:
    """Write a raw .nrrd file by hand."""
    header = {"type": "short", "dimension": "3", "space": "left-posterior-superior", "encoding": "raw"}
    header |= {"sizes": " ".join(map(str, voxels.shape[::-1])), "endian": "little", "space_origin": "(0,0,0)"}
    header |= {"space_directions": "(1,0,0) (0,1,0) (0,0,2)"} | fields
    text = "".join(f"{key.replace('_', ' ')}: {value}\n" for key, value in header.items())
    path.write_bytes(f"NRRD0004\n{text}\n".encode() + voxels.astype(np.int16).tobytes())
    return path


def forged_nifti2(folder: Path, voxels: np.ndarray) -> Path:
    raw = bytearray(nibabel.Nifti2Image(voxels.T, np.eye(4)).to_bytes())
    raw[16:80] = np.array([3, 60000, 60000, 60000, 1, 1, 1, 1], "<i8").tobytes()
    (folder / "big.nii").write_bytes(raw)
    return folder / "big.nii"


@pytest.fixture
def voxels() -> np.ndarray:
    return np.random.default_rng(3).integers(-1000, 1000, (5, 6, 7)).astype(np.int16)


# Files that are not what they should be


def test_missing_file(tmp_path: Path) -> None:
    refusal(tmp_path / "none.nii.gz", "does not exist")


def test_folder_without_dicom(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing here", encoding="utf-8")
    refusal(tmp_path, "No DICOM image series")


def test_unknown_suffix(tmp_path: Path) -> None:
    (tmp_path / "ct.xyz").write_text("what is this", encoding="utf-8")
    assert ".nii.gz" in refusal(tmp_path / "ct.xyz", "no known kind").next_step


@pytest.mark.parametrize("suffix", [*FORMATS, "nhdr", "mhd"])
@pytest.mark.parametrize(
    "content", ["", "This is a text file, renamed by somebody.\n" * 30], ids=["empty", "text"]
)
def test_text_or_nothing_under_an_image_name(suffix: str, content: str, tmp_path: Path) -> None:
    path = tmp_path / f"ct.{suffix}"
    path.write_text(content, encoding="utf-8")
    refusal(path, path.name)


def test_text_under_a_dicom_name(tmp_path: Path) -> None:
    (tmp_path / "ct.dcm").write_text("no DICOM", encoding="utf-8")
    refusal(tmp_path / "ct.dcm", "no known kind")


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("share", [0.3, 0.9, 0.999])
def test_truncated_file(suffix: str, share: float, tmp_path: Path) -> None:
    path = tmp_path / f"ct.{suffix}"
    write_volume(Volume(np.random.default_rng(3).integers(0, 999, (9, 40, 40)), np.eye(4)), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    refusal(path, "ct.")


def test_damaged_gzip_checksum(voxels: np.ndarray, tmp_path: Path) -> None:
    path = nifti(tmp_path / "ct.nii.gz", voxels)
    data = bytearray(path.read_bytes())
    data[-6] ^= 0xFF
    path.write_bytes(data)
    refusal(path, "CRC")


def test_gzipped_file_that_lost_its_gz(voxels: np.ndarray, tmp_path: Path) -> None:
    path = nifti(tmp_path / "ct.nii.gz", voxels).rename(tmp_path / "ct.nii")
    assert np.array_equal(read_volume(path).voxels, voxels)


def test_missing_data_file(voxels: np.ndarray, tmp_path: Path) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(voxels), str(tmp_path / "ct.mhd"))
    (tmp_path / "ct.raw").unlink()
    refusal(tmp_path / "ct.mhd", "ct.raw is not there")


def test_unsupported_nrrd_encoding(voxels: np.ndarray, tmp_path: Path) -> None:
    refusal(nrrd(tmp_path / "ct.nrrd", voxels, encoding="bzip2"), "bzip2")


# Headers that claim too much


@pytest.mark.parametrize(
    "forge",
    [
        forged_nifti2,
        lambda folder, voxels: nifti(folder / "big.nii", voxels, dim=[3, 30000, 30000, 30000, 1, 1, 1, 1]),
        lambda folder, voxels: nifti(folder / "big.nii.gz", voxels, dim=[3, 30000, 30000, 30000, 1, 1, 1, 1]),
        lambda folder, voxels: nrrd(folder / "big.nrrd", voxels, sizes="60000 60000 60000"),
        lambda folder, voxels: nrrd(folder / "big.nrrd", voxels, sizes="60000 60000 60000", encoding="gzip"),
        lambda folder, voxels: metaimage(folder / "big.mha", voxels, DimSize="60000 60000 60000"),
        lambda folder, voxels: metaimage(
            folder / "big.mha", voxels, DimSize="60000 60000 60000", CompressedData="True"
        ),
    ],
    ids=["nii2", "nii", "nii.gz", "nrrd", "nrrd gzip", "mha", "mha compressed"],
)
def test_forged_size_takes_no_memory(
    forge: Callable[[Path, np.ndarray], Path], voxels: np.ndarray, tmp_path: Path
) -> None:
    path = forge(tmp_path, voxels)
    tracemalloc.start()
    before = psutil.Process().memory_info().vms
    refusal(path, "voxels take")
    assert tracemalloc.get_traced_memory()[1] < 20e6
    assert psutil.Process().memory_info().vms - before < 200e6
    tracemalloc.stop()


def test_volume_larger_than_memory(
    voxels: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = nifti(tmp_path / "ct.nii", voxels)
    monkeypatch.setattr("multiorganseg.volumes.check.available_memory", lambda: 100)
    with pytest.raises(ResourceError, match="memory"):
        read_volume(path)


# Shapes and voxel types


@pytest.mark.parametrize("suffix", FORMATS)
def test_time_series(suffix: str, voxels: np.ndarray, tmp_path: Path) -> None:
    image = sitk.JoinSeries([sitk.GetImageFromArray(voxels)] * 3)
    sitk.WriteImage(image, str(tmp_path / f"time.{suffix}"))
    refusal(tmp_path / f"time.{suffix}", "4 dimensions")


@pytest.mark.parametrize("suffix", FORMATS)
def test_colour(suffix: str, tmp_path: Path) -> None:
    colour = sitk.GetImageFromArray(np.zeros((5, 6, 7, 3), np.uint8), isVector=True)
    sitk.WriteImage(colour, str(tmp_path / f"colour.{suffix}"))
    error = refusal(tmp_path / f"colour.{suffix}", "")
    assert "colour" in error.problem or "5 dimensions" in error.problem
    refusal(tmp_path / f"colour.{suffix}", "", read_labels)


@pytest.mark.parametrize("dtype", [np.complex64, np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])])
def test_complex_and_rgb_nifti(dtype: np.dtype, tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.zeros((5, 6, 7), dtype), np.eye(4)), tmp_path / "c.nii.gz")
    refusal(tmp_path / "c.nii.gz", "colour, vector or complex")


def test_complex_nrrd(tmp_path: Path) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((5, 6, 7), np.complex64)), str(tmp_path / "c.mha"))
    refusal(tmp_path / "c.mha", "c.mha")


@pytest.mark.parametrize("suffix", ["nii", "nrrd", "mha"])
@pytest.mark.parametrize("size", [0, -3])
def test_no_voxels(suffix: str, size: int, voxels: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / f"none.{suffix}"
    if suffix == "nii":
        nifti(path, voxels, dim=[3, 7, size, 5, 1, 1, 1, 1])
    elif suffix == "nrrd":
        nrrd(path, voxels, sizes=f"7 {size} 5")
    else:
        metaimage(path, voxels, DimSize=f"7 {size} 5")
    refusal(path, path.name)


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("shape", [(1, 6, 7), (6, 7)])
def test_single_slice(suffix: str, shape: tuple, tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(np.arange(42, dtype=np.int16).reshape(shape))
    sitk.WriteImage(image, str(tmp_path / f"flat.{suffix}"))
    refusal(tmp_path / f"flat.{suffix}", "single slice")


# Geometry


@pytest.mark.parametrize("spacing", ["1 0 2", "1 -1 2", "nan 1 2", "1 1 0.0000001", "1 1 5000"])
def test_impossible_spacing(spacing: str, voxels: np.ndarray, tmp_path: Path) -> None:
    pixdim = [1, *map(float, spacing.split()), 1, 1, 1, 1]
    refusal(nifti(tmp_path / "q.nii", voxels, pixdim=pixdim, sform_code=0, qform_code=1), "spacing")
    refusal(nifti(tmp_path / "s.nii.gz", voxels, pixdim=pixdim, sform_code=0, qform_code=0), "spacing")
    refusal(metaimage(tmp_path / "m.mha", voxels, ElementSpacing=spacing), "spacing")


def test_impossible_nrrd_spacing(voxels: np.ndarray, tmp_path: Path) -> None:
    refusal(nrrd(tmp_path / "0.nrrd", voxels, space_directions="(1,0,0) (0,0,0) (0,0,2)"), "spacing")
    refusal(nrrd(tmp_path / "n.nrrd", voxels, space_directions="(1,0,0) (0,nan,0) (0,0,2)"), "n.nrrd")


def test_singular_direction(voxels: np.ndarray, tmp_path: Path) -> None:
    flat = [[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 2, 0]]
    refusal(
        nifti(tmp_path / "ct.nii", voxels, srow=flat, sform_code=1, qform_code=0), "impossible orientation"
    )
    refusal(
        metaimage(tmp_path / "ct.mha", voxels, TransformMatrix="1 0 0 1 0 0 0 0 1"), "impossible orientation"
    )
    refusal(nrrd(tmp_path / "ct.nrrd", voxels, space_directions="(1,0,0) (2,0,0) (0,0,2)"), "orientation")


def test_position_that_is_no_number(voxels: np.ndarray, tmp_path: Path) -> None:
    rows = [[1, 0, 0, np.nan], [0, 1, 0, 0], [0, 0, 2, 0]]
    refusal(nifti(tmp_path / "ct.nii", voxels, srow=rows, sform_code=1), "impossible orientation")


def test_singular_affine_is_not_written(voxels: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(VolumeError, match="orientation"):
        write_volume(Volume(voxels, np.ones((4, 4))), tmp_path / "ct.nii.gz")
    assert not list(tmp_path.iterdir())


# Voxels


def test_few_voxels_that_are_no_numbers_are_mended(voxels: np.ndarray, tmp_path: Path) -> None:
    holes = voxels.astype(np.float32)
    holes[0, 0, :2] = np.nan, np.inf
    write_volume(Volume(holes, np.eye(4)), tmp_path / "ct.nii.gz")
    with pytest.warns(VolumeWarning, match="2 voxels"):
        mended = read_volume(tmp_path / "ct.nii.gz").voxels
    rest = holes[np.isfinite(holes)]
    assert mended[0, 0, :2].tolist() == [rest.min(), rest.max()]
    assert np.array_equal(mended[np.isfinite(holes)], rest)


@pytest.mark.parametrize("share", [0.05, 1.0])
def test_many_voxels_that_are_no_numbers(share: float, voxels: np.ndarray, tmp_path: Path) -> None:
    holes = voxels.astype(np.float32)
    holes.flat[: int(share * holes.size)] = np.nan
    write_volume(Volume(holes, np.eye(4)), tmp_path / "ct.nrrd")
    refusal(tmp_path / "ct.nrrd", "NaN or infinite")


@pytest.mark.parametrize("suffix", FORMATS)
def test_all_voxels_equal(suffix: str, tmp_path: Path) -> None:
    write_volume(Volume(np.full((5, 6, 7), -1024, np.int16), np.eye(4)), tmp_path / f"ct.{suffix}")
    refusal(tmp_path / f"ct.{suffix}", "-1024")


@pytest.mark.parametrize("value", [-1.0, 0.5, 70000.0, np.nan])
def test_image_given_as_labels(value: float, tmp_path: Path) -> None:
    labels = np.zeros((5, 6, 7), np.float32)
    labels[1, 1, 1] = value
    write_volume(Volume(labels, np.eye(4)), tmp_path / "labels.nii.gz")
    refusal(tmp_path / "labels.nii.gz", "not a label map", read_labels)


# DICOM series


def test_several_series_are_named(write_series: Callable[..., Path]) -> None:
    folder = write_series("study/one")
    other = {"SeriesInstanceUID": "1.2.826.0.1.9", "SeriesDescription": "lung kernel"}
    write_series("study/two", fields=lambda k: other)
    error = refusal(folder.parent, "2 DICOM series")
    assert "lung kernel" in error.cause
    assert "Bäuche axial" in error.cause
    assert read_volume(folder).voxels.shape == (12, 9, 7)


def test_missing_slices_are_named(write_series: Callable[..., Path]) -> None:
    error = refusal(write_series(keep=lambda k: k not in (3, 7, 8)), "3 slice(s)")
    assert "1 between 104.00 and 108.00" in error.cause
    assert "2 between 112.00 and 118.00" in error.cause


def test_doubled_slices_that_differ(
    write_series: Callable[..., Path], pixels: np.ndarray, ct_slice: Callable
) -> None:
    folder = write_series()
    ct_slice(pixels[4] + 1, (-30, 12.5, 108)).save_as(folder / "again.dcm", enforce_file_format=True)
    assert "again.dcm" in refusal(folder, "at one place (108.00 mm) but differ").cause


def test_uneven_spacing(write_series: Callable[..., Path]) -> None:
    refusal(write_series("a", position=lambda k: (0, 0, 2.0 * k + 0.6 * (k == 5))), "not evenly spaced")
    refusal(
        write_series("b", position=lambda k: (0, 0, 2.0 * k if k < 6 else 10 + 2.5 * (k - 5))),
        "not evenly spaced",
    )


def test_slices_shifted_beside_the_line(write_series: Callable[..., Path]) -> None:
    refusal(write_series(position=lambda k: (0, 5.0 * (k > 6), 2.0 * k)), "not evenly spaced")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"PixelSpacing": [0.9, 0.9]}, "several pixel spacings"),
        ({"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}, "several orientations"),
        ({"PixelSpacing": [0, 0.8]}, "spacing"),
        ({"PixelSpacing": [-0.7, 0.8]}, "spacing"),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "orientation"),
        ({"PhotometricInterpretation": "MONOCHROME1"}, "inverted"),
    ],
)
def test_slice_that_does_not_belong(fields: dict, words: str, write_series: Callable[..., Path]) -> None:
    refusal(write_series(fields=lambda k: fields if k == 4 else {}), words)


@pytest.mark.parametrize("lost", ["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"])
def test_slice_that_lost_its_place(lost: str, write_series: Callable[..., Path]) -> None:
    with pytest.warns(VolumeWarning, match="do not say where they lie"):
        refusal(write_series("one", fields=lambda k: {lost: None} if k == 4 else {}), "missing")
    refusal(write_series("all", fields=lambda k: {lost: None}), "where it lies")


def test_mixed_sizes(write_series: Callable[..., Path], ct_slice: Callable) -> None:
    folder = write_series()
    ct_slice(np.zeros((20, 20)), (0, 0, 124)).save_as(folder / "large.dcm", enforce_file_format=True)
    assert "1 of 20 × 20 voxels" in refusal(folder, "several sizes").cause


def test_one_slice_alone(write_series: Callable[..., Path]) -> None:
    refusal(write_series(keep=lambda k: k == 0), "single slice")


def test_truncated_slice(write_series: Callable[..., Path]) -> None:
    folder = write_series()
    file = next(folder.glob("*-11.dcm"))
    file.write_bytes(file.read_bytes()[:-40])
    refusal(folder, file.name)
    refusal(file, "damaged")
    with pytest.warns(VolumeWarning, match="damaged"):
        assert find_dicom_series(folder)[0].slices == 11


def test_slice_that_claims_too_much(write_series: Callable[..., Path]) -> None:
    refusal(write_series(fields=lambda k: {"Rows": 65535, "Columns": 65535}), "suffice")


def test_segmentation_object_is_no_image(write_series: Callable[..., Path]) -> None:
    folder = write_series(fields=lambda k: {"Modality": "SEG"})
    refusal(folder, "No DICOM image series")
    refusal(folder / "000-0.dcm", "modality is SEG")


def test_multi_frame_without_highdicom(
    write_series: Callable[..., Path], ct_slice: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = {"NumberOfFrames": 3, "Rows": 4, "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2.1"}
    file = ct_slice(np.ones((12, 7)), (0, 0, 0), **frames)
    file.save_as(tmp_path / "multi.dcm", enforce_file_format=True)
    refusal(tmp_path / "multi.dcm", "no regular volume")
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(DependencyError, match=r"multiorganseg\[dicom\]"):
        read_volume(tmp_path)


def test_colour_slices(write_series: Callable[..., Path]) -> None:
    rgb = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0, "Rows": 3}
    rgb |= {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "PixelRepresentation": 0, "Columns": 14}
    refusal(write_series(fields=lambda k: rgb), "colour")


def test_good_input_warns_of_nothing(
    write_series: Callable[..., Path], voxels: np.ndarray, tmp_path: Path
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", VolumeWarning)
        read_volume(write_series())
        read_volume(nifti(tmp_path / "ct.nii.gz", voxels))
