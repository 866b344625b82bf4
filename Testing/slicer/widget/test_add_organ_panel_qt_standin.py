"""The Add organ section on stand-in Qt: real scene and project commands, a trainer that only pretends."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from add_organ_project import SHAPE, use_fake_trainer, write_project

from multiorganseg.results.segmentation import TYPE_TAG

NEW = "colon"
SECONDS = 60.0


@pytest.fixture
def base_organs(qt_host: Any) -> tuple[str, ...]:
    from multiorganseg.bundles import find_bundle

    return find_bundle("abdomen-ct").metadata.labels.keys


@pytest.fixture
def plan(qt_host: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    return use_fake_trainer(monkeypatch)


@pytest.fixture
def project(tmp_path: Path, base_organs: tuple[str, ...]) -> Path:
    """Three cases: annotated, absent, unknown; its name is not ASCII."""
    statuses = {"case_1": {"annotated": [NEW, "liver"]}, "case_2": {"absent": [NEW]}, "case_3": {}}
    return write_project(tmp_path / "Prüfung 1", statuses, (*base_organs, NEW))


@pytest.fixture
def add_organ(panel: Any, plan: Callable[..., None]) -> Any:
    """The section, opened."""
    panel.ui.addOrganSection.collapsed = False
    return panel.add_organ


@pytest.fixture
def opened(add_organ: Any, project: Path, qt_host: Any) -> Any:
    """The section with the project open, at its cases."""
    qt_host.answers.add(str(project))
    add_organ.ui.openProjectButton.click()
    add_organ.show_step("cases")
    return add_organ


def _settle(add_organ: Any, host: Any) -> str:
    host.process_events(lambda: not add_organ.session.queue.busy, SECONDS)
    return str(add_organ.message.text)


def _until(add_organ: Any, host: Any, state: str) -> None:
    host.process_events(lambda: add_organ.train.state == state and not add_organ.train.busy, SECONDS)


def _table(table: Any) -> list[list[str]]:
    rows = range(table.rowCount)
    return [[table.item(row, column).text() for column in range(table.columnCount)] for row in rows]


def _draw(add_organ: Any, organ: str = NEW) -> np.ndarray:
    import slicer

    drawn = np.zeros(SHAPE, np.uint8)
    drawn[3:6, 8:12, 10:15] = 1
    case = add_organ.cases
    slicer.util.updateSegmentBinaryLabelmapFromArray(drawn, case._node, organ, case._volume)
    return drawn


def test_nothing_is_built_before_the_section_is_opened(panel: Any) -> None:
    assert not panel.add_organ.is_open
    panel.exit()
    panel.enter()
    assert not panel.add_organ.is_open


def test_without_a_project_only_the_first_step_can_be_taken(add_organ: Any) -> None:
    assert not add_organ.ui.casesStepButton.enabled
    assert not add_organ.ui.organBox.visible
    assert "create a project" in add_organ.ui.projectLabel.text


@pytest.mark.slow
def test_from_a_new_project_to_an_annotated_case(
    add_organ: Any, qt_host: Any, ct: Callable[..., Any], tmp_path: Path
) -> None:
    """All commands are the real ones."""
    import slicer

    from multiorganseg.volumes import read_labels

    ui, folder = add_organ.ui, tmp_path / "Blinddarm-Übung"
    folder.mkdir()
    qt_host.answers.add(str(folder))
    ui.createProjectButton.click()
    assert add_organ.session.queue.busy
    assert "The project is there" in _settle(add_organ, qt_host)

    ui.offerSearch.text = "my own lump"
    assert "my own lump" in ui.addOrganButton.text
    ui.addOrganButton.click()
    assert "my own lump is added" in _settle(add_organ, qt_host)
    assert add_organ.session.new_organs == ("my_own_lump",)

    volume = ct("Patient: 1")
    slicer.util.setSliceViewerLayers(background=volume)
    add_organ.show_step("cases")
    ui.addVolumeButton.click()
    _settle(add_organ, qt_host)
    assert _table(ui.caseTable) == [["Patient_ 1", "unknown"]]

    add_organ.cases.open("Patient_ 1")
    assert add_organ.cases._volume is volume
    segment = add_organ.cases._node.GetSegmentation().GetSegment("my_own_lump")
    assert segment.GetName() == "my own lump"
    drawn = np.zeros((16, 20, 24), np.uint8)
    drawn[4:9, 5:9, 6:12] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(drawn, add_organ.cases._node, "my_own_lump", volume)
    ui.doneButton.click()
    assert "Saved: my own lump of Patient_ 1, 120 voxels" in _settle(add_organ, qt_host)
    assert _table(ui.caseTable) == [["Patient_ 1", "annotated"]]
    labels = read_labels(add_organ.session.project.labels_path("Patient_ 1"))
    assert np.array_equal(labels.voxels > 0, drawn > 0)


def test_worklist_shows_a_chip_for_each_case_and_organ(opened: Any) -> None:
    assert _table(opened.ui.caseTable) == [
        ["case_1", "annotated"],
        ["case_2", "absent"],
        ["case_3", "unknown"],
    ]
    colors = {opened.ui.caseTable.item(row, 1).background().color().name() for row in range(3)}
    assert len(colors) == 3
    assert "3 cases: 1 annotated, 1 absent, 1 unknown" in opened.ui.casesLabel.text


def test_organs_of_the_base_are_shown_on_demand(opened: Any, base_organs: tuple[str, ...]) -> None:
    opened.ui.allOrgansCheck.checked = True
    assert opened.ui.caseTable.columnCount == 2 + len(base_organs)
    assert [text for text in _table(opened.ui.caseTable)[0] if text == "annotated"] == ["annotated"] * 2


def test_double_click_loads_image_labels_and_the_organ_with_its_codes(opened: Any) -> None:
    import slicer

    from multiorganseg.organs.catalogue import load_catalogue
    from MultiOrganSegLib.tags import tag

    opened.ui.caseTable.cellDoubleClicked.emit(0, 0)
    node, volume = opened.cases._node, opened.cases._volume
    assert volume.GetName() == "case_1"
    assert list(node.GetSegmentation().GetSegmentIDs()) == ["liver", NEW]
    labels = slicer.util.arrayFromSegmentBinaryLabelmap(node, NEW, volume)
    assert labels.sum() == 3 * 3 * 5
    segment = node.GetSegmentation().GetSegment(NEW)
    organ = load_catalogue().get(NEW)
    assert organ.type.value in tag(segment, slicer.vtkSegment.GetTerminologyEntryTagName())
    assert [round(255 * part) for part in segment.GetColor()] == list(organ.color)
    assert "case_1" in opened.ui.caseBox.title
    editor = opened.cases._editor._editor
    assert editor.segmentationNode() is node
    assert editor.currentSegmentID() == NEW
    assert editor.sourceVolumeNode() is volume


def test_annotations_leave_as_peoples_work(
    opened: Any, qt_host: Any, logic: Any, result_node: Callable[..., Any], tmp_path: Path
) -> None:
    """What is annotated, what is about to be drawn, and what the base model adds, in the saved file."""
    import slicer
    import slicerio

    opened.cases.open("case_1")
    opened.worklist.choose_organ("stomach")
    opened.cases.open("case_1")
    logic.steps = [{"state": "finished", "segmentation_node": result_node(opened.cases._volume)}]
    opened.ui.presegmentButton.click()
    qt_host.process_events(lambda: not opened.cases.busy, SECONDS)
    path = tmp_path / "a.seg.nrrd"
    slicer.util.saveNode(opened.cases._node, str(path))
    tags = {each["id"]: each["tags"] for each in slicerio.read_segmentation(str(path))["segments"]}
    kinds = {key: entry["DICOM.SegmentAlgorithmType"] for key, entry in tags.items()}
    mine = dict.fromkeys(("liver", NEW, "stomach"), "MANUAL")
    assert kinds == {**mine, "spleen": "AUTOMATIC"}
    assert [key for key, entry in tags.items() if "DICOM.SegmentAlgorithmName" in entry] == ["spleen"]


def test_a_previous_result_is_not_shown_over_the_case(opened: Any, result_node: Callable[..., Any]) -> None:
    import slicer

    previous = result_node()
    previous.CreateDefaultDisplayNodes()
    opened.cases.open("case_1")
    first = opened.cases._node
    assert not previous.GetDisplayNode().GetVisibility()
    opened.cases.open("case_3")
    assert [
        node.GetName()
        for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
        if node.GetDisplayNode().GetVisibility()
    ] == ["case_3 labels"]
    opened.cases.open("case_1")
    assert first.GetDisplayNode().GetVisibility()
    opened.cases.close()
    assert previous.GetDisplayNode().GetVisibility()


def test_presegmentation_keeps_what_was_corrected_by_hand(
    opened: Any, qt_host: Any, logic: Any, result_node: Callable[..., Any]
) -> None:
    import slicer

    from MultiOrganSegLib.tags import tag

    opened.cases.open("case_3")
    for _ in range(2):
        result = result_node(opened.cases._volume)
        logic.steps = [{"state": "finished", "segmentation_node": result}]
        opened.ui.presegmentButton.click()
        qt_host.process_events(lambda: not opened.cases.busy, SECONDS)
        drawn = _draw(opened, "liver")
    kept = slicer.util.arrayFromSegmentBinaryLabelmap(opened.cases._node, "liver", opened.cases._volume)
    assert np.array_equal(kept, drawn)
    assert tag(opened.cases._node.GetSegmentation().GetSegment("liver"), TYPE_TAG) == "SEMIAUTOMATIC"


def test_what_is_corrected_or_said_to_be_done_is_no_longer_the_networks(
    opened: Any, qt_host: Any, logic: Any, result_node: Callable[..., Any]
) -> None:
    from MultiOrganSegLib.tags import tag

    opened.cases.open("case_3")
    logic.steps = [{"state": "finished", "segmentation_node": result_node(opened.cases._volume)}]
    opened.ui.presegmentButton.click()
    qt_host.process_events(lambda: not opened.cases.busy, SECONDS)
    segments = opened.cases._node.GetSegmentation()
    assert tag(segments.GetSegment("liver"), TYPE_TAG) == "AUTOMATIC"
    _draw(opened, "liver")
    qt_host.process_events(lambda: tag(segments.GetSegment("liver"), TYPE_TAG) == "SEMIAUTOMATIC", SECONDS)
    assert tag(segments.GetSegment("spleen"), TYPE_TAG) == "AUTOMATIC"
    opened.worklist.choose_organ("spleen")
    opened.ui.doneButton.click()
    assert tag(segments.GetSegment("spleen"), TYPE_TAG) == "SEMIAUTOMATIC"
    opened.session.queue.cancel()


@pytest.mark.slow
def test_the_same_image_is_not_added_twice_without_a_warning(
    opened: Any, qt_host: Any, project: Path
) -> None:
    """By the real command."""
    from multiorganseg.volumes import Volume, write_volume

    voxels = np.random.default_rng(1).integers(-1000, 1000, SHAPE).astype(np.int16)
    copy = project.parent / "other_name.nii.gz"
    for path in (project / "images" / "case_3.nii.gz", copy):
        write_volume(Volume(voxels, np.diag([-2.0, -2.0, 3.0, 1.0])), path)
    qt_host.answers.add([str(copy)])
    opened.ui.addFilesButton.click()
    said = _settle(opened, qt_host)
    assert "other_name is a case now" in said
    assert "other_name has the very voxels of case_3" in said


def test_opening_a_case_twice_loads_it_once(opened: Any) -> None:
    import slicer

    opened.cases.open("case_3")
    first = opened.cases._volume
    opened.cases.open("case_1")
    opened.cases.open("case_3")
    assert opened.cases._volume is first
    assert len(slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")) == 2


def test_effects_are_reachable_and_growing_gets_a_second_seed(opened: Any) -> None:
    opened.cases.open("case_3")
    editor = opened.cases._editor._editor
    opened.ui.paintButton.click()
    assert editor.activeEffectName() == "Paint"
    opened.ui.fillButton.click()
    assert editor.activeEffectName() == "Fill between slices"
    assert opened.cases._node.GetSegmentation().GetNumberOfSegments() == 1
    opened.ui.growButton.click()
    assert editor.activeEffectName() == "Grow from seeds"
    assert opened.cases._node.GetSegmentation().GetNumberOfSegments() == 2


def test_a_new_organ_is_drawn_from_nothing_by_a_click(opened: Any, qt_host: Any) -> None:
    import slicer

    from multiorganseg.refine import Prompt
    from MultiOrganSegEffects.CorrectOrganEffect import NAME, register

    register()
    opened.cases.open("case_3")
    opened.ui.correctButton.click()
    editor = opened.cases._editor._editor
    assert (editor.activeEffectName(), editor.currentSegmentID()) == (NAME, NEW)
    work = editor.activeEffect().self().work
    work._choose_model("none")
    volume = opened.cases._volume
    k, j, i = (size // 2 for size in SHAPE)
    voxels = np.random.default_rng(0).normal(-80, 8, SHAPE)
    voxels[k - 2 : k + 3, j - 4 : j + 5, i - 4 : i + 5] += 180
    slicer.util.updateVolumeFromArray(volume, voxels.astype(np.int16))
    work.say(Prompt.click((k, j, i)))
    qt_host.process_events(lambda: not work.correction.busy, 2 * SECONDS)
    assert work.correction.error is None
    drawn = slicer.util.arrayFromSegmentBinaryLabelmap(opened.cases._node, NEW, volume)
    truth = voxels > 0
    assert 2 * np.count_nonzero(drawn[truth]) / (np.count_nonzero(drawn) + truth.sum()) > 0.7


def _tick(add_organ: Any, *names: str) -> None:
    import qt

    box = add_organ.ui.keepList
    for row in range(box.count):
        if box.item(row).text() in names:
            box.item(row).setCheckState(qt.Qt.Checked)


def test_a_checked_result_becomes_a_case_with_the_confirmed_organs_only(
    opened: Any, panel: Any, result_node: Callable[..., Any], ct: Callable[..., Any], qt_host: Any
) -> None:
    from multiorganseg.projects.matrix import LabelStatus

    volume = ct("Patient 9")
    panel.parameters.segmentation = result_node(volume)
    panel.ui.keepButton.click()
    box = opened.ui.keepList
    assert sorted(box.item(row).text() for row in range(box.count)) == ["Liver", "Spleen"]
    assert not opened.ui.keepBox.isHidden()
    assert not opened.ui.keepAddButton.enabled
    assert opened.session.project.cases.keys() == {"case_1", "case_2", "case_3"}
    _tick(opened, "Liver")
    assert opened.ui.keepAddButton.enabled
    opened.ui.keepAddButton.click()
    assert "Patient 9 is a case now" in _settle(opened, qt_host)
    row = opened.session.project.matrix.rows["Patient 9"]
    assert row["liver"] is LabelStatus.ANNOTATED
    assert {status for key, status in row.items() if key != "liver"} == {LabelStatus.UNKNOWN}
    assert opened.ui.keepBox.isHidden()
    panel.ui.keepButton.click()
    _tick(opened, "Spleen")
    opened.ui.keepAddButton.click()
    _settle(opened, qt_host)
    row = opened.session.project.matrix.rows["Patient 9"]
    annotated = {key for key, status in row.items() if status is LabelStatus.ANNOTATED}
    assert annotated == {"liver", "spleen"}
    assert len(opened.session.project.cases) == 4


def test_a_result_is_not_kept_without_a_project(
    add_organ: Any, panel: Any, result_node: Callable[..., Any]
) -> None:
    panel.parameters.segmentation = result_node()
    panel.ui.keepButton.click()
    assert "No project is open" in add_organ.message.text
    assert not add_organ.ui.projectStep.isHidden()
    assert add_organ.ui.keepBox.isHidden()


def test_the_editor_lets_go_of_views_and_keys_when_another_module_is_shown(opened: Any, panel: Any) -> None:
    opened.cases.open("case_3")
    opened.ui.paintButton.click()
    editor = opened.cases._editor._editor
    panel.exit()
    assert editor.activeEffectName() == ""
    assert not editor._has_views
    assert not editor._has_shortcuts
    panel.enter()
    assert editor._has_views


@pytest.mark.slow
def test_done_and_absent_are_saved(opened: Any, qt_host: Any) -> None:
    """By the real commands."""
    from multiorganseg.volumes import read_labels

    opened.cases.open("case_3")
    drawn = _draw(opened)
    opened.ui.doneButton.click()
    assert not opened.ui.doneButton.enabled or opened.session.queue.busy
    assert "All cases are done" in _settle(opened, qt_host)
    project = opened.session.project
    assert project.matrix.rows["case_3"][NEW] == "annotated"
    labels = read_labels(project.labels_path("case_3"))
    assert np.array_equal(labels.voxels, drawn * project.table.value(NEW))

    opened.worklist.choose_organ("spleen")
    opened.cases.open("case_2")
    opened.ui.absentButton.click()
    assert "case_2 does not hold Spleen" in _settle(opened, qt_host)
    assert opened.session.project.matrix.rows["case_2"]["spleen"] == "absent"


def test_an_empty_annotation_is_refused_at_once(opened: Any) -> None:
    opened.cases.open("case_3")
    opened.ui.doneButton.click()
    assert "Nothing is drawn for Colon" in opened.message.text
    assert "Absent here" in opened.message.text
    assert not opened.session.queue.busy


def test_an_organ_that_is_drawn_cannot_be_absent(opened: Any) -> None:
    opened.cases.open("case_1")
    opened.ui.absentButton.click()
    assert "Colon is drawn in case_1" in opened.message.text
    assert not opened.session.queue.busy


def test_what_is_drawn_outside_the_image_is_reported(opened: Any) -> None:
    import slicer
    import vtk

    opened.cases.open("case_3")
    large = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "large")
    voxels = np.zeros([size + 20 for size in SHAPE], np.uint8)
    slicer.util.updateVolumeFromArray(large, voxels)
    matrix = vtk.vtkMatrix4x4()
    opened.cases._volume.GetIJKToRASMatrix(matrix)
    shift = np.eye(4)
    shift[:3, 3] = -10
    placed = slicer.util.arrayFromVTKMatrix(matrix) @ shift
    large.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(placed))
    voxels[12:16, 4:18, 12:16] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(voxels, opened.cases._node, NEW, large)
    opened.ui.doneButton.click()
    assert "beyond the edge of the image" in opened.message.text
    assert not opened.session.queue.busy


@pytest.mark.slow
def test_the_commands_refusal_is_told_as_it_is(opened: Any, qt_host: Any, project: Path) -> None:
    opened.cases.open("case_3")
    _draw(opened)
    (project / "images" / "case_3.nii.gz").unlink()
    opened.ui.doneButton.click()
    assert "case_3.nii.gz" in _settle(opened, qt_host)
    assert opened.session.project.matrix.rows["case_3"][NEW] == "unknown"


def test_a_case_of_the_same_name_is_not_added_twice(opened: Any, qt_host: Any, tmp_path: Path) -> None:
    qt_host.answers.add([str(tmp_path / "case_1.nii.gz")])
    opened.ui.addFilesButton.click()
    assert "case_1 is a case of this project already" in opened.message.text
    opened.cases.open("case_3")
    import slicer

    slicer.util.setSliceViewerLayers(background=opened.cases._volume)
    opened.ui.addVolumeButton.click()
    assert "is a case of this project already" in opened.message.text


def test_an_organ_of_the_project_is_not_offered_again(opened: Any) -> None:
    opened.show_step("project")
    opened.ui.offerSearch.text = "colon"
    offered = [opened.ui.offerList.item(row).text() for row in range(opened.ui.offerList.count)]
    assert "Colon" not in offered
    assert not any("New organ" in text for text in offered)


def test_a_folder_that_is_no_project_is_refused(add_organ: Any, qt_host: Any, tmp_path: Path) -> None:
    qt_host.answers.add(str(tmp_path))
    add_organ.ui.openProjectButton.click()
    assert "is no project" in add_organ.message.text
    (tmp_path / "project.json").write_text("{}", encoding="utf-8")
    qt_host.answers.add(str(tmp_path))
    add_organ.ui.openProjectButton.click()
    assert "has schema version None, not 1" in add_organ.message.text
    qt_host.answers.add(str(tmp_path))
    add_organ.ui.createProjectButton.click()
    assert "is not empty" in add_organ.message.text


def test_presegmentation_keeps_what_is_drawn(
    opened: Any, qt_host: Any, logic: Any, result_node: Callable[..., Any]
) -> None:
    import slicer

    opened.cases.open("case_3")
    drawn = _draw(opened)
    result = result_node(opened.cases._volume)
    logic.steps = [{"fraction": 0.5}, {"state": "finished", "segmentation_node": result}]
    opened.ui.presegmentButton.click()
    assert logic.started[0]["model"] == "abdomen-ct"
    assert opened.ui.presegmentButton.text == "Cancel"
    qt_host.process_events(lambda: not opened.cases.busy, SECONDS)
    node = opened.cases._node
    assert list(node.GetSegmentation().GetSegmentIDs()) == [NEW, "spleen", "liver"]
    kept = slicer.util.arrayFromSegmentBinaryLabelmap(node, NEW, opened.cases._volume)
    assert np.array_equal(kept, drawn)
    assert not slicer.mrmlScene.IsNodePresent(result)


def test_closing_the_scene_closes_the_case(opened: Any) -> None:
    import slicer

    opened.cases.open("case_3")
    slicer.mrmlScene.Clear(0)
    assert opened.cases.case_name == ""
    assert not opened.ui.caseBox.visible
    opened.cases.open("case_1")
    assert opened.ui.caseBox.title.startswith("case_1")


def test_training_to_publishing_and_back(opened: Any, qt_host: Any, panel: Any, project: Path) -> None:
    import qt

    ui, run = opened.ui, f"abdomen-ct-plus-{NEW}"
    opened.show_step("train")
    assert "1 annotated, 1 absent, 1 unknown" in ui.readyLabel.text
    ui.timeSelector.currentIndex = ui.timeSelector.findData("10m")
    ui.trainButton.click()
    assert not ui.trainButton.enabled
    _until(opened, qt_host, "finished")
    assert "is finished" in opened.message.text
    log = opened.train.log
    assert log.iteration == log.iterations == 20
    assert len(log.loss.points) == 20
    assert len(log.dice[NEW].points) == 10
    assert "Few cases" in ui.trainMessages.plainText
    assert not ui.curveLabel.pixmap.isNull()
    orders = opened.train.run.orders()
    assert (orders.base, orders.organs, orders.time) == ("abdomen-ct", (NEW,), "10m")

    opened.show_step("report")
    rows = _table(ui.reportTable)
    assert rows[0] == ["Colon", "–", "0.781", "–", "passed"]
    assert len(rows) == 1 + len(panel.segment._bundles["abdomen-ct"].metadata.labels.organs)
    assert "case_8" in ui.verdictLabel.text
    assert ui.pictureLabel.visible or not ui.pictureLabel.pixmap.isNull()
    ui.publishButton.click()
    assert f"{run} 1.0.0 is published" in _settle(opened, qt_host)
    assert panel.parameters.model == run
    assert panel.ui.modelSelector.findData(run) >= 0
    assert panel.ui.modelSelector.itemData(panel.ui.modelSelector.currentIndex) == run

    qt_host.answers.add(qt.QMessageBox.Yes)
    ui.rollbackButton.click()
    assert "abdomen-ct is in use again" in _settle(opened, qt_host)
    assert panel.parameters.model == "abdomen-ct"
    assert panel.ui.modelSelector.findData(run) < 0
    assert (project / "project.json").is_file()


def test_a_failed_acceptance_check_needs_a_reason(opened: Any, qt_host: Any, panel: Any, plan: Any) -> None:
    plan(acceptance="fail", iterations=3)
    ui = opened.ui
    opened.show_step("train")
    ui.trainButton.click()
    _until(opened, qt_host, "finished")
    opened.show_step("report")
    assert "Not passed" in ui.reportLabel.text
    assert [row[4] for row in _table(ui.reportTable)][:3] == ["passed", "failed", "passed"]
    ui.publishButton.click()
    assert not opened.session.queue.busy
    assert not ui.forceButton.enabled
    ui.forceReason.text = "for a study of the liver"
    ui.forceButton.click()
    assert "is published" in _settle(opened, qt_host)
    card = panel.models._entries[0].card_path.read_text(encoding="utf-8")
    assert "for a study of the liver" in card


def test_pause_and_resume(opened: Any, qt_host: Any, plan: Any) -> None:
    plan(iterations=60, seconds=0.05)
    opened.show_step("train")
    opened.ui.trainButton.click()
    qt_host.process_events(lambda: opened.train.log.iteration >= 3, SECONDS)
    opened.ui.pauseButton.click()
    _until(opened, qt_host, "paused")
    paused = opened.train.log.iteration
    assert paused < 60
    assert opened.ui.trainButton.text.replace("&", "") == "Resume"
    plan(iterations=60, seconds=0.0)
    opened.ui.trainButton.click()
    _until(opened, qt_host, "finished")
    iterations = [point[0] for point in opened.train.log.loss.points]
    assert iterations == sorted(set(iterations))
    assert opened.train.log.iteration == 60


def test_a_training_goes_on_when_slicer_closes_and_is_found_again(
    opened: Any, qt_host: Any, panel: Any, plan: Any, logic: Any
) -> None:
    import qt
    import slicer

    from MultiOrganSegLib.widget import Widget

    plan(iterations=40, seconds=0.05)
    opened.show_step("train")
    opened.ui.trainButton.click()
    qt_host.process_events(lambda: opened.train.log.iteration >= 2, SECONDS)
    panel.cleanup()
    assert opened.train.run.is_alive()

    parent = slicer.qMRMLWidget()
    parent.setLayout(qt.QVBoxLayout())
    again = Widget(parent.layout(), opened._ui_path.with_name("MultiOrganSeg.ui"), logic)
    again.enter()
    again.ui.addOrganSection.collapsed = False
    add_organ = again.add_organ
    assert add_organ.session.project.folder == opened.session.project.folder
    assert add_organ.train.state == "running"
    add_organ.show_step("train")
    qt_host.process_events(lambda: add_organ.train.log.iteration >= 5, SECONDS)
    assert add_organ.ui.pauseButton.enabled
    _until(add_organ, qt_host, "finished")
    assert len(add_organ.train.log.loss.points) == 40
    again.cleanup()


def test_a_killed_training_is_told_and_goes_on(opened: Any, qt_host: Any, plan: Any) -> None:
    plan(iterations=12, crash=6)
    opened.show_step("train")
    opened.ui.trainButton.click()
    _until(opened, qt_host, "interrupted")
    assert "ended from outside" in opened.message.text
    assert opened.ui.trainButton.text.replace("&", "") == "Resume"
    opened.ui.trainButton.click()
    _until(opened, qt_host, "finished")
    assert opened.train.log.iteration == 12


def test_what_a_failed_training_says_is_reported(opened: Any, qt_host: Any, plan: Any) -> None:
    plan(iterations=12, fail=4)
    opened.show_step("train")
    opened.ui.trainButton.click()
    _until(opened, qt_host, "failed")
    for text in ("No memory left.", "It is 8 GB.", "Buy some."):
        assert text in opened.message.text


def test_a_trainer_that_dies_before_it_begins_is_reported(
    opened: Any, qt_host: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    from MultiOrganSegLib.add_organ import trainer

    event = {"event": "failed", "problem": "It is broken.", "cause": "One screw.", "next_step": "Mend it."}
    code = f"print({json.dumps(event)!r}); raise SystemExit(8)"
    monkeypatch.setattr(trainer, "trainer_command", lambda _arguments: [sys.executable, "-c", code])
    opened.show_step("train")
    opened.ui.trainButton.click()
    _until(opened, qt_host, "interrupted")
    qt_host.process_events(lambda: "It is broken." in opened.message.text, SECONDS)
    assert "Mend it." in opened.message.text


def test_discard_ends_the_process_and_deletes_the_run(opened: Any, qt_host: Any, plan: Any) -> None:
    import psutil
    import qt

    plan(iterations=1000, seconds=0.05)
    opened.show_step("train")
    opened.ui.trainButton.click()
    qt_host.process_events(lambda: opened.train.log.iteration >= 2, SECONDS)
    run = opened.train.run
    pid = run.orders().pid
    qt_host.answers.add(qt.QMessageBox.No)
    opened.ui.discardButton.click()
    assert run.is_alive()
    qt_host.answers.add(qt.QMessageBox.Yes)
    opened.ui.discardButton.click()
    qt_host.process_events(lambda: not opened.train.has_runs, SECONDS)
    assert not run.folder.exists()
    assert list(run.folder.parent.iterdir()) == []
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_training_without_an_annotated_case_is_refused(
    add_organ: Any, qt_host: Any, tmp_path: Path, base_organs: tuple[str, ...]
) -> None:
    folder = write_project(tmp_path / "bare", {"case_1": {}}, (*base_organs, NEW))
    qt_host.answers.add(str(folder))
    add_organ.ui.openProjectButton.click()
    add_organ.show_step("train")
    add_organ.ui.trainButton.click()
    assert "Colon is annotated in no case" in add_organ.message.text
    assert not (folder / "runs").exists()


def test_every_tick_and_every_click_leaves_the_gui_alive(
    opened: Any, qt_host: Any, plan: Any, slowness: float
) -> None:
    """On a long log too: a tick reads a part of it."""
    plan(iterations=30, seconds=0.02)
    opened.show_step("train")
    opened.ui.trainButton.click()
    _until(opened, qt_host, "finished")
    text = opened.train.run.events.read_text(encoding="utf-8")
    line = next(line for line in text.splitlines() if '"progress"' in line)
    with opened.train.run.events.open("a", encoding="utf-8") as sink:
        for number in range(31, 40_000):
            sink.write(line.replace('"iteration": 1,', f'"iteration": {number},') + "\n")
    slowest = 0.0
    opened.train._reading = True
    while opened.train._reading:
        began = time.perf_counter()
        opened._tick()
        slowest = max(slowest, time.perf_counter() - began)
    assert slowest < 0.25 * slowness
    assert len(opened.train.log.loss.points) <= 600
