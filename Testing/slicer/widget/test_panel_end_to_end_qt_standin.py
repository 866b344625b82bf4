"""The panel with the real logic, child process and network; only Qt and its widgets are stand-ins."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def real(qt_host: Any) -> Iterator[Any]:
    """The module's own panel, opened by the host."""
    module = qt_host.load_module("MultiOrganSeg", ROOT / "MultiOrganSeg")
    widget = module.widgetRepresentation().self()
    widget.enter()
    yield widget.panel
    widget.cleanup()


@pytest.fixture
def phantom(qt_host: Any) -> Any:
    """A ball of soft tissue in air."""
    import slicer

    k, j, i = np.mgrid[:16, :32, :32]
    ball = ((k - 8) / 7) ** 2 + ((j - 16) / 14) ** 2 + ((i - 16) / 14) ** 2 < 1
    return slicer.util.addVolumeFromArray(
        np.where(ball, 60, -1000).astype(np.int16), np.diag([2.0, 2.0, 3.0, 1.0]), "Phantom"
    )


@pytest.fixture
def tiny_model(qt_host: Any, bundle: Any) -> str:
    """A small network with random weights among the user's models."""
    from multiorganseg.bundles import user_models_dir

    name = str(bundle.metadata.name)
    shutil.copytree(bundle.folder, user_models_dir() / name)
    return name


@pytest.fixture
def endless_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that tells a little progress and then never ends."""
    from MultiOrganSegLib import child

    code = (
        "import json, sys, time; sys.stdin.readline(); name = json.loads(sys.stdin.readline())['id']; "
        "event = {'event': 'progress', 'id': name, 'stage': 'segmenting', 'fraction': 0.5}; "
        "print(json.dumps(event), flush=True); time.sleep(600)"
    )
    monkeypatch.setattr(child, "resident_command", lambda: [sys.executable, "-c", code])


def _begin(panel: Any, host: Any, volume: Any) -> Any:
    """Press Apply and wait until the child has reported something."""
    panel.parameters.volume = volume
    panel.parameters.quality = "fast"
    panel.ui.applyButton.click()
    run = panel.run
    assert run is not None, panel.segment.message.text
    host.process_events(lambda: run.stage != "" or run.state != "running", timeout=60)
    return run


def _nodes() -> set[str]:
    import slicer

    return {node.GetID() for node in slicer.util.getNodesByClass("vtkMRMLStorableNode")}


def _gone(pid: int) -> bool:
    folders = Path(_temporary()).glob("multiorganseg-*")
    return not psutil.pid_exists(pid) and not list(folders)


def _temporary() -> str:
    import slicer

    return str(slicer.app.temporaryPath)


def _message(panel: Any) -> str:
    return str(panel.segment.message.text)


def test_one_click_segments_shows_the_table_and_undo_takes_it_back(
    tiny_model: str, real: Any, qt_host: Any, phantom: Any
) -> None:
    real.parameters.model = tiny_model
    real.parameters.organs = "liver,spleen"
    run = _begin(real, qt_host, phantom)
    fractions = []
    real._timer.connect("timeout()", lambda: fractions.append(real.ui.progressBar.value))
    qt_host.process_events(lambda: real.run is None, timeout=120)
    assert run.state == "finished", _message(real)
    assert fractions == sorted(fractions)
    node = real.parameters.segmentation
    assert node.GetName() == "Phantom organs"
    assert set(node.GetSegmentation().GetSegmentIDs()) == {"liver", "spleen"}
    assert real.ui.resultsTable.rowCount == 2
    assert real.ui.undoButton.enabled
    real.ui.undoButton.click()
    assert real.parameters.segmentation is None
    assert real.ui.resultsTable.rowCount == 0


@pytest.mark.usefixtures("endless_child")
def test_cancel_ends_the_child_and_leaves_the_scene(real: Any, qt_host: Any, phantom: Any) -> None:
    before = _nodes()
    run = _begin(real, qt_host, phantom)
    assert run.state == "running"
    pid = real.logic.engine.pid
    assert "Cancel" in real.ui.applyButton.text
    real.ui.applyButton.click()
    assert _gone(pid)
    assert _nodes() == before
    assert "scene is as it was" in _message(real)


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is of POSIX")
@pytest.mark.usefixtures("endless_child")
def test_killed_child_is_told_with_cause_and_next_step(real: Any, qt_host: Any, phantom: Any) -> None:
    before = _nodes()
    run = _begin(real, qt_host, phantom)
    pid = real.logic.engine.pid
    os.kill(pid, signal.SIGKILL)
    qt_host.process_events(lambda: real.run is None, timeout=30)
    assert run.state == "failed"
    assert "lack of memory" in _message(real)
    assert "crop the volume" in _message(real)
    assert _nodes() == before
    assert _gone(pid)


def test_full_disk_is_told_before_anything_starts(
    real: Any, phantom: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(total=1, used=1, free=0))
    real.parameters.volume = phantom
    real.ui.applyButton.click()
    assert real.run is None
    assert "0 MB are free" in _message(real)
    assert "temporary folder" in _message(real)


def test_empty_volume_is_refused(real: Any) -> None:
    import slicer

    real.parameters.volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Nothing")
    assert "empty" in real.ui.volumeInfoLabel.text
    real.ui.applyButton.click()
    assert real.run is None
    assert "Nothing" in _message(real)


def test_volume_with_many_values_a_voxel_is_refused(real: Any) -> None:
    import slicer
    import vtk

    image = vtk.vtkImageData()
    image.SetDimensions(20, 20, 20)
    image.AllocateScalars(vtk.VTK_SHORT, 4)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Perfusion")
    node.SetAndObserveImageData(image)
    real.parameters.volume = node
    real.ui.applyButton.click()
    assert real.run is None
    assert "Perfusion" in _message(real)


def test_sequence_is_not_offered_and_its_volume_is_refused_or_taken_alone(real: Any) -> None:
    import slicer

    if not hasattr(slicer, "vtkMRMLSequenceNode"):
        pytest.skip("this slicer-core has no sequences")
    sequence = slicer.vtkMRMLSequenceNode()
    slicer.mrmlScene.AddNode(sequence)
    real.ui.volumeSelector.setCurrentNode(sequence)
    assert real.parameters.volume is None
    real.ui.applyButton.click()
    assert "No volume is chosen." in _message(real)


@pytest.mark.usefixtures("endless_child")
def test_volume_deleted_in_the_middle_ends_the_run(real: Any, qt_host: Any, phantom: Any) -> None:
    import slicer

    run = _begin(real, qt_host, phantom)
    pid = real.logic.engine.pid
    slicer.mrmlScene.RemoveNode(phantom)
    qt_host.process_events(lambda: real.run is None, timeout=10)
    assert run.state == "cancelled"
    assert "The volume was removed from the scene." in _message(real)
    assert _gone(pid)


@pytest.mark.usefixtures("endless_child")
def test_scene_closed_in_the_middle_ends_the_child(real: Any, qt_host: Any, phantom: Any) -> None:
    import slicer

    _begin(real, qt_host, phantom)
    pid = real.logic.engine.pid
    slicer.mrmlScene.Clear(0)
    assert _gone(pid)
    assert real.run is None
    assert slicer.util.getNodesByClass("vtkMRMLSegmentationNode") == []


@pytest.mark.usefixtures("endless_child")
def test_closing_the_module_in_the_middle_ends_the_child(real: Any, qt_host: Any, phantom: Any) -> None:
    _begin(real, qt_host, phantom)
    pid = real.logic.engine.pid
    real.cleanup()
    assert _gone(pid)


def test_device_is_asked_in_the_background_when_a_volume_is_chosen(
    qt_host: Any, phantom: Any, logic: Any, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    panel = request.getfixturevalue("panel")
    assert panel._probe.running
    qt_host.process_events(lambda: not panel._probe.running, timeout=60)
    assert panel.ui.deviceSelector.currentText.startswith("Automatic: ")
    assert "torch" not in panel.ui.dependencyLabel.text


def test_second_run_replaces_and_undo_gives_the_first_back(
    tiny_model: str, real: Any, qt_host: Any, phantom: Any, result_node: Callable[..., Any]
) -> None:
    real.parameters.model = tiny_model
    node = result_node(phantom)
    real.parameters.segmentation = node
    real.parameters.existing = "replace"
    real.parameters.organs = "liver"
    _begin(real, qt_host, phantom)
    qt_host.process_events(lambda: real.run is None, timeout=120)
    assert real.parameters.segmentation is node
    assert set(node.GetSegmentation().GetSegmentIDs()) == {"liver"}
    real.ui.undoButton.click()
    assert set(node.GetSegmentation().GetSegmentIDs()) == {"spleen", "liver", "pancreas"}
    assert real.ui.resultsTable.rowCount == 3
