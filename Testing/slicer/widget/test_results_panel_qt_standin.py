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
        ["Pancreas", "0.0", "–", "–", "not found"],
        ["Liver", "950.0", "101", "0.91", "cut off"],
        ["Spleen", "180.2", "112", "0.97", ""],
    ]
    assert shown.ui.resultsLabel.text == "CT organs: 3 organs, 2 to look at, on top."
    item = shown.ui.resultsTable.item(1, 4)
    assert "Reaches the edge" in item.toolTip()
    assert not shown.ui.resultsTable.item(0, 0).icon().isNull()


def test_click_centres_slices_selects_the_organ_and_tells_its_flags(shown: Any) -> None:
    import slicer

    node = shown.parameters.segmentation
    slice_node = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSliceNode")
    if slice_node is None:
        logic = slicer.vtkMRMLSliceLogic()
        logic.SetMRMLScene(slicer.mrmlScene)
        slice_node = logic.AddSliceNode("Red")
    _click(shown, 1)
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


def test_edit_opens_the_segment_editor_with_the_organ(shown: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import slicer

    opened: list[str] = []
    monkeypatch.setattr(slicer.util, "selectModule", opened.append)
    shown.ui.resultsTable.setCurrentCell(2, 0)
    shown.ui.editButton.click()
    editor = slicer.mrmlScene.GetSingletonNode("SegmentEditor", "vtkMRMLSegmentEditorNode")
    assert opened == ["SegmentEditor"]
    assert editor.GetSelectedSegmentID() == "spleen"


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


def test_export_into_a_missing_place_is_told(shown: Any, qt_host: Any, tmp_path: Path) -> None:
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
