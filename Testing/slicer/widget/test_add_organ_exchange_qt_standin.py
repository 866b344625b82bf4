"""Importing and exporting cases in the section Add organ, by the real commands; Qt is a stand-in."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from add_organ_project import write_measured_run, write_nnunet, write_project

NEW = "colon"
SECONDS = 180.0
DICOM = Path(__file__).resolve().parents[2] / "engine" / "results" / "conftest.py"

pytestmark = pytest.mark.slow


@pytest.fixture
def base_organs(qt_host: Any) -> tuple[str, ...]:
    from multiorganseg.bundles import find_bundle

    return find_bundle("abdomen-ct").metadata.labels.keys


@pytest.fixture
def open_project(
    panel: Any, qt_host: Any, base_organs: tuple[str, ...], tmp_path: Path
) -> Callable[..., Any]:
    """Open a project with these cases in the section."""

    def open_with(name: str, statuses: dict[str, Any]) -> Any:
        folder = write_project(tmp_path / name, statuses, (*base_organs, NEW))
        panel.ui.addOrganSection.collapsed = False
        qt_host.answers.add(str(folder))
        panel.add_organ.ui.openProjectButton.click()
        return panel.add_organ

    return open_with


def _settle(add_organ: Any, host: Any) -> str:
    host.process_events(lambda: not add_organ.session.queue.busy, SECONDS)
    return str(add_organ.message.text)


def _click(add_organ: Any, host: Any, button: str, *answers: Any) -> str:
    host.answers.add(*map(str, answers))
    getattr(add_organ.ui, button).click()
    return _settle(add_organ, host)


def _choose(add_organ: Any, row: int, organ: str) -> None:
    add_organ.ui.importTable.setCurrentCell(row, 0)
    selector = add_organ.ui.importOrganSelector
    selector.currentIndex = selector.findData(organ)


def test_labels_of_nnunet_are_mapped_and_imported(
    open_project: Callable[..., Any], qt_host: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from multiorganseg.volumes import read_labels

    add_organ = open_project("Prüfung", {"case_1": {}})
    dataset = write_nnunet(tmp_path / "Dataset007_Bauch", {"left kidney": 1, "Darm": 2, "lesion": 3})
    _click(add_organ, qt_host, "importButton", dataset)
    ui = add_organ.ui
    assert ui.importFrame.visible or not ui.importFrame.isHidden()
    rows = [[ui.importTable.item(row, column).text() for column in (0, 1)] for row in range(3)]
    assert rows == [["left kidney", "Left kidney"], ["Darm", "–"], ["lesion", "–"]]
    assert "1 case." in ui.importLabel.text
    _choose(add_organ, 1, NEW)
    assert ui.importTable.item(1, 1).text() == "Colon"
    heard: list[float | None] = []
    queue, listen = add_organ.session.queue, add_organ.session.queue._listen
    monkeypatch.setattr(queue, "_listen", lambda job: (listen(job), heard.append(queue.fraction)))
    assert "Dataset007_Bauch is imported (1 case)" in _click(add_organ, qt_host, "importStartButton")
    assert any(fraction is not None for fraction in heard), "progress is not reported"
    assert ui.busyBar.isHidden()
    assert ui.importFrame.isHidden()
    project = add_organ.session.project
    status = project.matrix.rows["other_1"]
    assert (status["kidney_left"], status[NEW], status["liver"]) == (
        "annotated",
        "annotated",
        "unknown",
    )
    voxels = read_labels(project.labels_path("other_1")).voxels
    assert {project.table.organs[value] for value in np.unique(voxels) if value} == {"kidney_left", NEW}
    _click(add_organ, qt_host, "importButton", dataset)
    _choose(add_organ, 1, NEW)
    assert "cases of these names already" in _click(add_organ, qt_host, "importStartButton")
    assert add_organ.exchange.found is not None
    ui.importDropButton.click()
    assert ui.importFrame.isHidden()


def test_what_is_no_dataset_is_reported(
    open_project: Callable[..., Any], qt_host: Any, tmp_path: Path
) -> None:
    add_organ = open_project("P", {"case_1": {}})
    empty = tmp_path / "nothing"
    empty.mkdir()
    assert "is no dataset" in _click(add_organ, qt_host, "importButton", empty)
    assert add_organ.ui.importFrame.isHidden()
    dataset = write_nnunet(tmp_path / "Dataset008_X", {"thing": 1})
    _click(add_organ, qt_host, "importButton", dataset)
    add_organ.ui.importStartButton.click()
    assert "No label is an organ of the project" in add_organ.message.text
    assert not add_organ.session.queue.busy
    for button in ("exportNnunetButton", "exportDicomButton"):
        getattr(add_organ.ui, button).click()
        assert "Nothing is annotated" in add_organ.message.text


def test_a_cancelled_import_leaves_the_project(
    open_project: Callable[..., Any], qt_host: Any, tmp_path: Path
) -> None:
    add_organ = open_project("P", {"case_1": {}})
    dataset = write_nnunet(tmp_path / "Dataset009_X", {NEW: 1})
    _click(add_organ, qt_host, "importButton", dataset)
    add_organ.ui.importStartButton.click()
    qt_host.process_events(lambda: add_organ.session.queue._job is not None, SECONDS)
    assert not add_organ.ui.busyCancelButton.isHidden()
    add_organ.ui.busyCancelButton.click()
    assert not add_organ.session.queue.busy
    assert set(add_organ.session.project.cases) <= {"case_1", "other_1"}
    if "other_1" not in add_organ.session.project.cases:
        assert "Dataset009_X is imported" in _click(add_organ, qt_host, "importStartButton")
    assert add_organ.session.project.matrix.rows["other_1"][NEW] == "annotated"


def test_nnunet_and_back(open_project: Callable[..., Any], qt_host: Any, tmp_path: Path) -> None:
    statuses = {"case_1": {"annotated": [NEW, "liver"]}, "case_2": {"absent": [NEW]}, "case_3": {}}
    add_organ = open_project("Colon, Übung", statuses)
    raw = tmp_path / "nnUNet_raw"
    (raw / "Dataset501_Former").mkdir(parents=True)
    said = _click(add_organ, qt_host, "exportNnunetButton", raw)
    target = raw / "Dataset502_Colon_Ubung"
    assert f"Exported to {target}" in said
    assert "case_2, case_3" in said
    assert (target / "labelsTr" / "case_1.nii.gz").is_file()
    add_organ = open_project("Second", {})
    _click(add_organ, qt_host, "importButton", target)
    _click(add_organ, qt_host, "importStartButton")
    status = add_organ.session.project.matrix.rows["case_1"]
    assert (status[NEW], status["liver"], status["spleen"]) == ("annotated", "annotated", "unknown")


def test_dicom_seg_and_back(open_project: Callable[..., Any], qt_host: Any, tmp_path: Path) -> None:
    """An annotation drawn on a volume of the scene that came from DICOM."""
    import slicer

    from multiorganseg.volumes import read_labels, read_volume, write_volume

    parts = runpy.run_path(str(DICOM))
    truth, _ = parts["case"](parts["grid"]((12, 20, 24)))
    dicom = tmp_path / "DICOM"
    parts["write_dicom_series"](truth, dicom / "series")
    image = tmp_path / "CT.nrrd"
    write_volume(read_volume(dicom / "series"), image)
    add_organ = open_project("First", {})
    slicer.util.setSliceViewerLayers(background=slicer.util.loadVolume(str(image)))
    add_organ.show_step("cases")
    add_organ.ui.addVolumeButton.click()
    _settle(add_organ, qt_host)
    add_organ.cases.open("CT")
    drawn = np.zeros((12, 20, 24), np.uint8)
    drawn[3:6, 8:12, 10:15] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(
        drawn, add_organ.cases._node, NEW, add_organ.cases._volume
    )
    add_organ.ui.doneButton.click()
    _settle(add_organ, qt_host)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert "No case is left to export" in _click(
        add_organ, qt_host, "exportDicomButton", elsewhere, elsewhere
    )
    assert list(elsewhere.iterdir()) == []
    said = _click(add_organ, qt_host, "exportDicomButton", dicom, dicom)
    assert "Exported to" in said, said
    assert [path.name for path in (dicom / "First DICOM SEG").iterdir()] == ["CT.dcm"]
    add_organ = open_project("Second", {})
    _click(add_organ, qt_host, "importButton", dicom)
    assert "DICOM SEG" in add_organ.ui.importLabel.text
    assert add_organ.ui.importTable.item(0, 1).text() == "Colon"
    _click(add_organ, qt_host, "importStartButton")
    project = add_organ.session.project
    assert project.matrix.rows["CT"][NEW] == "annotated"
    assert np.array_equal(read_labels(project.labels_path("CT")).voxels > 0, drawn > 0)


def test_the_learning_curve_is_in_the_report(open_project: Callable[..., Any], qt_host: Any) -> None:
    add_organ = open_project("P", {"case_1": {"annotated": [NEW]}})
    folder = add_organ.session.project.folder
    ui = add_organ.ui

    write_measured_run(folder, NEW, 2, 0.5)
    write_measured_run(folder, NEW, 4, 0.62)
    add_organ.train.project_changed()
    add_organ.show_step("report")
    assert ui.learningLabel.isHidden()
    _click(add_organ, qt_host, "learningButton")
    assert "2: 0.500; 4: 0.620" in ui.learningLabel.text
    assert "three different numbers" in ui.learningLabel.text
    assert ui.learningPicture.isHidden()
    write_measured_run(folder, NEW, 8, 0.7)
    _click(add_organ, qt_host, "learningButton")
    assert "more annotated case" in ui.learningLabel.text or "By these runs" in ui.learningLabel.text
    assert not ui.learningPicture.pixmap.isNull()
    assert not ui.learningPicture.isHidden()
