from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest

from multiorganseg.errors import Cancelled, ResourceError
from multiorganseg.pictures import PictureWarning
from multiorganseg.results.nifti import read_label_table
from multiorganseg.results.write import FORMATS, plan_outputs, write_results
from multiorganseg.volumes.read import read_labels, read_volume
from multiorganseg.volumes.write import write_volume


def test_folder_takes_the_inputs_name(tmp_path):
    paths = plan_outputs(tmp_path / "out", "/data/Fall ä.nii.gz", formats=FORMATS, preview=True).paths
    assert {kind: path.name for kind, path in paths.items()} == {
        "seg.nrrd": "Fall ä.seg.nrrd",
        "nii.gz": "Fall ä.seg.nii.gz",
        "dcm": "Fall ä.seg.dcm",
        "sr": "Fall ä.sr.dcm",
        "rtstruct": "Fall ä.rtstruct.dcm",
        "csv": "Fall ä.statistics.csv",
        "json": "Fall ä.statistics.json",
        "png": "Fall ä.preview.png",
    }
    assert {path.parent for path in paths.values()} == {tmp_path / "out"}


def test_file_names_itself_and_gives_the_stem(tmp_path):
    paths = plan_outputs(tmp_path / "liver.nii.gz", "/data/ct.nrrd", formats={"seg.nrrd"}, preview=True).paths
    assert {kind: path.name for kind, path in paths.items()} == {
        "seg.nrrd": "liver.seg.nrrd",
        "nii.gz": "liver.nii.gz",
        "png": "liver.preview.png",
    }


def test_the_map_of_the_uncertainty_has_a_name_of_its_own(tmp_path):
    def planned(out: Path) -> Path:
        plan = plan_outputs(out, "/data/Fall ä.nrrd", formats=set(), preview=False, uncertainty=True)
        return plan.paths["uncertainty"]

    assert planned(tmp_path / "out") == tmp_path / "out" / "Fall ä.uncertainty.nii.gz"
    assert planned(tmp_path / "liver.nii.gz") == tmp_path / "liver.uncertainty.nii.gz"
    with pytest.raises(ResourceError, match=r"not written as \.uncertainty"):
        planned(tmp_path / "liver.uncertainty.nii.gz")


def test_a_map_is_written_beside_the_rest(phantom, tmp_path):
    volume, segmentation = phantom.case()
    uncertain = np.random.default_rng(0).integers(0, 256, segmentation.labels.shape).astype(np.uint8)
    mapped = replace(segmentation, uncertainty=uncertain)
    written = write_results(mapped, volume, tmp_path / "out", formats={"csv"}, preview=False)
    assert [path.name for path in written] == [
        "patient one.statistics.csv",
        "patient one.uncertainty.nii.gz",
    ]
    again = read_volume(written[1])
    np.testing.assert_array_equal(again.voxels, uncertain)
    assert again.grid.same_as(segmentation.grid)


def test_existing_folder_with_a_volume_suffix_stays_a_folder(tmp_path):
    (tmp_path / "old.nii.gz").mkdir()
    paths = plan_outputs(tmp_path / "old.nii.gz", "ct.nii", formats={"csv"}, preview=False).paths
    assert paths == {"csv": tmp_path / "old.nii.gz" / "ct.statistics.csv"}


def test_bad_formats_are_refused(tmp_path):
    with pytest.raises(ResourceError, match="stl"):
        plan_outputs(tmp_path, "ct.nii", formats={"stl"}, preview=False)
    with pytest.raises(ResourceError, match=r"\.mha"):
        plan_outputs(tmp_path / "a.mha", "ct.nii", formats=set(), preview=False)


def test_input_is_never_replaced(phantom, tmp_path):
    volume, _ = phantom.case()
    write_volume(volume, tmp_path / "ct.nii.gz")
    with pytest.raises(ResourceError, match="would replace the input"):
        plan_outputs(tmp_path / "ct.nii.gz", str(tmp_path / "ct.nii.gz"), formats=set(), preview=False)


def test_results_replace_results_and_no_file_of_another_program(phantom, tmp_path):
    """Of each kind: a second run replaces the first one's, and refuses a stranger's before it writes."""
    truth, _ = phantom.case()
    files = phantom.write_dicom_series(truth, tmp_path / "ct")
    volume = read_volume(tmp_path / "ct")
    _, segmentation = phantom.case(volume.grid)
    uncertain = np.zeros(segmentation.labels.shape, np.uint8)
    segmentation = replace(segmentation, uncertainty=uncertain)

    def write() -> list[Path]:
        options = {"formats": FORMATS, "preview": True, "dicom_files": files}
        return write_results(segmentation, volume, tmp_path / "out", **options)

    for file in write():
        write()
        made, others = file.read_bytes(), {other: other.stat().st_mtime_ns for other in file.parent.iterdir()}
        file.write_bytes(b"a stranger's")
        others[file] = file.stat().st_mtime_ns
        with pytest.raises(ResourceError, match=f"would replace.*{file.name}"):
            write()
        assert {other: other.stat().st_mtime_ns for other in file.parent.iterdir()} == others
        file.write_bytes(made)


def test_a_report_of_another_maker_stays(phantom, tmp_path):
    truth, _ = phantom.case()
    files = phantom.write_dicom_series(truth, tmp_path / "ct")
    volume = read_volume(tmp_path / "ct")
    _, segmentation = phantom.case(volume.grid)
    options = {"formats": {"dcm", "sr", "rtstruct"}, "preview": False, "dicom_files": files}
    for file in write_results(segmentation, volume, tmp_path / "out", **options):
        ours = file.read_bytes()
        theirs = pydicom.dcmread(file)
        theirs.Manufacturer = "Another"
        theirs.save_as(file)
        with pytest.raises(ResourceError, match="Another program"):
            write_results(segmentation, volume, tmp_path / "out", **options)
        assert pydicom.dcmread(file).Manufacturer == "Another"
        file.write_bytes(ours)


def test_dicom_seg_needs_a_series(phantom, tmp_path):
    volume, segmentation = phantom.case()
    with pytest.raises(ResourceError, match="DICOM series"):
        write_results(segmentation, volume, tmp_path / "out", formats={"dcm", "csv"}, preview=False)
    assert not (tmp_path / "out").exists()


def test_all_formats_of_a_dicom_series(phantom, tmp_path):
    truth, _ = phantom.case()
    files = phantom.write_dicom_series(truth, tmp_path / "Serie ä")
    volume = read_volume(tmp_path / "Serie ä")
    _, segmentation = phantom.case(volume.grid)
    out = tmp_path / "Ergebnisse ö"
    written = write_results(segmentation, volume, out, formats=FORMATS, preview=True, dicom_files=files)
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in written)
    assert {path.name for path in written} == {
        f"Serie ä{suffix}"
        for suffix in (
            ".seg.nrrd",
            ".seg.nii.gz",
            ".seg.labels.json",
            ".seg.dcm",
            ".sr.dcm",
            ".rtstruct.dcm",
            ".statistics.csv",
            ".statistics.json",
            ".preview.png",
        )
    }
    for name in ("Serie ä.seg.nrrd", "Serie ä.seg.nii.gz"):
        labels = read_labels(out / name)
        np.testing.assert_array_equal(labels.voxels, segmentation.labels)
        assert labels.grid.same_as(segmentation.grid)
        assert read_label_table(out / name) == phantom.TABLE
    document = json.loads((out / "Serie ä.statistics.json").read_text(encoding="utf-8"))
    assert document["provenance"] == phantom.PROVENANCE


def test_unwritable_folder_is_a_resource_error(phantom, tmp_path):
    volume, segmentation = phantom.case()
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(ResourceError, match="Cannot write"):
        write_results(segmentation, volume, Path(tmp_path / "file" / "out"), formats={"csv"}, preview=False)


def test_a_preview_that_cannot_be_drawn_costs_no_file(phantom, tmp_path, monkeypatch):
    def fail(*_arguments, **_options) -> None:
        raise ModuleNotFoundError(name="matplotlib")

    volume, segmentation = phantom.case()
    monkeypatch.setattr("multiorganseg.results.write.write_preview", fail)
    with pytest.warns(PictureWarning, match=r"preview could not be drawn: ModuleNotFoundError"):
        written = write_results(segmentation, volume, tmp_path, formats={"seg.nrrd", "csv"}, preview=True)
    assert [path.name for path in written] == ["patient one.seg.nrrd", "patient one.statistics.csv"]
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in written}


def test_cancelling_while_drawing_cancels(phantom, tmp_path, monkeypatch):
    def cancel(*_arguments, **_options) -> None:
        raise Cancelled

    volume, segmentation = phantom.case()
    monkeypatch.setattr("multiorganseg.results.write.write_preview", cancel)
    with pytest.raises(Cancelled):
        write_results(segmentation, volume, tmp_path, formats={"csv"}, preview=True)
