"""Choosing, starting, following and cancelling a run, on stand-in Qt and a fake logic."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from multiorganseg.errors import DependencyError, MultiOrganSegError, ResourceError, VolumeError

ORGANS = 13


def _rows(panel: Any) -> list[Any]:
    return [panel.ui.organList.item(row) for row in range(panel.ui.organList.count)]


def _shown(panel: Any) -> list[str]:
    return [item.text() for item in _rows(panel) if not item.isHidden()]


def _ticked(panel: Any) -> list[str]:
    import qt

    return [item.text() for item in _rows(panel) if item.checkState() == qt.Qt.Checked]


def _choose(combo: Any, value: str) -> None:
    combo.currentIndex = combo.findData(value)


def _message(panel: Any) -> str:
    return str(panel.segment.message.text)


def _tick(panel: Any, times: int = 1) -> None:
    for _ in range(times):
        panel._tick()


def _running(panel: Any) -> bool:
    return "Cancel" in panel.ui.applyButton.text


def test_first_volume_is_chosen_and_described(ct: Callable[..., Any], panel: Any) -> None:
    node = ct("Thorax")
    panel.enter()
    assert panel.ui.volumeSelector.currentNode() is node
    assert "24 × 20 × 16 voxels of 2 × 2 × 3 mm" in panel.ui.volumeInfoLabel.text


def test_a_volume_that_comes_while_the_panel_is_open_is_chosen(
    ct: Callable[..., Any], panel: Any, qt_host: Any
) -> None:
    first = ct("First")
    assert panel.parameters.volume is None, "it has no voxels when it is added"
    qt_host.process_events()
    assert panel.ui.volumeSelector.currentNode() is first
    ct("Second")
    qt_host.process_events()
    assert panel.parameters.volume is first


def test_an_empty_volume_or_one_while_another_module_is_open_is_not_chosen(
    ct: Callable[..., Any], panel: Any, qt_host: Any
) -> None:
    import slicer

    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")
    qt_host.process_events()
    assert panel.parameters.volume is None
    panel.exit()
    ct()
    qt_host.process_events()
    assert panel.parameters is None


@pytest.mark.parametrize(("kind", "window"), [("CT", (350, 40)), ("fixed", (1500, -500)), ("MR", None)])
def test_a_ct_with_an_automatic_window_is_shown_in_that_of_soft_tissue(
    ct: Callable[..., Any], panel: Any, kind: str, window: tuple[int, int] | None
) -> None:
    import slicer

    from multiorganseg.phantom import phantom_ct

    node, voxels = ct(), phantom_ct().voxels
    slicer.util.updateVolumeFromArray(node, voxels - voxels.min() if kind == "MR" else voxels)
    display = node.GetDisplayNode()
    if kind == "fixed":
        display.AutoWindowLevelOff()
        display.SetWindowLevel(1500, -500)
    before = display.GetWindow(), display.GetLevel()
    panel.parameters.volume = node
    assert (display.GetWindow(), display.GetLevel()) == (window or before)
    assert bool(display.GetAutoWindowLevel()) == (kind == "MR")


def test_volume_under_transforms_is_reported(ct: Callable[..., Any], panel: Any) -> None:
    import slicer

    node = ct()
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Shift")
    node.SetAndObserveTransformNodeID(transform.GetID())
    panel.parameters.volume = node
    assert "Shift" in panel.ui.volumeInfoLabel.text


def test_model_is_listed_with_its_organs_in_colour(panel: Any) -> None:
    from multiorganseg.bundles import find_bundle

    version = find_bundle("abdomen-ct").metadata.version
    assert panel.ui.modelSelector.currentText.startswith(f"abdomen-ct {version}: ")
    assert len(_rows(panel)) == len(_ticked(panel)) == ORGANS
    assert all(not item.icon().isNull() for item in _rows(panel))
    assert all("SCT" in item.toolTip() for item in _rows(panel))
    assert panel.ui.organCountLabel.text == f"{ORGANS} of {ORGANS} organs"


def test_organ_subset_goes_into_the_parameters_and_back(panel: Any) -> None:
    import qt

    panel.ui.noOrgansButton.click()
    assert panel.parameters.organs == "none"
    liver = next(item for item in _rows(panel) if item.text() == "Liver")
    liver.setCheckState(qt.Qt.Checked)
    assert panel.parameters.organs == "liver"
    panel.parameters.organs = "spleen,pancreas"
    assert _ticked(panel) == ["Spleen", "Pancreas"]
    panel.ui.allOrgansButton.click()
    assert panel.parameters.organs == ""


def test_search_hides_others_and_buttons_act_on_what_is_shown(panel: Any) -> None:
    panel.ui.organSearch.text = "kidney"
    assert _shown(panel) == ["Right kidney", "Left kidney"]
    panel.ui.noOrgansButton.click()
    panel.ui.organSearch.text = ""
    assert len(_shown(panel)) == ORGANS
    assert len(_ticked(panel)) == ORGANS - 2


def test_search_finds_misspelt_organs_and_tells_nothing_for_none(panel: Any) -> None:
    panel.ui.organSearch.text = "pancraes"
    assert _shown(panel) == ["Pancreas"]
    panel.ui.organSearch.text = "zzzz"
    assert _shown(panel) == []


@pytest.mark.parametrize(("name", "value"), [("quality", "best"), ("device", "cpu"), ("existing", "replace")])
def test_choices_go_into_the_parameters_and_back(panel: Any, name: str, value: str) -> None:
    combo = getattr(panel.ui, f"{name}Selector")
    before = getattr(panel.parameters, name)
    _choose(combo, value)
    assert getattr(panel.parameters, name) == value
    setattr(panel.parameters, name, before)
    assert combo.itemData(combo.currentIndex) == before


def test_every_choice_explains_itself(panel: Any) -> None:
    import qt

    for name in ("model", "existing", "quality", "device"):
        combo = getattr(panel.ui, f"{name}Selector")
        for row in range(combo.count):
            assert combo.itemData(row, qt.Qt.ToolTipRole), combo.itemText(row)


def test_apply_progress_and_cancel(ct: Callable[..., Any], panel: Any, logic: Any) -> None:
    panel.parameters.volume = ct()
    panel.parameters.organs = "liver"
    panel.parameters.quality = "fast"
    logic.steps = [
        {"stage": "reading", "fraction": 0.02, "log": "hello"},
        {"stage": "segmenting", "fraction": 0.4, "eta_seconds": 12.4},
        {"stage": "segmenting", "fraction": 0.6, "eta_seconds": 200.0},
    ]
    panel.ui.applyButton.click()
    assert logic.started == [
        {
            "volume": panel.parameters.volume,
            "segmentation": None,
            "model": "abdomen-ct",
            "organs": ("liver",),
            "quality": "fast",
            "device": "auto",
        }
    ]
    assert _running(panel)
    assert not panel.ui.organsBox.enabled
    _tick(panel, 2)
    assert panel.ui.progressBar.value == 40
    assert panel.ui.progressLabel.text == "Segmenting · about 12 s left"
    assert panel.ui.logText.plainText == "hello"
    _tick(panel)
    assert panel.ui.progressLabel.text == "Segmenting · about 3 min left"
    panel.ui.applyButton.click()
    assert logic.run.state == "cancelled"
    assert not _running(panel)
    assert panel.ui.organsBox.enabled
    assert "scene is as it was" in _message(panel)


def test_timer_polls_by_itself_and_stops_at_the_end(
    ct: Callable[..., Any], panel: Any, logic: Any, qt_host: Any, result_node: Callable[..., Any]
) -> None:
    panel.parameters.volume = ct()
    logic.steps = [{"fraction": 0.5}, lambda: {"state": "finished", "segmentation_node": result_node()}]
    panel.apply()
    qt_host.process_events(lambda: panel.run is None, timeout=10)
    polls = logic.run.polls
    qt_host.process_events()
    assert not panel._timer.active
    assert logic.run.polls == polls


def test_finished_run_shows_result_and_warnings(
    ct: Callable[..., Any], panel: Any, logic: Any, result_node: Callable[..., Any]
) -> None:
    panel.parameters.volume = ct()
    logic.steps = [
        lambda: {
            "state": "finished",
            "segmentation_node": result_node(panel.parameters.volume),
            "messages": ["A coarser step was taken."],
        }
    ]
    panel.apply()
    _tick(panel)
    assert panel.parameters.segmentation.GetName() == "CT organs"
    assert panel.ui.segmentationSelector.currentNode() is panel.parameters.segmentation
    assert "A coarser step was taken." in panel.results.message.text
    assert panel.ui.resultsTable.rowCount == 3
    assert not panel.ui.resultsSection.collapsed


def test_apply_without_a_volume_says_what_to_do(panel: Any, logic: Any) -> None:
    panel.ui.applyButton.click()
    assert "No volume is chosen." in _message(panel)
    assert "sample CT" in _message(panel)
    assert logic.started == []
    assert not _running(panel)


def test_apply_without_organs_says_what_to_do(ct: Callable[..., Any], panel: Any, logic: Any) -> None:
    panel.parameters.volume = ct()
    panel.ui.noOrgansButton.click()
    panel.ui.applyButton.click()
    assert "No organ is ticked." in _message(panel)
    assert logic.started == []


def test_missing_model_is_shown_as_such_and_refused(ct: Callable[..., Any], panel: Any, logic: Any) -> None:
    panel.parameters.volume = ct()
    panel.parameters.model = "heart-mr"
    assert "not installed" in panel.ui.modelSelector.currentText
    panel.apply()
    assert "heart-mr" in _message(panel)
    assert "section Models" in _message(panel)
    assert logic.started == []


@pytest.mark.parametrize("kind", [VolumeError, ResourceError])
def test_error_of_the_start_is_told_with_cause_and_next_step(
    ct: Callable[..., Any], panel: Any, logic: Any, kind: type[MultiOrganSegError]
) -> None:
    panel.parameters.volume = ct()
    logic.error = kind("It is <odd>.", cause="Line one\nLine two", next_step="Do this.")
    panel.apply()
    for part in ("It is &lt;odd&gt;.", "Line one<br>Line two", "Do this."):
        assert part in _message(panel)
    assert panel.ui.segmentMessageFrame.visible or not panel.ui.segmentMessageFrame.isHidden()
    assert not _running(panel)


def test_failed_run_is_told_and_leaves_the_log(ct: Callable[..., Any], panel: Any, logic: Any) -> None:
    panel.parameters.volume = ct()
    error = ResourceError("The process was ended.", cause="Signal 9.", next_step="Close other programs.")
    logic.steps = [{"state": "failed", "error": error, "log": "Traceback"}]
    panel.apply()
    _tick(panel)
    assert "Signal 9." in _message(panel)
    assert "Close other programs." in _message(panel)
    assert panel.ui.logText.plainText == "Traceback"
    assert not _running(panel)
    panel.ui.copyLogButton.click()
    import qt

    assert qt.QApplication.clipboard().text() == "Traceback"


def test_defect_in_a_poll_ends_the_run_and_is_not_swallowed(
    ct: Callable[..., Any], panel: Any, logic: Any
) -> None:
    def broken() -> dict[str, Any]:
        message = "a defect"
        raise RuntimeError(message)

    panel.parameters.volume = ct()
    logic.steps = [broken]
    panel.apply()
    with pytest.raises(RuntimeError, match="a defect"):
        _tick(panel)
    assert panel.run is None
    assert not _running(panel)


def test_long_cause_is_cut(panel: Any) -> None:
    error = MultiOrganSegError("Bad.", cause="\n".join(f"line {number}" for number in range(50)))
    panel.segment.message.show_error(error)
    assert "line 5" in _message(panel)
    assert "line 6" not in _message(panel)
    assert "44 more" in _message(panel)


def test_ask_replace_new_and_nothing(
    ct: Callable[..., Any], panel: Any, logic: Any, result_node: Callable[..., Any]
) -> None:
    volume = ct()
    node = result_node(volume)
    panel.parameters.volume, panel.parameters.segmentation = volume, node
    panel.ui.applyButton.click()
    assert "CT organs" in panel.ui.questionLabel.text
    assert not panel.ui.questionFrame.isHidden()
    assert logic.started == []
    panel.ui.dropButton.click()
    assert panel.ui.questionFrame.isHidden()
    assert logic.started == []
    for button, target in (("replaceButton", node), ("newButton", None)):
        panel.ui.applyButton.click()
        getattr(panel.ui, button).click()
        assert panel.ui.questionFrame.isHidden()
        assert logic.started[-1]["segmentation"] is target
        panel.cancel()


@pytest.mark.parametrize("choice", ["replace", "new"])
def test_choice_for_existing_segments_is_not_asked_again(
    ct: Callable[..., Any], panel: Any, logic: Any, result_node: Callable[..., Any], choice: str
) -> None:
    node = result_node()
    panel.parameters.volume, panel.parameters.segmentation = ct("Other"), node
    panel.parameters.existing = choice
    panel.apply()
    assert logic.started[-1]["segmentation"] is (node if choice == "replace" else None)


def _correct(node: Any) -> None:
    import numpy as np
    import slicer

    volume = node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole())
    drawn = np.zeros((16, 20, 24), np.uint8)
    drawn[2:4, 3:5, 4:6] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(drawn, node, "spleen", volume)


def test_work_by_hand_is_not_replaced_without_a_question(
    ct: Callable[..., Any], panel: Any, logic: Any, result_node: Callable[..., Any]
) -> None:
    volume = ct()
    node = result_node(volume)
    panel.parameters.volume, panel.parameters.segmentation = volume, node
    panel.parameters.existing = "replace"
    _correct(node)
    panel.apply()
    assert logic.started == []
    assert "by hand: Spleen" in panel.ui.questionLabel.text
    panel.ui.replaceButton.click()
    assert logic.started[-1]["segmentation"] is node


def test_undo_of_a_run_asks_where_work_by_hand_would_be_lost(
    panel: Any, logic: Any, result_node: Callable[..., Any]
) -> None:
    node = result_node()
    panel.parameters.segmentation = node
    logic.undoable.add(node.GetID())
    _correct(node)
    panel._update()
    assert "run" in panel.ui.undoButton.text
    for button, undone in (("undoDropButton", False), ("undoAnywayButton", True)):
        panel.ui.undoButton.click()
        assert not panel.ui.undoFrame.isHidden()
        assert "Spleen" in panel.ui.undoLabel.text
        assert logic.undoable
        getattr(panel.ui, button).click()
        assert panel.ui.undoFrame.isHidden()
        assert bool(logic.undoable) != undone


def test_empty_output_is_used_without_a_question(ct: Callable[..., Any], panel: Any, logic: Any) -> None:
    import slicer

    empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Empty")
    panel.parameters.volume, panel.parameters.segmentation = ct(), empty
    panel.apply()
    assert logic.started[-1]["segmentation"] is empty


def test_undo_is_offered_when_it_can_and_done(
    panel: Any, logic: Any, result_node: Callable[..., Any]
) -> None:
    node = result_node()
    panel.parameters.segmentation = node
    assert not panel.ui.undoButton.enabled
    logic.undoable.add(node.GetID())
    panel._update()
    assert panel.ui.undoButton.enabled
    panel.ui.undoButton.click()
    assert logic.undoable == set()
    assert not panel.ui.undoButton.enabled
    assert "undone" in _message(panel)


def test_missing_packages_are_asked_for_at_apply_only(
    ct: Callable[..., Any], panel: Any, logic: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from MultiOrganSegLib import dependencies

    missing = ["torch", "monai"]
    asked: list[bool] = []
    monkeypatch.setattr(dependencies, "missing_packages", lambda _entry=None: list(missing))
    monkeypatch.setattr(
        dependencies, "ensure_dependencies", lambda ask=True: (asked.append(ask), missing.clear())
    )
    panel.parameters.volume = ct()
    panel.enter()
    assert not panel.ui.dependencyFrame.isHidden()
    assert "torch, monai" in panel.ui.dependencyLabel.text
    assert asked == []
    panel.ui.applyButton.click()
    assert asked == [True]
    assert len(logic.started) == 1
    assert panel.ui.dependencyFrame.isHidden()


def test_declined_installation_is_told_and_starts_nothing(
    ct: Callable[..., Any], panel: Any, logic: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from MultiOrganSegLib import dependencies

    def decline(ask: bool = True) -> None:
        msg = "Not installed."
        raise DependencyError(msg, next_step="pip download\ntorch")

    monkeypatch.setattr(dependencies, "missing_packages", lambda _entry=None: ["torch"])
    monkeypatch.setattr(dependencies, "ensure_dependencies", decline)
    panel.parameters.volume = ct()
    for button in ("applyButton", "installButton"):
        panel.segment.message.clear()
        getattr(panel.ui, button).click()
        assert "pip download<br>torch" in _message(panel)
    assert logic.started == []


def test_device_is_told_once_it_is_known(panel: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    panel.segment.show_device("CPU")
    assert panel.ui.deviceSelector.currentText == "Automatic: CPU"
    assert panel.parameters.device == "auto"


@pytest.mark.parametrize(("button", "name"), [("phantomButton", "phantom"), ("sampleButton", "real")])
def test_sample_buttons_load_and_choose_a_volume(
    ct: Callable[..., Any], panel: Any, monkeypatch: pytest.MonkeyPatch, button: str, name: str
) -> None:
    from MultiOrganSegLib import sample_data

    monkeypatch.setattr(sample_data, "load_phantom", lambda: ct("phantom"))
    monkeypatch.setattr(sample_data, "load_sample_ct", lambda: ct("real"))
    getattr(panel.ui, button).click()
    assert panel.parameters.volume.GetName() == name
    assert panel.ui.volumeSelector.currentNode().GetName() == name


def test_failed_download_is_reported(panel: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from MultiOrganSegLib import sample_data

    def fail() -> None:
        msg = "No network."
        raise DependencyError(msg, next_step="Load the phantom.")

    monkeypatch.setattr(sample_data, "load_sample_ct", fail)
    panel.ui.sampleButton.click()
    assert "Load the phantom." in _message(panel)


def test_damaged_model_is_listed_and_refused(ct: Callable[..., Any], panel: Any, logic: Any) -> None:
    from multiorganseg.bundles import user_models_dir

    damaged = Path(user_models_dir()) / "broken-ct"
    damaged.mkdir()
    panel.segment.reload_models()
    _choose(panel.ui.modelSelector, "broken-ct")
    assert "damaged" in panel.ui.modelSelector.currentText
    panel.parameters.volume = ct()
    panel.apply()
    assert "broken-ct" in _message(panel)
    assert logic.started == []
