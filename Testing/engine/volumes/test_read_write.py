"""Files written by us and by others come back voxel for voxel and point for point."""

import warnings
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from multiorganseg.errors import ResourceError, VolumeError
from multiorganseg.volumes import Volume, VolumeWarning, read_labels, read_volume, write_volume
from multiorganseg.volumes.nifti import read_nifti_qform

FORMATS = ["nii", "nii.gz", "nrrd", "mha"]
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("shape", ["oblique", "sheared"])
def test_round_trip_keeps_voxels_and_affine(
    suffix: str, shape: str, ct: Volume, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    volume = Volume(ct.voxels, request.getfixturevalue(shape))
    path = tmp_path / f"ct.{suffix}"
    write_volume(volume, path)
    back = read_volume(path)
    assert back.voxels.dtype == np.int16
    assert np.array_equal(back.voxels, ct.voxels)
    assert back.grid.same_as(volume.grid)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("dtype", ["i1", "u1", "<i2", ">i2", "u2", "i4", "f4", "f8"])
@pytest.mark.parametrize("suffix", ["nrrd", "mha"])
def test_uncompressed_files_are_as_large_as_their_voxels(
    suffix: str, dtype: str, ct: Volume, tmp_path: Path
) -> None:
    voxels = (ct.voxels % 100).astype(dtype)
    path = tmp_path / f"ct.{suffix}"
    write_volume(Volume(voxels[::-1], ct.affine), path, compress=False)
    assert voxels.nbytes < path.stat().st_size < voxels.nbytes + 2000
    assert np.array_equal(read_volume(path).voxels, voxels[::-1])
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(path))), voxels[::-1])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    angles=st.tuples(*[st.floats(-180, 180)] * 3),
    spacing=st.tuples(*[st.floats(0.1, 10)] * 3),
    shear=st.floats(-0.6, 0.6),
    flip=st.sampled_from([1, -1]),
    origin=st.tuples(*[st.floats(-2000, 2000)] * 3),
)
@pytest.mark.parametrize("suffix", FORMATS)
def test_any_affine_survives(
    suffix: str,
    angles: tuple,
    spacing: tuple,
    shear: float,
    flip: int,
    origin: tuple,
    ct: Volume,
    tmp_path: Path,
) -> None:
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() * spacing
    affine[:3, 2] += shear * affine[:3, 1]
    affine[:3, 0] *= flip
    affine[:3, 3] = origin
    volume = Volume(ct.voxels, affine)
    write_volume(volume, tmp_path / f"any.{suffix}")
    assert read_volume(tmp_path / f"any.{suffix}").grid.same_as(volume.grid)


@pytest.mark.parametrize("shape", ["oblique", "sheared"])
def test_nibabel_places_our_nifti_as_we_do(
    shape: str, ct: Volume, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    volume = Volume(ct.voxels, request.getfixturevalue(shape))
    write_volume(volume, tmp_path / "ct.nii.gz")
    image = nibabel.load(tmp_path / "ct.nii.gz")
    assert np.allclose(image.affine, LPS_TO_RAS @ volume.affine, atol=1e-4)
    assert np.array_equal(np.asarray(image.dataobj), ct.voxels.T)
    assert np.allclose(image.get_qform(), image.affine, atol=1e-3) == (shape == "oblique")


@pytest.mark.parametrize("degrees", [0.03, 0.5, 20])
def test_itk_reads_our_sheared_nifti_where_it_reads_the_input(degrees: float, tmp_path: Path) -> None:
    affine = np.diag([0.8, 0.8, 3.0, 1.0])
    affine[1, 2] = 3.0 * np.tan(np.radians(degrees))
    affine[:3, 3] = 10, 20, 30
    qform = affine.copy()
    qform[1, 2] = 0
    voxels = np.random.default_rng(1).integers(0, 9, (20, 30, 40)).astype(np.uint8)
    path = tmp_path / "labels.nii.gz"
    write_volume(Volume(voxels, affine), path, qform=qform)
    with warnings.catch_warnings():
        warnings.simplefilter("error" if degrees < 1 else "ignore", VolumeWarning)
        assert np.allclose(read_volume(path).affine, affine, atol=1e-4)
    image = sitk.ReadImage(str(path))
    assert np.array_equal(sitk.GetArrayFromImage(image), voxels)
    misses = np.subtract(image.TransformIndexToPhysicalPoint((39, 29, 19)), (affine @ [39, 29, 19, 1])[:3])
    assert np.allclose(read_nifti_qform(path), qform, atol=1e-4)
    assert np.allclose(misses, ((qform - affine) @ [39, 29, 19, 1])[:3], atol=1e-4)
    write_volume(Volume(voxels, affine), path)
    own = read_nifti_qform(path)
    assert (own is None) == (degrees > 1)
    if own is not None:
        assert np.abs((own - affine) @ [39, 29, 19, 1]).max() < 0.4


@pytest.mark.parametrize("suffix", FORMATS)
def test_simpleitk_places_our_oblique_file_as_we_do(suffix: str, ct: Volume, tmp_path: Path) -> None:
    write_volume(ct, tmp_path / f"ct.{suffix}")
    image = sitk.ReadImage(str(tmp_path / f"ct.{suffix}"))
    point = image.TransformIndexToPhysicalPoint((6, 2, 4))
    assert np.allclose(point, ct.grid.to_patient((4, 2, 6)), atol=1e-3)
    assert np.array_equal(sitk.GetArrayFromImage(image), ct.voxels)


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("form", ["sform", "qform"])
def test_reads_nifti_by_nibabel(
    kind: type, order: str, form: str, ct: Volume, sheared: np.ndarray, tmp_path: Path
) -> None:
    affine = LPS_TO_RAS @ (sheared if form == "sform" else ct.affine)
    header = kind.header_class(endianness=order)
    header.set_data_dtype(np.int16)
    image = kind(ct.voxels.T, affine, header)
    image.set_sform(affine, int(form == "sform"))
    image.set_qform(affine if form == "qform" else None, int(form == "qform"))
    path = tmp_path / "ct.nii.gz"
    nibabel.save(image, path)
    volume = read_volume(path)
    assert np.array_equal(volume.voxels, ct.voxels)
    assert np.allclose(LPS_TO_RAS @ volume.affine, nibabel.load(path).affine, atol=1e-4)
    assert np.allclose(volume.affine, LPS_TO_RAS @ affine, atol=1e-3)


def test_bright_voxel_of_a_sheared_nifti_keeps_its_place(
    ct: Volume, sheared: np.ndarray, tmp_path: Path
) -> None:
    voxels = np.zeros_like(ct.voxels)
    voxels[3, 1, 5] = 1000
    nibabel.save(nibabel.Nifti1Image(voxels.T, LPS_TO_RAS @ sheared), tmp_path / "tilted.nii")
    volume = read_volume(tmp_path / "tilted.nii")
    place = volume.grid.to_patient(np.argwhere(volume.voxels == 1000)[0])
    assert np.allclose(place, (sheared @ [5, 1, 3, 1])[:3], atol=1e-3)


def test_sform_wins_and_a_different_qform_is_reported(ct: Volume, tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(ct.voxels.T, LPS_TO_RAS @ ct.affine)
    image.set_qform(np.diag([1.0, 1.0, 1.0, 1.0]), 1)
    image.set_sform(LPS_TO_RAS @ ct.affine, 2)
    nibabel.save(image, tmp_path / "two.nii.gz")
    with pytest.warns(VolumeWarning, match="twice"):
        assert np.allclose(read_volume(tmp_path / "two.nii.gz").affine, ct.affine, atol=1e-3)


def test_nifti_without_orientation_lies_as_in_slicer_and_warns(ct: Volume, tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(ct.voxels.T, None)
    image.header.set_zooms((0.8, 0.9, 3.0))
    nibabel.save(image, tmp_path / "nowhere.nii.gz")
    with pytest.warns(VolumeWarning, match="Left and right"):
        volume = read_volume(tmp_path / "nowhere.nii.gz")
    image = sitk.ReadImage(str(tmp_path / "nowhere.nii.gz"))
    assert np.allclose(image.TransformIndexToPhysicalPoint((3, 2, 1)), volume.grid.to_patient((1, 2, 3)))


def test_nifti_rescale_units_and_trailing_axis(ct: Volume, tmp_path: Path) -> None:
    affine = LPS_TO_RAS @ ct.affine
    affine[:3] /= 1000
    image = nibabel.Nifti1Image(ct.voxels.T[..., None], affine)
    image.header.set_xyzt_units("meter")
    image.header.set_slope_inter(0.5, 3)
    image.header["scl_slope"], image.header["scl_inter"] = 0.5, 3
    nibabel.save(image, tmp_path / "scaled.nii.gz")
    volume = read_volume(tmp_path / "scaled.nii.gz")
    expected = nibabel.load(tmp_path / "scaled.nii.gz").get_fdata()[..., 0].T
    assert volume.voxels.dtype == np.float32
    assert np.allclose(volume.voxels, expected, atol=1e-3)
    assert np.allclose(volume.affine, ct.affine, atol=1e-3)


def test_nifti_whole_intercept_stays_integer(ct: Volume, tmp_path: Path) -> None:
    stored = (ct.voxels + 1024).astype(np.uint16)
    write_volume(Volume(stored, ct.affine), tmp_path / "raw.nii")
    data = bytearray((tmp_path / "raw.nii").read_bytes())
    data[116:120] = np.array(-1024, "<f4").tobytes()
    (tmp_path / "raw.nii").write_bytes(data)
    volume = read_volume(tmp_path / "raw.nii")
    assert volume.voxels.dtype == np.int16
    assert np.array_equal(volume.voxels, ct.voxels)


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("uint8", "uint8"),
        ("int8", "int8"),
        ("uint16", "uint16"),
        ("int32", "int32"),
        ("uint32", "uint32"),
        ("float32", "float32"),
        ("float64", "float32"),
        ("int64", "int16"),
        ("bool", "uint8"),
        ("float16", "float32"),
    ],
)
def test_voxel_types(suffix: str, written: str, read: str, ct: Volume, tmp_path: Path) -> None:
    voxels = (np.abs(ct.voxels) % 100).astype(written)
    write_volume(Volume(voxels, ct.affine), tmp_path / f"typed.{suffix}")
    back = read_volume(tmp_path / f"typed.{suffix}").voxels
    assert back.dtype == read
    assert np.array_equal(back, voxels)


@pytest.mark.parametrize("suffix", FORMATS)
def test_paths_with_spaces_and_other_scripts(suffix: str, ct: Volume, tmp_path: Path) -> None:
    path = tmp_path / "Bäuche 腹部" / f"ct 1.{suffix}"
    write_volume(ct, path)
    assert np.array_equal(read_volume(path).voxels, ct.voxels)


@pytest.mark.parametrize("suffix", ["nhdr", "mhd"])
@pytest.mark.parametrize("compressed", [True, False])
def test_detached_data(suffix: str, compressed: bool, ct: Volume, tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(ct.voxels)
    sitk.WriteImage(image, str(tmp_path / f"ct.{suffix}"), compressed)
    assert np.array_equal(read_volume(tmp_path / f"ct.{suffix}").voxels, ct.voxels)


def test_slices_listed_in_a_metaimage(ct: Volume, tmp_path: Path) -> None:
    for k, plane in enumerate(ct.voxels):
        (tmp_path / f"plane{k + 1:02d}.raw").write_bytes(plane.tobytes())
    header = "NDims = 3\nDimSize = 7 6 5\nElementType = MET_SHORT\nElementSpacing = 1 1 1\nElementDataFile = "
    (tmp_path / "listed.mhd").write_text(
        header + "LIST\n" + "".join(f"plane{k + 1:02d}.raw\n" for k in range(5)), encoding="utf-8"
    )
    (tmp_path / "numbered.mhd").write_text(header + "plane%02d.raw 1 5 1\n", encoding="utf-8")
    for name in ("listed.mhd", "numbered.mhd"):
        assert np.array_equal(read_volume(tmp_path / name).voxels, ct.voxels)


@pytest.mark.parametrize("encoding", ["raw", "gzip", "ascii", "hex"])
def test_nrrd_encodings(encoding: str, ct: Volume, tmp_path: Path) -> None:
    import nrrd

    if encoding == "hex":
        _write_hex(ct, tmp_path / "ct.nrrd")
    else:
        header = {"space": "left-posterior-superior", "space directions": ct.affine[:3, :3].T}
        header |= {"space origin": ct.affine[:3, 3], "encoding": encoding}
        nrrd.write(str(tmp_path / "ct.nrrd"), ct.voxels.T, header)
    volume = read_volume(tmp_path / "ct.nrrd")
    assert np.array_equal(volume.voxels, ct.voxels)
    assert np.allclose(volume.affine, ct.affine)


def _write_hex(ct: Volume, path: Path) -> None:
    columns = " ".join("({:.17g},{:.17g},{:.17g})".format(*column) for column in ct.affine[:3, :3].T)
    origin = "({:.17g},{:.17g},{:.17g})".format(*ct.affine[:3, 3])
    header = "NRRD0004\ntype: short\ndimension: 3\nsizes: 7 6 5\nendian: little\nencoding: hex\n"
    header += "space: left-posterior-superior\n"
    header += f"space directions: {columns}\nspace origin: {origin}\n\n"
    path.write_text(header + ct.voxels.tobytes().hex(), encoding="utf-8")


def test_ras_nrrd_becomes_lps(ct: Volume, tmp_path: Path) -> None:
    import nrrd

    header = {"space": "right-anterior-superior", "space directions": np.diag([1.0, 2.0, 3.0])}
    nrrd.write(str(tmp_path / "ras.nrrd"), ct.voxels.T, header | {"space origin": [10, 20, 30]})
    volume = read_volume(tmp_path / "ras.nrrd")
    assert np.allclose(volume.affine, [[-1, 0, 0, -10], [0, -2, 0, -20], [0, 0, 3, 30], [0, 0, 0, 1]])


def test_failed_write_leaves_nothing(ct: Volume, tmp_path: Path) -> None:
    with pytest.raises(VolumeError, match="suffix"):
        write_volume(ct, tmp_path / "ct.jpg")
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(ResourceError):
        write_volume(ct, tmp_path / "file" / "ct.nii.gz")
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_labels_written_as_floats_become_integers(ct: Volume, tmp_path: Path) -> None:
    labels = np.zeros(ct.voxels.shape)
    labels[1, 2, 3] = 300
    write_volume(Volume(labels, ct.affine), tmp_path / "labels.nii.gz")
    back = read_labels(tmp_path / "labels.nii.gz").voxels
    assert back.dtype == np.uint16
    assert np.array_equal(back, labels)


def test_empty_label_map_is_allowed(ct: Volume, tmp_path: Path) -> None:
    write_volume(Volume(np.zeros(ct.voxels.shape, np.int64), ct.affine), tmp_path / "labels.nrrd")
    back = read_labels(tmp_path / "labels.nrrd")
    assert back.voxels.dtype == np.uint8
    assert not back.voxels.any()


def write_segmentation(path: Path, layers: np.ndarray, values: list[tuple[int, int]]) -> None:
    """Write layers (k, j, i, layer) as 3D Slicer does; `values`: layer and label value of each segment."""
    import nrrd

    shared = layers.shape[-1] == 1
    header: dict = {"space": "left-posterior-superior", "space origin": [1, 2, 3], "encoding": "gzip"}
    header["kinds"] = ["domain"] * 3 if shared else ["list"] + ["domain"] * 3
    directions = np.diag([1.0, 2.0, 3.0])
    header["space directions"] = directions if shared else np.vstack([[np.nan] * 3, directions])
    for index, (layer, value) in enumerate(values):
        header |= {f"Segment{index}_Layer": str(layer), f"Segment{index}_LabelValue": str(value)}
    data = layers[..., 0].T if shared else layers.transpose(3, 2, 1, 0)
    nrrd.write(str(path), data, header)


@pytest.mark.parametrize("layers", [1, 2])
def test_segmentation_file(layers: int, tmp_path: Path) -> None:
    voxels = np.zeros((4, 5, 6, layers), np.uint8)
    voxels[1, 2, 3, 0] = 4
    voxels[2, 3, 4, -1] = 9
    write_segmentation(tmp_path / "organs.seg.nrrd", voxels, [(0, 4), (layers - 1, 9)])
    labels = read_labels(tmp_path / "organs.seg.nrrd")
    assert np.array_equal(labels.voxels, voxels.max(-1))
    assert np.allclose(labels.affine, [[1, 0, 0, 1], [0, 2, 0, 2], [0, 0, 3, 3], [0, 0, 0, 1]])


@pytest.mark.parametrize(("overlap", "cause"), [(True, "overlap in 1 voxels"), (False, "several segments")])
def test_layers_that_cannot_be_merged(overlap: bool, cause: str, tmp_path: Path) -> None:
    voxels = np.zeros((4, 5, 6, 2), np.uint8)
    voxels[1, 2, 3, 0] = 1
    voxels[1, 2, 3 if overlap else 4, 1] = 2 if overlap else 1
    write_segmentation(tmp_path / "organs.seg.nrrd", voxels, [(0, 1), (1, 2 if overlap else 1)])
    with pytest.raises(VolumeError, match=cause):
        read_labels(tmp_path / "organs.seg.nrrd")
