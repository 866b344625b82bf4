"""Which cases a path on the command line stands for, and where their results go."""

from __future__ import annotations

import csv
import json
import os
import shutil
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
from typer.testing import CliRunner, Result

from multiorganseg.bundles import Bundle
from multiorganseg.cli.app import app
from multiorganseg.cli.inputs import Case, expand_inputs
from multiorganseg.errors import ResourceError, VolumeError
from multiorganseg.progress import Progress
from multiorganseg.volumes import Volume, VolumeWarning, write_volume

QUICK = ("--no-preview", "--device", "cpu")


def voxels(count: int = 12) -> np.ndarray:
    _, j, i = np.mgrid[:count, :24, :24]
    body = ((j - 12) / 9) ** 2 + ((i - 12) / 10) ** 2 < 1
    return np.where(body, 50 + np.random.default_rng(1).normal(0, 10, body.shape), -1000).astype(np.int16)


def nifti(path: Path, array: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = voxels() if array is None else array
    write_volume(Volume(image, np.diag([2.0, 2.0, 3.0, 1.0])), path)
    return path


def mask(path: Path) -> Path:
    return nifti(path, (voxels() > 0).astype(np.uint8))


def series(folder: Path, uid: str = "1.2.1", count: int = 12, names: str = "IM{}", **fields: object) -> Path:
    for k, plane in enumerate(voxels(count)):
        slice_ = pydicom.Dataset()
        slice_.file_meta = pydicom.dataset.FileMetaDataset()
        slice_.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        slice_.SOPClassUID = slice_.file_meta.MediaStorageSOPClassUID = pydicom.uid.CTImageStorage
        slice_.SOPInstanceUID = slice_.file_meta.MediaStorageSOPInstanceUID = f"{uid}.{k + 1}"
        slice_.SeriesInstanceUID, slice_.StudyInstanceUID, slice_.Modality = uid, "1.2", "CT"
        slice_.SeriesNumber, slice_.SeriesDescription = 3, "Abdomen 5.0"
        slice_.Rows, slice_.Columns, slice_.SamplesPerPixel = 24, 24, 1
        slice_.PhotometricInterpretation = "MONOCHROME2"
        slice_.BitsAllocated, slice_.BitsStored, slice_.HighBit, slice_.PixelRepresentation = 16, 16, 15, 1
        slice_.ImagePositionPatient, slice_.ImageOrientationPatient = [0, 0, 3.0 * k], [1, 0, 0, 0, 1, 0]
        slice_.PixelSpacing, slice_.RescaleSlope, slice_.RescaleIntercept = [2, 2], 1, 0
        slice_.PixelData = plane.tobytes()
        for name, value in fields.items():
            setattr(slice_, name, value)
        file = folder / names.format(k)
        file.parent.mkdir(parents=True, exist_ok=True)
        slice_.save_as(file, enforce_file_format=True)
    return folder


def found(*paths: Path) -> dict[str, str]:
    """Sub-folder of the output by path, relative to the first input."""
    root = paths[0] if paths[0].is_dir() else paths[0].parent
    return {case.path.relative_to(root).as_posix(): case.folder.as_posix() for case in expand_inputs(paths)}


def test_folders_are_searched_to_any_depth(tmp_path: Path) -> None:
    nifti(tmp_path / "a.nii.gz")
    nifti(tmp_path / "sub" / "b.nrrd")
    series(tmp_path / "patient" / "study" / "series 1")
    assert found(tmp_path) == {
        "a.nii.gz": ".",
        "sub/b.nrrd": "sub",
        "patient/study/series 1": "patient/study",
    }
    (case,) = expand_inputs([tmp_path / "patient"])
    assert case.read().voxels.shape == (12, 24, 24)


def test_cases_of_one_name_keep_their_folders(tmp_path: Path) -> None:
    for patient in ("p1", "p2"):
        nifti(tmp_path / patient / "ct.nii.gz")
    assert found(tmp_path) == {"p1/ct.nii.gz": "p1", "p2/ct.nii.gz": "p2"}
    files = [tmp_path / "p1" / "ct.nii.gz", tmp_path / "p2" / "ct.nii.gz"]
    assert [case.folder.as_posix() for case in expand_inputs(files)] == ["p1", "p2"]
    series(tmp_path / "dicom" / "x" / "CT")
    series(tmp_path / "dicom" / "y" / "CT", "1.2.9")
    assert found(tmp_path / "dicom") == {"x/CT": "x", "y/CT": "y"}


def test_an_export_with_several_series_in_one_folder(tmp_path: Path) -> None:
    series(tmp_path, "1.2.1", names="IMAGES/A{}", SeriesNumber=2)
    series(tmp_path, "1.2.2", names="IMAGES/B{}", SeriesNumber=3)
    series(tmp_path, "1.2.3", names="IMAGES/C{}", SeriesNumber=3)
    series(tmp_path, "1.2.4", 3, names="IMAGES/S{}", SeriesDescription="scout")
    (tmp_path / "viewer.exe").write_bytes(b"MZ" * 99)
    (tmp_path / "IMAGES" / "index.html").write_text("<html>")
    cases = expand_inputs([tmp_path])
    assert [case.name for case in cases] == ["2_Abdomen_5.0", "3_Abdomen_5.0_1", "3_Abdomen_5.0_2"]
    assert {case.path.parent.name for case in cases} == {"IMAGES"}
    assert sum("scout" in note for case in cases for note in case.notes) == 1
    for case, uid in zip(cases, ("1.2.1", "1.2.2", "1.2.3"), strict=True):
        with pytest.warns(VolumeWarning, match=r"no DICOM were left out: index\.html"):
            assert case.read().voxels.shape == (12, 24, 24)
        files = case.dicom_files()
        assert files is not None
        assert {str(pydicom.dcmread(file).SeriesInstanceUID) for file in files} == {uid}


def test_a_series_spread_over_folders_is_one_case(tmp_path: Path) -> None:
    series(tmp_path / "export", names="D{0}/IM{0}")
    assert found(tmp_path) == {"export": "."}
    assert expand_inputs([tmp_path])[0].read().voxels.shape == (12, 24, 24)


def test_small_series_alone_are_cases_of_their_folders(tmp_path: Path) -> None:
    series(tmp_path / "a", "1.2.1", 5)
    series(tmp_path / "b", "1.2.2", 6)
    assert found(tmp_path) == {"a": ".", "b": "."}
    series(tmp_path / "b", "1.2.3", 5, names="X{}")
    with pytest.raises(VolumeError, match="2 DICOM series"):
        expand_inputs([tmp_path])


def test_a_patient_whose_slices_are_torn_apart_fails_alone(tmp_path: Path) -> None:
    series(tmp_path / "good")
    for k in range(12):
        position = [0, 0, 3.0 * k]
        series(tmp_path / "torn", f"1.2.9.{k + 1}", 1, names=f"{k}_{{}}", ImagePositionPatient=position)
    good, torn = expand_inputs([tmp_path])
    assert good.read().voxels.shape == (12, 24, 24)
    with pytest.raises(VolumeError, match="is a series of its own"):
        torn.read()


@pytest.mark.parametrize("inside", ["", "labels"])
def test_a_label_map_beside_a_series_is_left_out_and_reported(tmp_path: Path, inside: str) -> None:
    series(tmp_path / "case")
    mask(tmp_path / "case" / inside / "liver.nii.gz")
    (case,) = expand_inputs([tmp_path / "case"])
    with pytest.warns(VolumeWarning, match="liver.nii.gz is a label map"):
        volume = case.read()
    assert volume.voxels.min() < -900
    assert any("liver.nii.gz" in message for message in volume.warnings)


def test_an_image_beside_a_series_is_a_case_too(tmp_path: Path) -> None:
    series(tmp_path / "case")
    nifti(tmp_path / "case" / "mr.nii.gz")
    assert found(tmp_path / "case") == {"mr.nii.gz": ".", ".": "."}


def test_segmentation_objects_beside_a_series_are_left_out_and_reported(tmp_path: Path) -> None:
    series(tmp_path)
    series(tmp_path, "1.2.9", 12, names="seg{}", Modality="SEG")
    (case,) = expand_inputs([tmp_path])
    assert any("SEG" in note for note in case.notes)


def test_a_label_map_is_never_segmented(tmp_path: Path) -> None:
    (case,) = expand_inputs([mask(tmp_path / "only.nii.gz")])
    with pytest.raises(VolumeError, match="is a label map, not an image"):
        case.read()
    with pytest.raises(VolumeError, match="is a label map"):
        expand_inputs([tmp_path])[0].read()


def test_nothing_to_segment_says_what_there_is(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    with pytest.raises(VolumeError, match="It holds no volume"):
        expand_inputs([tmp_path])
    series(tmp_path / "a", Modality="SR")
    with pytest.raises(VolumeError, match="modality SR"):
        expand_inputs([tmp_path])


def test_results_go_beside_a_file_that_is_named(tmp_path: Path) -> None:
    case = Case(tmp_path / "p1" / "ct.nii.gz", folder=Path("p1"))
    assert case.output(tmp_path / "out") == tmp_path / "out" / "p1"
    assert case.output(tmp_path / "out.seg.nrrd") == tmp_path / "out.seg.nrrd"


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["segment", *map(str, arguments)])


def test_what_was_left_out_and_mended_reaches_summary_json_and_events(
    tmp_path: Path, tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    folder = series(tmp_path / "case", RescaleIntercept=1024)
    (folder / "IM12").write_bytes(b"")
    events, out = tmp_path / "events.jsonl", tmp_path / "out"
    result = run(folder, "-o", out, "--model", tiny_bundle.folder, "--events", events, *QUICK)
    assert result.exit_code == 0, result.output
    document = json.loads((out / "case.statistics.json").read_text(encoding="utf-8"))
    reported = [json.loads(line) for line in events.read_text(encoding="utf-8").splitlines()]
    warned = [event["message"] for event in reported if event["event"] == "warning"]
    assert document["provenance"]["messages"] == warned
    unlike, mended, left_out = warned
    assert "unlike those that the model tiny was trained on" in unlike
    assert "1024 was subtracted" in mended
    assert "1 file(s) that are empty were left out: IM12" in left_out
    for message in warned:
        assert message[:60] in result.output
    plain = series(tmp_path / "plain")
    assert run(plain, "-o", out, "--model", tiny_bundle.folder, *QUICK).exit_code == 0
    whole = json.loads((out / "plain.statistics.json").read_text(encoding="utf-8"))
    assert document["organs"] == whole["organs"]


def test_a_name_that_would_be_too_long_is_refused_before_the_run(tmp_path: Path, tiny_bundle: Bundle) -> None:
    source = nifti(tmp_path / "ct.nii.gz")
    long = tmp_path / ("ä" * 121 + ".nii.gz")
    shutil.copy(source, long)
    result = run(source, long, "-o", tmp_path / "out", "--model", tiny_bundle.folder, *QUICK)
    assert result.exit_code == 6
    assert "would be too long" in result.output
    assert not (tmp_path / "out").exists()
    named = tmp_path / "short.seg.nrrd"
    assert run(long, "-o", named, "--model", tiny_bundle.folder, *QUICK).exit_code == 0
    assert named.is_file()


def zipped(path: Path, *folders: Path, **more: bytes) -> Path:
    """Pack folders, under names that would lead elsewhere."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for folder in folders:
            for file in sorted(folder.rglob("*")):
                if file.is_file():
                    archive.write(file, f"../../{folder.name}/{file.name}")
        for name, content in more.items():
            archive.writestr(name, content)
    return path


def test_a_zip_file_is_a_case_and_nothing_of_it_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = zipped(tmp_path / "p" / "P7.zip", series(tmp_path / "CT"), readme=b"see the PACS")
    path.chmod(0o640)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    (case,) = expand_inputs([path])
    assert (case.name, case.folder) == ("P7", Path())
    with case.at_hand(Progress()) as local:
        assert local.read().voxels.shape == (12, 24, 24)
        files = local.dicom_files()
        assert files is not None
        assert {file.stat().st_mode & 0o777 for file in files} <= {0o640}
        assert local.name == "P7"
        assert list(scratch.iterdir())
    assert not list(scratch.iterdir())
    assert sorted(file.name for file in path.parent.iterdir()) == ["P7.zip"]


def test_zip_files_of_a_cohort_are_cases_in_their_folders(tmp_path: Path) -> None:
    cohort = tmp_path / "cohort"
    zipped(cohort / "a" / "one.zip", series(tmp_path / "x"))
    zipped(
        *(cohort / "b" / "two.zip", series(tmp_path / "y", "1.2.8", SeriesNumber=4)),
        series(tmp_path / "z", "1.2.9", SeriesNumber=5),
    )
    series(cohort / "c" / "study" / "CT", "1.2.10")
    assert found(cohort) == {
        "a/one": "a",
        "b/two/4_Abdomen_5.0": "b/two",
        "b/two/5_Abdomen_5.0": "b/two",
        "c/study/CT": "c/study",
    }


@pytest.mark.parametrize("damage", ["cut", "foreign", "bomb"])
def test_a_damaged_zip_file_fails_alone(tmp_path: Path, damage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cohort = tmp_path / "cohort"
    series(cohort / "good", "1.2.10")
    path = zipped(cohort / "bad.zip", series(tmp_path / "x"))
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-400])
    elif damage == "foreign":
        zipped(path, readme=b"no images")
    else:
        usage = shutil.disk_usage(tmp_path)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
        with pytest.raises(ResourceError, match="no room"):
            expand_inputs([cohort])
        return
    cases = {case.name: case for case in expand_inputs([cohort])}
    with pytest.raises(VolumeError), cases["bad"].at_hand(Progress()):
        pass
    with cases["good"].at_hand(Progress()) as local:
        assert local.read().voxels.shape == (12, 24, 24)
    with pytest.raises(VolumeError) as raised:
        expand_inputs([path])
    assert raised.value.next_step


@pytest.mark.slow
def test_a_cohort_keeps_its_folders_and_gets_one_table(tmp_path: Path, tiny_bundle: Bundle) -> None:
    cohort, out = tmp_path / "cohort", tmp_path / "out"
    series(cohort / "p1" / "s1" / "CT", "1.2.1")
    zipped(cohort / "p2" / "CT.zip", series(tmp_path / "x", "1.2.2"))
    nifti(cohort / "p3.nii.gz", np.zeros((12, 24, 24), np.int16))
    result = CliRunner().invoke(
        app,
        [
            "segment",
            str(cohort),
            "-o",
            str(out),
            "--model",
            str(tiny_bundle.folder),
            *QUICK,
            "--quality",
            "fast",
        ],
    )
    assert result.exit_code == VolumeError.exit_code, result.output
    assert (out / "p1" / "s1" / "CT.seg.nrrd").is_file()
    assert (out / "p2" / "CT.seg.nrrd").is_file()
    table = out / "cohort.statistics.csv"
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(row["case"], row["result"]) for row in rows} == {
        ("p1/s1/CT", "done"),
        ("p2/CT", "done"),
        ("p3", "failed"),
    }
    (failed,) = (row for row in rows if row["result"] == "failed")
    assert failed["error"]
    with (out / "p2" / "CT.statistics.csv").open(encoding="utf-8", newline="") as file:
        alone = list(csv.DictReader(file))
    shared = [row for row in rows if row["case"] == "p2/CT"]
    assert [{key: row[key] for key in alone[0]} for row in shared] == alone
    assert os.name == "nt" or table.stat().st_mode & 0o077 == 0
