"""The table of organs on stand-in Qt; segmentation, slices and Segment Editor node are real MRML."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest


@pytest.fixture
def shown(panel: Any, result_node: Callable[..., Any]) -> Any:
    """The panel with a result in its table."""
    panel.parameters.segmentation = result_node()
    return panel


def _cells(panel: Any, row: int) -> list[str]:
    return [panel.ui.resultsTable.item(row, column).text() for column in range(5)]


def _click(panel: Any, row: int) -> None:
    panel.ui.resultsTable.setCurrentCell(row, 0)
    panel.ui.resultsTable.cellClicked.emit(row, 0)


def test_worst_first_with_numbers_and_flags(shown: Any) -> None:
    rows = [_cells(shown, row) for row in range(shown.ui.resultsTable.rowCount)]
    assert rows == [
        ["Pancreas", "not found", "0.0", "–", "–"],
        ["Liver", "cut off", "950.0", "0.91", "101"],
        ["Spleen", "", "180.2", "0.97", "112"],
    ]
    assert shown.ui.resultsLabel.text == "CT organs: 3 organs, 2 to look at, on top."
    item = shown.ui.resultsTable.item(1, 1)
    assert "Reaches the edge" in item.toolTip()
    assert not shown.ui.resultsTable.item(0, 0).icon().isNull()


def test_choosing_centres_slices_selects_the_organ_and_tells_its_flags(shown: Any) -> None:
    import slicer

    node = shown.parameters.segmentation
    slice_node = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSliceNode")
    if slice_node is None:
        logic = slicer.vtkMRMLSliceLogic()
        logic.SetMRMLScene(slicer.mrmlScene)
        slice_node = logic.AddSliceNode("Red")
    shown.ui.resultsTable.setCurrentCell(1, 0)  # as by the arrow keys
    center = node.GetSegmentCenterRAS("liver")
    to_ras = slice_node.GetSliceToRAS()
    assert np.allclose([to_ras.GetElement(axis, 3) for axis in range(3)], center, atol=1e-6)
    editor = slicer.mrmlScene.GetSingletonNode("SegmentEditor", "vtkMRMLSegmentEditorNode")
    assert editor.GetSegmentationNode() is node
    assert editor.GetSelectedSegmentID() == "liver"
    assert "Reaches the edge" in shown.ui.organDetailLabel.text


def test_click_on_an_organ_that_was_not_found_moves_nothing(shown: Any) -> None:
    _click(shown, 2)
    _click(shown, 0)
    assert "Not found" in shown.ui.organDetailLabel.text


def test_show_3d_makes_and_hides_surfaces(shown: Any) -> None:
    node = shown.parameters.segmentation
    assert not shown.ui.show3dButton.checked
    shown.ui.show3dButton.click()
    assert node.GetSegmentation().ContainsRepresentation("Closed surface")
    assert node.GetDisplayNode().GetVisibility3D()
    shown.ui.show3dButton.click()
    assert not node.GetDisplayNode().GetVisibility3D()


def test_show_3d_turns_the_camera_at_the_first_time_only(shown: Any, result_node: Callable[..., Any]) -> None:
    import slicer

    view = slicer.app.layoutManager().threeDWidget(0).threeDView()
    before = view.camera_resets, view.focal_point_resets
    for _ in range(4):
        shown.ui.show3dButton.click()
    assert (view.camera_resets, view.focal_point_resets) == (before[0] + 1, before[1] + 1)
    shown.parameters.segmentation = result_node(name="Second")
    shown.ui.show3dButton.click()
    assert view.camera_resets == before[0] + 2


@pytest.mark.parametrize("row", [2, 1])
def test_edit_opens_the_segment_editor_with_the_organ_also_at_the_first_time(shown: Any, row: int) -> None:
    import slicer

    chosen = shown.results._rows[row].segment_id
    shown.ui.resultsTable.setCurrentCell(row, 0)
    shown.ui.editButton.click()
    editor = slicer.mrmlScene.GetSingletonNode("SegmentEditor", "vtkMRMLSegmentEditorNode")
    assert slicer.util.moduleSelector().selectedModule == "SegmentEditor"
    assert editor.GetSegmentationNode() is shown.parameters.segmentation
    assert editor.GetSelectedSegmentID() == chosen


def test_names_and_what_to_look_at_are_readable_in_a_narrow_panel(panel: Any, qt_host: Any) -> None:
    """At 320 pixels, with the longest names and flags there are."""
    import qt
    import slicer

    from multiorganseg.organs.catalogue import load_catalogue
    from multiorganseg.quality.flags import CUT_BY_FIELD_OF_VIEW

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "organs")
    names = ["Inferior vena cava", "Right adrenal gland", "Gallbladder", "Stomach"]
    assert names[0] in {organ.name for organ in load_catalogue().organs.values()}
    for name in names:
        node.GetSegmentation().AddEmptySegment(name, name)
        segment = node.GetSegmentation().GetSegment(name)
        for tag, text in (("Voxels", "0"), ("VolumeMl", "1234.5"), ("Flags", CUT_BY_FIELD_OF_VIEW)):
            segment.SetTag(f"MultiOrganSeg.{tag}", text)
    panel.parameters.segmentation = node
    panel.ui.segmentSection.collapsed, panel.ui.resultsSection.collapsed = True, False
    panel.keep_alive.resize(320, 700)
    panel.keep_alive.show()
    qt_host.process_events()
    table = panel.ui.resultsTable
    assert panel.keep_alive.width <= 340
    metrics = qt.QFontMetrics(table.font)
    for row in range(table.rowCount):
        for column in (0, 1):
            text = table.item(row, column).text()
            icon = 12 if column == 0 else 0
            assert table.columnWidth(column) >= metrics.horizontalAdvance(text) + icon, text
    assert table.columnViewportPosition(2) <= table.viewport().width


def test_swatches_keep_their_colour_in_a_chosen_row(shown: Any) -> None:
    import qt

    icon = shown.ui.resultsTable.item(1, 0).icon()
    plain, chosen = (
        icon.pixmap(12, 12, mode).toImage().pixelColor(6, 6).name()
        for mode in (qt.QIcon.Normal, qt.QIcon.Selected)
    )
    assert plain == chosen


def test_one_organ_is_not_one_organs(shown: Any) -> None:
    node = shown.parameters.segmentation
    for identity in ("liver", "pancreas"):
        node.GetSegmentation().RemoveSegment(identity)
    shown.results.show(node)
    assert shown.ui.resultsLabel.text == "CT organs: 1 organ, nothing was noticed."


def _draw(node: Any, segment: str) -> None:
    """Correct a segment by hand: 27 voxels of it become 8."""
    import slicer

    volume = node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole())
    drawn = np.zeros((16, 20, 24), np.uint8)
    drawn[2:4, 3:5, 4:6] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(drawn, node, segment, volume)


def test_a_correction_is_measured_anew_in_the_table_and_keeps_the_choice(shown: Any, qt_host: Any) -> None:
    shown.ui.resultsTable.setCurrentCell(1, 0)
    _draw(shown.parameters.segmentation, "spleen")
    assert _cells(shown, 2)[2] == "180.2", "it is counted once the user rests"
    qt_host.process_events(lambda: _cells(shown, 2)[2] != "180.2", timeout=10)
    assert _cells(shown, 2) == ["Spleen", "corrected", "0.1", "–", "0"]
    assert shown.ui.resultsTable.currentRow() == 1
    assert shown.ui.resultsLabel.text == "CT organs: 3 organs, 2 to look at, on top, 1 corrected."


def test_a_correction_in_another_module_is_measured_at_the_way_back(shown: Any, qt_host: Any) -> None:
    shown.ui.resultsSection.collapsed = True
    shown.ui.resultsTable.setCurrentCell(2, 0)
    shown.ui.editButton.click()
    node = shown.parameters.segmentation
    shown.exit()
    _draw(node, "spleen")
    shown.enter()
    assert _cells(shown, 2)[1:3] == ["corrected", "0.1"]
    assert not shown.ui.resultsSection.collapsed


def test_segments_tell_the_new_measurements_while_another_module_is_shown(shown: Any, qt_host: Any) -> None:
    """So that what Slicer itself saves and exports is right."""
    from MultiOrganSegLib.tags import tag

    node = shown.parameters.segmentation
    shown.exit()
    _draw(node, "spleen")
    segment = node.GetSegmentation().GetSegment("spleen")
    qt_host.process_events(lambda: tag(segment, "MultiOrganSeg.Voxels") == "8", timeout=10)
    assert tag(segment, "MultiOrganSeg.Confidence") == ""
    assert tag(segment, "DICOM.SegmentAlgorithmType") == "SEMIAUTOMATIC"


def test_export_csv_and_seg_nrrd(shown: Any, qt_host: Any, tmp_path: Path) -> None:
    import slicer

    table, file = tmp_path / "Tabelle ü.csv", tmp_path / "organs"
    qt_host.answers.add(str(table), str(file))
    shown.ui.exportCsvButton.click()
    shown.ui.exportSegButton.click()
    with table.open(encoding="utf-8") as lines:
        assert {row["organ"] for row in csv.DictReader(lines)} >= {"liver", "spleen"}
    written = file.with_name("organs.seg.nrrd")
    assert str(written) in shown.results.message.text
    again = slicer.util.loadSegmentation(str(written))
    assert again.GetSegmentation().GetNumberOfSegments() == 3


def test_cancelled_export_writes_and_tells_nothing(shown: Any, qt_host: Any) -> None:
    qt_host.answers.add("")
    shown.ui.exportCsvButton.click()
    assert shown.results.message.text == ""


def test_export_into_a_missing_place_is_reported(shown: Any, qt_host: Any, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("no folder", encoding="utf-8")
    qt_host.answers.add(str(blocked / "table.csv"))
    shown.ui.exportCsvButton.click()
    assert "table.csv" in shown.results.message.text


def test_dicom_seg_of_a_volume_that_is_not_dicom_is_refused_with_a_way_out(
    shown: Any, qt_host: Any, tmp_path: Path
) -> None:
    qt_host.answers.add(str(tmp_path / "organs.dcm"))
    shown.ui.exportDicomButton.click()
    assert "DICOM" in shown.results.message.text
    assert ".seg.nrrd" in shown.results.message.text
    assert not (tmp_path / "organs.dcm").exists()


def test_nothing_goes_into_the_database_for_a_volume_that_is_not_dicom(shown: Any) -> None:
    from DICOMLib import DICOMSendDialog

    DICOMSendDialog.opened.clear()
    shown.ui.toServerButton.click()
    assert "loaded from DICOM" in shown.results.message.text
    assert not DICOMSendDialog.opened


def test_results_go_into_the_database_and_the_dialog_is_asked_for_a_server(
    shown: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import slicer
    from DICOMLib import DICOMSendDialog

    from MultiOrganSegLib import dicom_objects

    asked: list[Any] = []
    monkeypatch.setattr(dicom_objects, "add_to_database", lambda *nodes: asked.append(nodes) or ["/db/a"])
    DICOMSendDialog.opened.clear()
    shown.ui.toDatabaseButton.click()
    assert "Nothing was sent" in shown.results.message.text
    assert not DICOMSendDialog.opened
    shown.ui.toServerButton.click()
    assert DICOMSendDialog.opened == [(["/db/a"], slicer.util.mainWindow())]
    node = shown.parameters.segmentation
    role = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
    assert asked == 2 * [(node, node.GetNodeReference(role))]


def test_segmentation_of_others_shows_no_rows_and_cannot_be_exported(panel: Any) -> None:
    import slicer

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Mine")
    node.GetSegmentation().AddEmptySegment("bone", "bone")
    panel.parameters.segmentation = node
    assert panel.ui.resultsTable.rowCount == 0
    assert "Mine" in panel.ui.resultsLabel.text
    assert not panel.ui.exportSegButton.enabled


def test_choosing_another_output_changes_the_table(shown: Any, result_node: Callable[..., Any]) -> None:
    other = result_node(name="Second")
    shown.ui.segmentationSelector.setCurrentNode(other)
    assert "Second" in shown.ui.resultsLabel.text
    shown.ui.segmentationSelector.setCurrentNode(None)
    assert shown.ui.resultsTable.rowCount == 0
