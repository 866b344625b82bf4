"""RTSTRUCT, several files for one series, files without references, and segments that overlap."""

from __future__ import annotations

import json
import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import generate_uid
from typer.testing import CliRunner

from multiorganseg.errors import TrainingError, VolumeError
from multiorganseg.organs.catalogue import load_catalogue
from multiorganseg.organs.labels import LabelTable
from multiorganseg.results.dicom_seg import write_dicom_seg
from multiorganseg.results.rtstruct import mask_outlines, write_rtstruct
from multiorganseg.results.segmentation import Segmentation
from multiorganseg.volumes.check import VolumeWarning
from multiorganseg.volumes.read import read_labels, read_volume
from multiorganseg.volumes.volume import Volume
from multiorganseg.volumes.write import write_volume
from multiorganseg_training.cli.app import app
from multiorganseg_training.project import add_case, create_project, load_project
from multiorganseg_training.project.import_dataset import import_into
from multiorganseg_training.project.read_dataset import DatasetFormat, format_of, open_dataset, read_nnunet
from multiorganseg_training.project.rtstruct import fill_polygon, region_masks

ENGINE = runpy.run_path(str(Path(__file__).parents[2] / "engine" / "results" / "conftest.py"))
TABLE = LabelTable(ENGINE["TABLE"].organs)
SHAPE = (8, 24, 26)
DIRECTIONS = {
    "axial": None,
    "tilted": np.array([[6.0, 0.0, 0.0], [0.0, 6.0, 2.5], [0.0, 0.0, 8.0]]),
    "coronal": np.array([[6.0, 0.0, 0.0], [0.0, 0.0, 6.0], [0.0, -6.0, 0.0]]),
    "oblique": np.array([[5.9, 0.0, 1.45], [0.0, 6.0, 0.0], [-1.09, 0.0, 7.87]]),
}


@pytest.fixture(params=DIRECTIONS)
def drawn(request, tmp_path: Path) -> tuple[Path, Segmentation, list[Path]]:
    """A folder with a series, what was drawn on it, and its files."""
    return draw(tmp_path, request.param)


@pytest.fixture
def axial(tmp_path: Path) -> tuple[Path, Segmentation, list[Path]]:
    return draw(tmp_path, "axial")


def draw(tmp_path: Path, name: str) -> tuple[Path, Segmentation, list[Path]]:
    truth, _ = ENGINE["case"](ENGINE["grid"](SHAPE, DIRECTIONS[name]))
    ENGINE["write_dicom_series"](truth, tmp_path / "dicom" / name)
    volume = read_volume(tmp_path / "dicom" / name)
    _, made = ENGINE["case"](volume.grid)
    return tmp_path / "dicom", made, sorted((tmp_path / "dicom" / name).iterdir())


def only(made: Segmentation, *organs: str) -> Segmentation:
    """The segmentation with some of its organs."""
    values = [value for value, key in made.table.organs.items() if key in organs]
    return replace(made, labels=np.where(np.isin(made.labels, values), made.labels, 0).astype(np.uint8))


def imported(
    folder: Path, target: Path, organs: tuple[str, ...], rules: dict[str, str] | None = None
) -> Path:
    create_project(target, "P", LabelTable.numbered(organs))
    with open_dataset(folder, rules=rules or {}) as dataset:
        import_into(dataset, target, rules or {})
    return target


def mask(folder: Path, case: str, organ: str) -> np.ndarray:
    project = load_project(folder)
    return read_labels(project.labels_path(case)).voxels == project.table.value(organ)


def test_contours_come_back_voxel_by_voxel(drawn, tmp_path):
    folder, made, files = drawn
    write_rtstruct(made, folder / "plan.rtstruct.dcm", load_catalogue(), files)
    assert format_of(folder) is DatasetFormat.DICOM_SEG
    target = imported(folder, tmp_path / "P", TABLE.keys)
    (case,) = load_project(target).cases
    assert case == "plan"
    for value, key in TABLE.organs.items():
        if (made.labels == value).any():
            np.testing.assert_array_equal(mask(target, case, key), made.labels == value)


def test_any_mask_is_traced_and_filled_again(tmp_path):
    generator = np.random.default_rng(3)
    for _ in range(40):
        plane = generator.random((1, 13, 17)) > generator.random()
        plane[:, 4:7, 4:9] = True
        again = np.zeros_like(plane)
        for k, corners in mask_outlines(plane):
            again[k] ^= fill_polygon(corners, plane.shape[1:])
        np.testing.assert_array_equal(again, plane)


def test_a_ring_is_filled_as_a_keyhole_and_as_two_contours(axial):
    folder, made, files = axial
    ring = np.zeros(SHAPE, np.uint8)
    ring[3, 5:15, 5:15] = 6
    ring[3, 8:11, 8:11] = 0
    path = folder / "ring.dcm"
    write_rtstruct(replace(made, labels=ring), path, load_catalogue(), files)
    data = pydicom.dcmread(path)
    assert len(data.ROIContourSequence[0].ContourSequence) == 1
    np.testing.assert_array_equal(region_masks(data, made.grid, path)[1], ring > 0)
    outer, inner = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    outer[3, 5:15, 5:15], inner[3, 8:11, 8:11] = True, True
    contours = []
    for each in (outer, inner):
        ((k, corners),) = mask_outlines(each)
        contour = pydicom.Dataset()
        contour.ContourGeometricType, contour.NumberOfContourPoints = "CLOSED_PLANAR", len(corners)
        points = made.grid.to_patient(np.insert(corners, 0, k, axis=1))
        contour.ContourData = [f"{value:.3f}" for value in points.ravel()]
        contours.append(contour)
    data.ROIContourSequence[0].ContourSequence = [*contours, contours[1]]
    np.testing.assert_array_equal(region_masks(data, made.grid, path)[1], ring > 0)


def test_regions_of_a_planning_system_are_named_as_they_are(axial, tmp_path):
    """Without codes, with a point, and with a slice that was left out."""
    folder, made, files = axial
    path = folder / "plan.dcm"
    write_rtstruct(only(made, "liver", "spleen"), path, load_catalogue(), files)
    data = pydicom.dcmread(path)
    for item in data.RTROIObservationsSequence:
        del item.RTROIIdentificationCodeSequence
    names = {"liver": "Leber", "spleen": "PTV 1"}
    for item in data.StructureSetROISequence:
        item.ROIName = names[item.ROIName]
    lost = data.ROIContourSequence[1].ContourSequence
    middle = float(lost[len(lost) // 2].ContourData[2])
    data.ROIContourSequence[1].ContourSequence = [c for c in lost if float(c.ContourData[2]) != middle]
    point = pydicom.Dataset()
    point.ReferencedROINumber, spot = 9, pydicom.Dataset()
    spot.ContourGeometricType, spot.NumberOfContourPoints, spot.ContourData = "POINT", 1, [0, 0, 0]
    point.ContourSequence = [spot]
    data.ROIContourSequence.append(point)
    extra = pydicom.Dataset()
    extra.ROINumber, extra.ROIName = 9, "isocentre"
    data.StructureSetROISequence.append(extra)
    data.save_as(path)
    rules = {"Leber": "liver", "PTV 1": "background"}
    with pytest.warns(VolumeWarning, match="no contour on 1 slice"):
        target = imported(folder, tmp_path / "P", ("liver",), rules)
    expected = made.labels == TABLE.value("liver")
    expected[round(float(made.grid.to_index((0, 0, middle))[0]))] = False
    assert load_project(target).table.keys == ("liver",)
    np.testing.assert_array_equal(mask(target, "plan", "liver"), expected)


def test_contours_between_slices_are_refused(axial, tmp_path):
    folder, made, files = axial
    path = folder / "plan.dcm"
    write_rtstruct(made, path, load_catalogue(), files)
    data = pydicom.dcmread(path)
    contour = data.ROIContourSequence[0].ContourSequence[0]
    points = np.array(contour.ContourData, float).reshape(-1, 3) + np.array([0, 0, 4])
    contour.ContourData = [f"{value:.2f}" for value in points.ravel()]
    data.save_as(path)
    with pytest.raises(VolumeError, match="not lie on the slices"):
        imported(folder, tmp_path / "P", TABLE.keys)


def test_several_files_of_one_series_are_one_case(axial, tmp_path):
    folder, made, files = axial
    write_dicom_seg(only(made, "liver", "aorta"), folder / "reader.seg.dcm", load_catalogue(), files)
    write_dicom_seg(only(made, "spleen", "aorta"), folder / "second.seg.dcm", load_catalogue(), files)
    write_rtstruct(only(made, "kidney_right"), folder / "plan.dcm", load_catalogue(), files)
    target = imported(folder, tmp_path / "P", TABLE.keys)
    (case,) = load_project(target).cases
    assert case == "axial"
    for key in ("liver", "spleen", "aorta", "kidney_right"):
        np.testing.assert_array_equal(mask(target, case, key), made.labels == TABLE.value(key))


def test_two_files_that_draw_an_organ_differently_are_refused(axial, tmp_path):
    folder, made, files = axial
    write_dicom_seg(only(made, "liver"), folder / "a.dcm", load_catalogue(), files)
    moved = replace(made, labels=np.roll(only(made, "liver").labels, 1, axis=2))
    write_dicom_seg(moved, folder / "b.dcm", load_catalogue(), files)
    with pytest.raises(VolumeError, match=r"a\.dcm and b\.dcm draw liver differently"):
        imported(folder, tmp_path / "P", ("liver",))


@pytest.mark.parametrize("write", [write_dicom_seg, write_rtstruct])
@pytest.mark.parametrize("reference", ["none", "unknown"])
def test_a_file_without_its_reference_is_matched_by_its_place(axial, tmp_path, write, reference):
    folder, made, files = axial
    other, _ = ENGINE["case"](ENGINE["grid"](SHAPE, DIRECTIONS["oblique"]))
    ENGINE["write_dicom_series"](other, folder / "other")
    path = folder / "seg.dcm"
    write(made, path, load_catalogue(), files)
    data = pydicom.dcmread(path)
    if write is write_dicom_seg and reference == "none":
        del data.ReferencedSeriesSequence
    elif write is write_dicom_seg:
        data.ReferencedSeriesSequence[0].SeriesInstanceUID = generate_uid()
    elif reference == "none":
        del data.ReferencedFrameOfReferenceSequence
    else:
        study = data.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0]
        study.RTReferencedSeriesSequence[0].SeriesInstanceUID = generate_uid()
    data.save_as(path)
    with pytest.warns(VolumeWarning, match="was taken as drawn on it"):
        target = imported(folder, tmp_path / "P", TABLE.keys)
    np.testing.assert_array_equal(mask(target, "seg", "liver"), made.labels == TABLE.value("liver"))


def test_a_file_that_fits_several_series_is_refused(axial, tmp_path):
    folder, made, files = axial
    write_dicom_seg(made, folder / "seg.dcm", load_catalogue(), files)
    data = pydicom.dcmread(folder / "seg.dcm")
    del data.ReferencedSeriesSequence
    data.save_as(folder / "seg.dcm")
    (folder / "late").mkdir()
    phase = generate_uid()
    for file in files:
        copy = pydicom.dcmread(file)
        copy.SeriesInstanceUID = phase
        copy.SOPInstanceUID = copy.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        copy.save_as(folder / "late" / file.name)
    with pytest.raises(VolumeError, match="fits 2 series"):
        imported(folder, tmp_path / "P", TABLE.keys)


def overlapping(folder: Path, made: Segmentation, files: list[Path]) -> tuple[np.ndarray, np.ndarray]:
    """Write a liver and a tumour in it as whole structures that overlap; return both masks."""
    liver = made.labels == TABLE.value("liver")
    tumour = np.zeros_like(liver)
    k, j, i = (int(np.median(axis)) for axis in np.nonzero(liver))
    tumour[k : k + 2, j : j + 2, i : i + 2] = liver[k : k + 2, j : j + 2, i : i + 2]
    for name, each in (("liver", liver), ("liver_tumor", tumour)):
        part = replace(made, labels=each.astype(np.uint8), table=LabelTable({1: name}), statistics=())
        write_dicom_seg(part, folder / f"{name}.dcm", load_catalogue(), files)
    return liver, tumour


def test_a_structure_keeps_what_lies_within_its_organ(axial, tmp_path):
    folder, made, files = axial
    liver, tumour = overlapping(folder, made, files)
    target = imported(folder, tmp_path / "P", ("liver", "liver_tumor"))
    np.testing.assert_array_equal(mask(target, "axial", "liver_tumor"), tumour)
    np.testing.assert_array_equal(mask(target, "axial", "liver"), liver & ~tumour)


def test_what_counts_as_background_or_as_the_same_organ_may_overlap(axial, tmp_path):
    folder, made, files = axial
    liver, _ = overlapping(folder, made, files)
    one = imported(folder, tmp_path / "P", ("liver",), {"liver_tumor": "background"})
    other = imported(folder, tmp_path / "Q", ("liver",), {"liver_tumor": "liver"})
    for target in (one, other):
        np.testing.assert_array_equal(mask(target, "axial", "liver"), liver)


def test_strangers_that_overlap_are_refused_unless_one_is_left_out(axial, tmp_path):
    folder, made, files = axial
    liver = made.labels == TABLE.value("liver")
    for name in ("liver", "spleen"):
        part = replace(made, labels=liver.astype(np.uint8), table=LabelTable({1: name}), statistics=())
        write_dicom_seg(part, folder / f"{name}.dcm", load_catalogue(), files)
    with pytest.raises(VolumeError, match="overlap") as raised:
        imported(folder, tmp_path / "P", ("liver", "spleen"))
    assert "background" in raised.value.next_step
    target = imported(folder, tmp_path / "Q", ("liver",), {"spleen": "background"})
    np.testing.assert_array_equal(mask(target, "axial", "liver"), liver)


def run(*command: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(map(str, command)))
    assert result.exit_code == code, result.output
    return result.output


@pytest.mark.parametrize("kind", ["seg", "rtstruct", "seg.nrrd"])
def test_one_organ_is_annotated_from_a_file_whose_segments_overlap(axial, tmp_path, kind):
    folder, made, files = axial
    liver = made.labels == TABLE.value("liver")
    shifted = np.roll(liver, 2, axis=2)
    target = create_project(tmp_path / "P", "P", LabelTable.numbered(["liver", "spleen"])).folder
    add_case(target, "axial", folder / "axial")
    path = tmp_path / f"drawn.{kind}"
    if kind == "seg.nrrd":
        voxels = np.stack([liver, shifted], axis=-1).astype(np.uint8)
        pairs = {}
        for number, name in enumerate(("liver", "Milz (alt)")):
            pairs |= {f"Segment{number}_{key}": value for key, value in {
                "ID": f"Segment_{number + 1}", "Name": name, "Layer": str(number), "LabelValue": "1",
            }.items()}  # fmt: skip
        write_layers(path, voxels, made.affine, pairs)
    else:
        write = write_dicom_seg if kind == "seg" else write_rtstruct
        for name, each in (("liver", liver), ("aorta", shifted)):
            part = replace(made, labels=each.astype(np.uint8), table=LabelTable({1: name}), statistics=())
            write(part, tmp_path / f"{name}.dcm", load_catalogue(), files)
        join(kind, tmp_path / "liver.dcm", tmp_path / "aorta.dcm", path)
    told = run("project", "annotate", target, "axial", path, "--organ", "liver")
    assert f"{int(liver.sum())} voxels" in told
    np.testing.assert_array_equal(mask(target, "axial", "liver"), liver)
    other = "Milz (alt)" if kind == "seg.nrrd" else "aorta"
    run("project", "annotate", target, "axial", path, "--organ", f"spleen={other}")
    np.testing.assert_array_equal(mask(target, "axial", "spleen"), shifted)
    assert other in run("project", "annotate", target, "axial", path, "--organ", "spleen", code=8)


def write_layers(path: Path, voxels: np.ndarray, affine: np.ndarray, pairs: dict[str, str]) -> None:
    """Write a .seg.nrrd of several layers as 3D Slicer does: the layers are the fastest axis."""
    shape = voxels.shape[:3]
    vectors = " ".join(f"({','.join(f'{x:.17g}' for x in affine[:3, axis])})" for axis in range(3))
    lines = [
        "NRRD0004", "type: unsigned char", "dimension: 4", "space: left-posterior-superior",
        f"sizes: {voxels.shape[3]} {shape[2]} {shape[1]} {shape[0]}",
        f"space directions: none {vectors}", "kinds: list domain domain domain", "encoding: raw",
        f"space origin: ({','.join(f'{x:.17g}' for x in affine[:3, 3])})",
        *(f"{key}:={value}" for key, value in pairs.items()),
    ]  # fmt: skip
    path.write_bytes("\n".join(lines).encode() + b"\n\n" + np.ascontiguousarray(voxels).tobytes())


def join(kind: str, first: Path, second: Path, path: Path) -> None:
    """Put the segments of two files into one."""
    one, two = pydicom.dcmread(first), pydicom.dcmread(second)
    if kind == "rtstruct":
        for name, number in (
            ("StructureSetROISequence", "ROINumber"),
            ("ROIContourSequence", "ReferencedROINumber"),
            ("RTROIObservationsSequence", "ReferencedROINumber"),
        ):
            item = two[name].value[0]
            setattr(item, number, 2)
            one[name].value.append(item)
    else:
        item = two.SegmentSequence[0]
        item.SegmentNumber = 2
        one.SegmentSequence.append(item)
        for number, data in enumerate((one, two), start=1):
            numbered = pydicom.Dataset()
            numbered.ReferencedSegmentNumber = number
            for frame in data.PerFrameFunctionalGroupsSequence:
                frame.SegmentIdentificationSequence = [numbered]
        del one.SharedFunctionalGroupsSequence[0].SegmentIdentificationSequence
        pixels = np.concatenate(
            [np.atleast_3d(each.pixel_array).reshape(-1, *SHAPE[1:]) for each in (one, two)]
        )
        one.PerFrameFunctionalGroupsSequence.extend(two.PerFrameFunctionalGroupsSequence)
        one.NumberOfFrames = len(pixels)
        one.PixelData = np.packbits(pixels.ravel(), bitorder="little").tobytes()
        if len(one.PixelData) % 2:
            one.PixelData += b"\0"
    one.save_as(path)


def test_other_dicom_files_are_no_annotations(axial, tmp_path):
    folder, _, files = axial
    target = create_project(tmp_path / "P", "P", LabelTable.numbered(["liver"])).folder
    add_case(target, "axial", folder / "axial")
    assert "no annotation" in run(
        "project", "annotate", target, "axial", files[0], "--organ", "liver", code=3
    )


def nnunet_1(folder: Path, channels: int = 1, **changes: object) -> Path:
    voxels = np.arange(4 * 6 * 8, dtype=np.int16).reshape(4, 6, 8)
    labels = np.zeros(voxels.shape, np.uint8)
    labels[1:3, 2:4, 2:4] = 1
    labels[1, 2, 2] = 2
    for case in ("a", "b"):
        for channel in range(channels):
            write_volume(
                Volume(voxels + 1000 * channel, np.eye(4)),
                folder / "imagesTr" / f"{case}_{channel:04d}.nii.gz",
            )
        write_volume(Volume(labels, np.eye(4)), folder / "labelsTr" / f"{case}.nii.gz")
    described = {
        "name": "Liver",
        "modality": {str(channel): name for channel, name in enumerate(("CT", "MRI")[:channels])},
        "labels": {"0": "background", "1": "liver", "2": "cancer"},
        "numTraining": 2,
        "training": [
            {"image": f"./imagesTr/{case}.nii.gz", "label": f"./labelsTr/{case}.nii.gz"} for case in "ab"
        ],
        "test": [],
        **changes,
    }
    (folder / "dataset.json").write_text(json.dumps(described), encoding="utf-8")
    return folder


def test_nnunet_1_is_read_as_it_is(tmp_path):
    folder = nnunet_1(tmp_path / "Task101_Liver")
    assert format_of(folder) is DatasetFormat.NNUNET
    dataset = read_nnunet(folder)
    assert dataset.labels == {1: "liver", 2: "cancer"}
    assert [case.image.name for case in dataset.cases] == ["a_0000.nii.gz", "b_0000.nii.gz"]
    target = create_project(tmp_path / "P", "P", LabelTable.numbered(["liver"])).folder
    run("project", "import", target, folder, "--label", "cancer=liver")
    assert mask(target, "a", "liver").sum() == 8


def test_a_channel_of_nnunet_1_is_chosen(tmp_path):
    folder = nnunet_1(tmp_path / "Task102_Two", channels=2)
    with pytest.raises(TrainingError, match="2 channels"):
        read_nnunet(folder)
    target = create_project(tmp_path / "P", "P", LabelTable.numbered(["liver"]), modality="MR").folder
    run("project", "import", target, folder, "--channel", 1, "--label", "cancer=background")
    assert read_volume(load_project(target).image_path("a")).voxels.min() == 1000


def test_two_values_of_one_name_are_refused_in_nnunet_1(tmp_path):
    labels = {"0": "background", "1": "liver", "2": "liver"}
    with pytest.raises(TrainingError, match="Two values are called liver"):
        read_nnunet(nnunet_1(tmp_path / "Task103_Bad", labels=labels))
