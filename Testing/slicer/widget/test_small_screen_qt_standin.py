"""What is seen without scrolling on a screen of 1366 × 768 pixels, on stand-in Qt."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from add_organ_project import use_fake_trainer, write_project

from multiorganseg.errors import VolumeError

PANEL = (340, 500)
"""What a main window of 1366 × 768 leaves to a module's panel, with its data probe folded out."""
LARGE = (340, 1400)


@pytest.fixture
def run(ct: Callable[..., Any], panel: Any, logic: Any, result_node: Callable[..., Any]) -> Callable[[], Any]:
    """Lets a run finish."""

    def finish() -> Any:
        panel.parameters.volume = ct()
        logic.steps = [lambda: {"state": "finished", "segmentation_node": result_node()}]
        panel.apply()
        panel._tick()
        return panel

    return finish


def test_apply_is_seen_at_once(panel: Any, screen: Callable[..., Any]) -> None:
    assert screen(*PANEL)(panel.ui.applyButton)


def test_a_finished_run_shows_its_table_and_what_it_says(
    run: Callable[[], Any], panel: Any, screen: Callable[..., Any]
) -> None:
    is_seen = screen(*PANEL)
    run()
    assert is_seen(panel.ui.resultsTable)
    assert is_seen(panel.ui.resultsMessageFrame)
    assert panel.ui.segmentSection.collapsed


def test_on_a_large_screen_nothing_is_folded(
    run: Callable[[], Any], panel: Any, screen: Callable[..., Any]
) -> None:
    is_seen = screen(*LARGE)
    run()
    assert is_seen(panel.ui.resultsTable)
    assert is_seen(panel.ui.applyButton)
    assert not panel.ui.segmentSection.collapsed


def test_the_table_is_seen_on_the_way_back_from_the_editor(
    run: Callable[[], Any], panel: Any, screen: Callable[..., Any]
) -> None:
    is_seen = screen(*PANEL)
    run()
    panel.ui.editButton.click()
    panel.exit()
    panel.ui.segmentSection.collapsed = False
    panel.ui.resultsSection.collapsed = True
    panel.enter()
    assert is_seen(panel.ui.resultsTable)


def test_a_run_that_ends_while_another_module_is_open_is_shown_at_the_way_back(
    run: Callable[[], Any], panel: Any, screen: Callable[..., Any]
) -> None:
    is_seen = screen(*PANEL)
    panel.parameters.volume = None
    panel.logic.getParameterNode()
    run()
    panel.exit()
    panel.enter()
    assert is_seen(panel.ui.resultsTable)


def test_why_a_run_failed_is_seen_although_its_section_was_folded(
    ct: Callable[..., Any], panel: Any, logic: Any, screen: Callable[..., Any]
) -> None:
    is_seen = screen(340, 300)
    panel.parameters.volume = ct()
    logic.steps = [{"state": "failed", "error": VolumeError("It is broken.")}]
    panel.apply()
    panel.ui.segmentSection.collapsed = True
    panel._tick()
    assert "It is broken." in panel.segment.message.text
    assert is_seen(panel.ui.segmentMessageFrame)


def test_what_an_export_says_is_scrolled_to(
    run: Callable[[], Any], panel: Any, qt_host: Any, screen: Callable[..., Any], tmp_path: Path
) -> None:
    is_seen = screen(340, 300)
    run()
    assert not is_seen(panel.ui.exportCsvButton)
    panel.ui.resultsMessageFrame.visible = False
    qt_host.answers.add(str(tmp_path / "table.csv"))
    panel.ui.exportCsvButton.click()
    assert "Saved" in panel.results.message.text
    assert is_seen(panel.ui.resultsMessageFrame)


def test_the_editor_of_a_case_is_above_the_fold(
    panel: Any, qt_host: Any, screen: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from multiorganseg.bundles import find_bundle

    use_fake_trainer(monkeypatch)
    organs = (*find_bundle("abdomen-ct").metadata.labels.keys, "colon")
    project = write_project(tmp_path / "study", {"case_1": {}, "case_2": {}}, organs)
    is_seen = screen(*PANEL)
    panel.ui.addOrganSection.collapsed = False
    add_organ = panel.add_organ
    qt_host.answers.add(str(project))
    add_organ.ui.openProjectButton.click()
    add_organ.show_step("cases")
    add_organ.cases.open("case_1")
    assert is_seen(add_organ.ui.presegmentButton)
    assert is_seen(add_organ.cases._editor._editor)
