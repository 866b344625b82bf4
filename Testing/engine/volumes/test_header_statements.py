"""What a header says is honoured or refused: one line of the tables for each statement."""

import warnings
import zlib
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from multiorganseg.errors import VolumeError
from multiorganseg.volumes import VolumeWarning, read_labels, read_volume
from multiorganseg.volumes.nifti import _NIFTI1

VOXELS = np.random.default_rng(7).integers(-1000, 1000, (5, 6, 7)).astype(np.int16)
NRRD = {
    "type": "short",
    "dimension": "3",
    "space": "left-posterior-superior",
    "sizes": "7 6 5",
    "space directions": "(1,0,0) (0,2,0) (0,0,3)",
    "space origin": "(10,20,30)",
    "endian": "little",
    "encoding": "raw",
}
META = {
    "NDims": "3",
    "DimSize": "7 6 5",
    "ElementType": "MET_SHORT",
    "ElementSpacing": "1 2 3",
    "Offset": "10 20 30",
    "TransformMatrix": "1 0 0 0 1 0 0 0 1",
    "ElementDataFile": "LOCAL",
}
PLAIN = [[1, 0, 0, 10], [0, 2, 0, 20], [0, 0, 3, 30]]


def signed(*signs: int) -> list[list[float]]:
    return (np.array(PLAIN) * np.array(signs)[:, None]).tolist()


def scaled(factor: float) -> list[list[float]]:
    return (np.array(PLAIN) * factor).tolist()


def write(path: Path, changes: dict, data: bytes = VOXELS.tobytes()) -> Path:
    """Write a header by hand; a change to None leaves the field out, key-value pairs begin with `=`."""
    nrrd = path.suffix == ".nrrd"
    fields = {
        name: text for name, text in {**(NRRD if nrrd else META), **changes}.items() if text is not None
    }
    if nrrd:
        lines = [
            f"{name[1:]}:={text}" if name.startswith("=") else f"{name}: {text}"
            for name, text in fields.items()
        ]
        path.write_bytes("\n".join(["NRRD0004", *lines, "", ""]).encode() + data)
    else:
        fields["ElementDataFile"] = fields.pop("ElementDataFile")
        path.write_bytes("".join(f"{name} = {text}\n" for name, text in fields.items()).encode() + data)
    return path


def refused(path: Path, words: str) -> None:
    with pytest.raises(VolumeError) as caught:
        read_volume(path)
    assert words in f"{caught.value.problem} {caught.value.cause}", str(caught.value)
    assert caught.value.next_step


def read_in_silence(path: Path) -> tuple[np.ndarray, np.ndarray]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        volume = read_volume(path)
    return volume.voxels, volume.affine[:3]


NRRD_PLACES = [
    ({"space": "left-posterior-superior"}, PLAIN),
    ({"space": "LPS"}, PLAIN),
    ({"space": "right-anterior-superior"}, signed(-1, -1, 1)),
    ({"space": "RAS"}, signed(-1, -1, 1)),
    ({"space": "left-anterior-superior"}, signed(1, -1, 1)),
    ({"space": "LAS"}, signed(1, -1, 1)),
    ({"space": "right-posterior-superior"}, signed(-1, 1, 1)),
    ({"space": "left-posterior-inferior"}, signed(1, 1, -1)),
    ({"space": "right-anterior-inferior"}, signed(-1, -1, -1)),
    ({"space": "left-anterior-inferior"}, signed(1, -1, -1)),
    ({"space": "right-posterior-inferior"}, signed(-1, 1, -1)),
    ({"space units": '"mm" "mm" "mm"'}, PLAIN),
    ({"space units": '"cm" "cm" "cm"'}, scaled(10)),
    ({"space units": '"m" "m" "m"', "space directions": "(1e-3,0,0) (0,2e-3,0) (0,0,3e-3)"}, None),
    ({"space units": '"um" "um" "um"', "space directions": "(1e3,0,0) (0,2e3,0) (0,0,3e3)"}, None),
    ({"kinds": "domain domain domain"}, PLAIN),
    ({"kinds": "space space space"}, PLAIN),
    ({"space origin": None}, [[1, 0, 0, 0], [0, 2, 0, 0], [0, 0, 3, 0]]),
    ({"measurement frame": "(1,0,0) (0,1,0) (0,0,1)", "sample units": '"HU"', "content": "a: b:=c"}, PLAIN),
]


@pytest.mark.parametrize(("changes", "affine"), NRRD_PLACES)
def test_place_of_a_nrrd(changes: dict, affine: list | None, tmp_path: Path) -> None:
    voxels, place = read_in_silence(write(tmp_path / "a.nrrd", changes))
    assert np.array_equal(voxels, VOXELS)
    if affine is None:
        assert np.allclose(place[:, :3], np.diag([1, 2, 3]))
    else:
        assert np.allclose(place, affine)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"space": "3D-left-handed"}, "3d-left-handed"),
        ({"space": "left-superior-anterior"}, "left-superior-anterior"),
        ({"space": "anything"}, "anything"),
        ({"space units": '"mm" "pixel" "mm"'}, "pixel"),
        ({"space units": '"mm" "mm"'}, "space units"),
        ({"space directions": None}, "how large its voxels are"),
        ({"space directions": ""}, "how large its voxels are"),
        ({"space directions": "(1,0,0) (0,2,0)"}, "space directions"),
        ({"space directions": "(1,0) (0,2) (0,3)", "space origin": "(0,0)"}, "three-dimensional"),
        ({"space directions": "1 2 3"}, "no vector"),
        ({"kinds": "domain domain vector"}, "colour, vector"),
        ({"kinds": "domain domain time"}, "time series"),
        ({"kinds": "domain domain"}, "kinds"),
        ({"type": "block", "block size": "2"}, "block"),
        ({"old min": "-1024", "old max": "3071"}, "quantised"),
        ({"endian": None}, "endian"),
        ({"encoding": "bzip2"}, "bzip2"),
        ({"byte skip": "-1", "encoding": "gzip"}, "-1 bytes"),
        ({"line skip": "-4"}, "-4 lines"),
        ({"sizes": "7 6"}, "sizes"),
        ({"dimension": "99999999999"}, "sizes"),
        ({"sizes": "7 six 5"}, "six"),
        ({"Sizes": "7 6 5"}, "twice"),
        ({"a field": "x"}, "a field"),
        ({"space directions": None, "spacings": "1 2 3", "axis mins": "0 5 0"}, "axis mins"),
        ({"space directions": None, "spacings": "1 2 3", "units": '"mm" "mm" "inch"'}, "inch"),
        ({"space directions": None, "spacings": "1 -2 3"}, "spacing"),
    ],
)
def test_refused_statements_of_a_nrrd(changes: dict, words: str, tmp_path: Path) -> None:
    refused(write(tmp_path / "a.nrrd", changes), words)


@pytest.mark.parametrize("space", [None, "3D-right-handed", "scanner-xyz"])
def test_nrrd_that_does_not_say_left_and_right(space: str | None, tmp_path: Path) -> None:
    with pytest.warns(VolumeWarning, match="Left and right"):
        volume = read_volume(write(tmp_path / "a.nrrd", {"space": space}))
    assert np.allclose(volume.affine[:3], PLAIN)


def test_nrrd_by_spacings_in_centimetres(tmp_path: Path) -> None:
    changes = {
        "space directions": None,
        "spacings": ".1 .2 .3",
        "units": '"cm" "cm" "cm"',
        "space origin": None,
    }
    with pytest.warns(VolumeWarning, match="Left and right"):
        volume = read_volume(write(tmp_path / "a.nrrd", {**changes, "space": None}))
    assert np.allclose(volume.affine, np.diag([1, 2, 3, 1]))


@pytest.mark.parametrize(
    ("changes", "data"),
    [
        ({"endian": "big"}, VOXELS.astype(">i2").tobytes()),
        ({"line skip": "2"}, b"one\ntwo\n" + VOXELS.tobytes()),
        ({"byte skip": "5"}, b"abcde" + VOXELS.tobytes()),
        ({"byte skip": "-1"}, b"anything" + VOXELS.tobytes()),
        ({"encoding": "gzip", "byte skip": "3"}, zlib.compress(b"abc" + VOXELS.tobytes(), wbits=31)),
        ({"encoding": "ascii", "endian": None}, " ".join(map(str, VOXELS.ravel())).encode()),
        ({"type": "int16"}, VOXELS.tobytes()),
        (
            {
                "dimension": "4",
                "sizes": "7 6 5 1",
                "space directions": "(1,0,0) (0,2,0) (0,0,3) none",
                "kinds": "domain domain domain time",
            },
            VOXELS.tobytes(),
        ),
        (
            {
                "dimension": "4",
                "sizes": "1 7 6 5",
                "space directions": "none (1,0,0) (0,2,0) (0,0,3)",
                "kinds": "list domain domain domain",
            },
            VOXELS.tobytes(),
        ),
    ],
)
def test_where_the_voxels_of_a_nrrd_lie(changes: dict, data: bytes, tmp_path: Path) -> None:
    voxels, place = read_in_silence(write(tmp_path / "a.nrrd", changes, data))
    assert np.array_equal(voxels, VOXELS)
    assert np.allclose(place, PLAIN)


META_PLACES = [
    ({}, PLAIN),
    ({"TransformMatrix": "0 1 0 0 0 1 1 0 0"}, [[0, 0, 3, 10], [1, 0, 0, 20], [0, 2, 0, 30]]),
    ({"DistanceUnits": "cm"}, scaled(10)),
    ({"DistanceUnits": "um", "ElementSpacing": "1e3 2e3 3e3", "Offset": "1e4 2e4 3e4"}, PLAIN),
    ({"ElementSpacing": None, "ElementSize": "1 2 3"}, PLAIN),
    ({"Offset": None, "Position": "10 20 30"}, PLAIN),
    ({"AnatomicalOrientation": "RAI"}, PLAIN),
    ({"TransformMatrix": None, "AnatomicalOrientation": "RAI"}, PLAIN),
    (
        {"TransformMatrix": None, "AnatomicalOrientation": "LPI"},
        [[-1, 0, 0, 10], [0, -2, 0, 20], [0, 0, 3, 30]],
    ),
    (
        {"TransformMatrix": None, "AnatomicalOrientation": "ASR"},
        [[0, 0, 3, 10], [1, 0, 0, 20], [0, -2, 0, 30]],
    ),
]


@pytest.mark.parametrize(("changes", "affine"), META_PLACES)
def test_place_of_a_metaimage(changes: dict, affine: list, tmp_path: Path) -> None:
    voxels, place = read_in_silence(write(tmp_path / "a.mha", changes))
    assert np.array_equal(voxels, VOXELS)
    assert np.allclose(place, affine)


@pytest.mark.parametrize(
    ("changes", "data", "expected"),
    [
        ({"ElementToIntensityFunctionSlope": "2", "ElementToIntensityFunctionOffset": "-3"},
         VOXELS, 2.0 * VOXELS - 3),
        ({"ElementToIntensityFunctionOffset": "-1024"}, VOXELS, VOXELS - 1024),
        ({"ElementSlope": "0.5"}, VOXELS, 0.5 * VOXELS),
        ({"ElementByteOrderMSB": "True"}, VOXELS.astype(">i2"), VOXELS),
        ({"BinaryDataByteOrderMSB": "True"}, VOXELS.astype(">i2"), VOXELS),
        ({"NDims": "4", "DimSize": "7 6 5 1", "ElementSpacing": "1 2 3 1", "Offset": "10 20 30 0"}
         | {"TransformMatrix": "1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1"}, VOXELS, VOXELS),
    ],
)  # fmt: skip
def test_values_of_a_metaimage(changes: dict, data: np.ndarray, expected: np.ndarray, tmp_path: Path) -> None:
    voxels, place = read_in_silence(write(tmp_path / "a.mha", changes, data.tobytes()))
    assert np.allclose(voxels, expected)
    assert np.allclose(place, PLAIN)


@pytest.mark.parametrize(
    ("changes", "data"),
    [
        ({"CompressedData": "True"}, zlib.compress(VOXELS.tobytes())),
        ({"HeaderSize": "9"}, b"123456789" + VOXELS.tobytes()),
        ({"HeaderSize": "-1"}, b"anything" + VOXELS.tobytes()),
        ({"BinaryData": "False"}, " ".join(map(str, VOXELS.ravel())).encode()),
    ],
)
def test_where_the_voxels_of_a_metaimage_lie(changes: dict, data: bytes, tmp_path: Path) -> None:
    assert np.array_equal(read_in_silence(write(tmp_path / "a.mha", changes, data))[0], VOXELS)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"NDims": "100"}, "100 dimensions"),
        ({"NDims": "-1"}, "-1 dimensions"),
        ({"NDims": str(2**63 - 1)}, "dimensions"),
        ({"NDims": "three"}, "three"),
        ({"DimSize": "7 6"}, "2 sizes"),
        ({"ElementType": "MET_STRING"}, "string"),
        ({"ElementNumberOfChannels": "3"}, "colour, vector"),
        ({"ElementNumberOfChannels": "0"}, "0 channels"),
        ({"ElementSpacing": None}, "how large its voxels are"),
        ({"ElementSpacing": "1 2"}, "how large its voxels are"),
        ({"DistanceUnits": "inch"}, "inch"),
        ({"TransformMatrix": "1 0 0"}, "direction"),
        ({"Offset": "1 2"}, "place"),
        ({"TransformMatrix": None, "AnatomicalOrientation": "RLI"}, "AnatomicalOrientation"),
        ({"ElementToIntensityFunctionSlope": "0"}, "slope of 0"),
        ({"ElementToIntensityFunctionSlope": "nan"}, "slope of nan"),
        ({"HeaderSizePerSlice": "8"}, "before each slice"),
        ({"CompressedData": "True", "HeaderSize": "-1"}, "passes over"),
        ({"dimsize": "7 6 5"}, "twice"),
        ({"ElementDataFile": "d%d.raw 1 99999999999 1"}, "no numbered name"),
        ({"ElementDataFile": "d%d.raw 1 999999999 1"}, "999,999,999 data files"),
        ({"ElementDataFile": "d%d.raw 1 5 0"}, "0 data files"),
        ({"ElementDataFile": "d%09999999999d.raw 1 1 1"}, "no numbered name"),
        ({"ElementDataFile": "%s%d 1 2 1"}, "no numbered name"),
        ({"ElementDataFile": "%d%d 1 2 1"}, "no numbered name"),
        ({"ElementDataFile": "LIST"}, "0 data files"),
        ({"ElementDataFile": ""}, "missing"),
    ],
)
def test_refused_statements_of_a_metaimage(changes: dict, words: str, tmp_path: Path) -> None:
    data = b"" if changes.get("ElementDataFile") == "LIST" else VOXELS.tobytes()
    refused(write(tmp_path / "a.mha", changes, data), words)


def test_metaimage_that_contradicts_itself_is_reported(tmp_path: Path) -> None:
    with pytest.warns(VolumeWarning, match="the matrix is used"):
        assert np.allclose(
            read_volume(write(tmp_path / "a.mha", {"AnatomicalOrientation": "LPI"})).affine[:3], PLAIN
        )
    with pytest.warns(VolumeWarning, match="Left and right"):
        read_volume(write(tmp_path / "b.mha", {"TransformMatrix": None}))


def nifti(path: Path, changes: dict, affine: np.ndarray | None = None) -> Path:
    """Write a NIfTI file with sform and qform, then overwrite fields of its header."""
    image = nibabel.Nifti1Image(VOXELS.T, np.diag([-1, -1, 1, 1]) @ np.vstack([PLAIN, [0, 0, 0, 1]]))
    image.set_qform(image.affine, 1)
    raw = bytearray(image.to_bytes())
    record = np.frombuffer(raw, _NIFTI1, 1)[0].copy()
    for name, value in changes.items():
        record[name] = value
    raw[: _NIFTI1.itemsize] = record.tobytes()
    path.write_bytes(bytes(raw))
    return path


HALF = np.sqrt(0.5)


@pytest.mark.parametrize(
    ("changes", "affine"),
    [
        ({}, PLAIN),
        ({"xyzt_units": 0}, PLAIN),
        ({"xyzt_units": 2 + 8}, PLAIN),
        ({"xyzt_units": 1, "srow": [[-0.001, 0, 0, 0], [0, -0.002, 0, 0], [0, 0, 0.003, 0]], "qform_code": 0,
          "pixdim": [1, 0.001, 0.002, 0.003, 0, 0, 0, 0]}, [[1, 0, 0, 0], [0, 2, 0, 0], [0, 0, 3, 0]]),
        ({"xyzt_units": 3, "sform_code": 0, "pixdim": [1, 1e3, 2e3, 3e3, 0, 0, 0, 0],
          "qoffset": [-1e4, -2e4, 3e4]}, PLAIN),
        ({"sform_code": 0}, PLAIN),
        ({"sform_code": 0, "quatern": [0, 0, 1.0000001]}, PLAIN),
        ({"sform_code": 0, "quatern": [0, 0, 0], "pixdim": [-1, 1, 2, 3, 0, 0, 0, 0]},
         [[-1, 0, 0, 10], [0, -2, 0, 20], [0, 0, -3, 30]]),
        ({"sform_code": 0, "quatern": [0, 0, 0], "pixdim": [0, 1, 2, 3, 0, 0, 0, 0]},
         [[-1, 0, 0, 10], [0, -2, 0, 20], [0, 0, 3, 30]]),
        ({"sform_code": 0, "quatern": [0, 0, HALF]}, [[0, 2, 0, 10], [-1, 0, 0, 20], [0, 0, 3, 30]]),
        ({"dim": [4, 7, 6, 5, 1, 1, 1, 1]}, PLAIN),
        ({"scl_slope": 0, "scl_inter": 7}, PLAIN),
        ({"scl_slope": np.nan, "scl_inter": np.nan}, PLAIN),
        ({"intent_code": 1002}, PLAIN),
    ],
)  # fmt: skip
def test_statements_of_a_nifti(changes: dict, affine: list, tmp_path: Path) -> None:
    voxels, place = read_in_silence(nifti(tmp_path / "a.nii", changes))
    assert np.array_equal(voxels, VOXELS)
    assert np.allclose(place, affine, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"xyzt_units": 5}, "unit of length"),
        ({"sform_code": 0, "quatern": [0, 0, 1.3]}, "unit length"),
        ({"sform_code": 0, "quatern": [np.nan, 0, 1]}, "unit length"),
        ({"sform_code": 0, "pixdim": [1, 1, -2, 3, 0, 0, 0, 0]}, "spacing"),
        ({"vox_offset": 0}, "byte 0"),
        ({"vox_offset": -352}, "byte -352"),
        ({"vox_offset": 352.5}, "byte 352.5"),
        ({"vox_offset": np.nan}, "byte nan"),
        ({"vox_offset": 1e30}, "byte 1e+30"),
        ({"scl_slope": 1, "scl_inter": np.nan}, "scaled by"),
        ({"scl_slope": np.inf}, "scaled by"),
        ({"intent_code": 3}, "no image of the body"),
        ({"intent_code": 1007}, "no image of the body"),
        ({"datatype": 77}, "type 77"),
        ({"dim": [9, 7, 6, 5, 1, 1, 1, 1]}, "9 dimensions"),
        ({"srow": np.zeros((3, 4)), "qform_code": 0}, "spacing"),
    ],
)
def test_refused_statements_of_a_nifti(changes: dict, words: str, tmp_path: Path) -> None:
    refused(nifti(tmp_path / "a.nii", changes), words)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"srow": np.zeros((3, 4))}, "its qform is used"),
        ({"srow": np.full((3, 4), np.nan)}, "its qform is used"),
        ({"qoffset": [50, 0, 0]}, "twice how it lies"),
        ({"qform_code": 0, "pixdim": [1, 4, 4, 4, 0, 0, 0, 0]}, "twice how large"),
        ({"quatern": [0, 0, 3], "pixdim": [1, 4, 4, 4, 0, 0, 0, 0]}, "twice how large"),
    ],
)
def test_nifti_that_contradicts_itself_is_reported(changes: dict, words: str, tmp_path: Path) -> None:
    with pytest.warns(VolumeWarning, match=words):
        assert np.allclose(read_volume(nifti(tmp_path / "a.nii", changes)).affine[:3], PLAIN, atol=1e-4)


def test_simpleitk_agrees_where_it_reads_the_same_statements(tmp_path: Path) -> None:
    files = [
        *(
            write(tmp_path / f"{number}.nrrd", changes)
            for number, (changes, _) in enumerate(NRRD_PLACES)
            if changes.get("space", "LPS")
            in ("LPS", "RAS", "left-posterior-superior", "right-anterior-superior")
            and "space units" not in changes
        ),
        *(
            write(tmp_path / f"{number}.mha", changes)
            for number, (changes, _) in enumerate(META_PLACES)
            if "TransformMatrix" not in changes and "DistanceUnits" not in changes
        ),
    ]
    assert len(files) > 8
    for file in files:
        ours, theirs = read_volume(file), sitk.ReadImage(str(file))
        assert np.array_equal(ours.voxels, sitk.GetArrayFromImage(theirs))
        for index in ((0, 0, 0), (1, 2, 3), (4, 0, 0)):
            point = theirs.TransformIndexToPhysicalPoint(index[::-1])
            assert np.allclose(point, ours.grid.to_patient(index)), file


def test_header_lines_that_are_no_text(tmp_path: Path) -> None:
    name = write(tmp_path / "a.nrrd", {"=k\u00e9y": "v\\nw\\\\n"})
    name.write_bytes(name.read_bytes().replace("k\u00e9y".encode(), b"k\xe9y"))
    assert np.array_equal(read_volume(name).voxels, VOXELS)
    other = write(tmp_path / "a.mha", {"k\u00e9y": "v"})
    other.write_bytes(other.read_bytes().replace("k\u00e9y".encode(), b"k\xe9y"))
    assert np.array_equal(read_volume(other).voxels, VOXELS)


@pytest.mark.parametrize("length", [1_100, 100_000, 20_000_000])
def test_long_lines(length: int, tmp_path: Path) -> None:
    refused(write(tmp_path / "a.nrrd", {"k" * length: "x"}), "a.nrrd")
    path = write(tmp_path / "b.nrrd", {"=key": "x" * length})
    if length < 16 << 20:
        assert np.array_equal(read_volume(path).voxels, VOXELS)
    else:
        refused(path, "16 MiB")


@pytest.mark.parametrize("value", ["x", "", "1.5", "-1", "99999999999999999999"])
def test_segments_with_impossible_label_values(value: str, tmp_path: Path) -> None:
    layered = {
        "dimension": "4",
        "type": "uchar",
        "sizes": "2 7 6 5",
        "kinds": "list domain domain domain",
        "space directions": "none (1,0,0) (0,2,0) (0,0,3)",
    }
    path = write(tmp_path / "a.seg.nrrd", {**layered, "=Segment0_LabelValue": value}, bytes(420))
    with pytest.raises(VolumeError, match="label value"):
        read_labels(path)
