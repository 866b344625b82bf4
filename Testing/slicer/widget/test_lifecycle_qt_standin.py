"""Opening, leaving, reloading and closing, on stand-in Qt; the scene is real."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]


def _start(panel: Any, ct: Callable[..., Any]) -> Any:
    panel.parameters.volume = ct()
    panel.apply()
    assert panel.run is not None
    return panel.run


def test_scene_closed_in_the_middle_cancels_and_the_panel_goes_on(ct: Callable[..., Any], panel: Any) -> None:
    import slicer

    run = _start(panel, ct)
    panel.parameters.quality = "best"
    slicer.mrmlScene.Clear(0)
    assert run.state == "cancelled"
    assert panel.run is None
    assert panel.ui.organsBox.enabled
    assert panel.parameters is not None
    assert panel.parameters.volume is None
    assert panel.parameters.quality == "balanced"
    panel.parameters.volume = ct("After")
    assert panel.ui.volumeSelector.currentNode().GetName() == "After"
    panel.apply()
    assert panel.run is not None


def test_scene_closed_with_a_result_on_show_empties_the_table(
    panel: Any, result_node: Callable[..., Any]
) -> None:
    import slicer

    panel.parameters.segmentation = result_node()
    assert panel.ui.resultsTable.rowCount == 3
    slicer.mrmlScene.Clear(0)
    assert panel.ui.resultsTable.rowCount == 0
    assert not panel.ui.exportSegButton.enabled


def test_scene_closed_while_another_module_is_shown_makes_no_parameters(panel: Any) -> None:
    import slicer

    panel.exit()
    slicer.mrmlScene.Clear(0)
    assert panel.parameters is None
    panel.enter()
    assert panel.parameters is not None


def test_run_goes_on_while_another_module_is_shown(
    ct: Callable[..., Any], panel: Any, logic: Any, result_node: Callable[..., Any]
) -> None:
    logic.steps = [lambda: {"state": "finished", "segmentation_node": result_node()}]
    run = _start(panel, ct)
    panel.exit()
    panel._tick()
    assert run.state == "finished"
    panel.enter()
    assert panel.parameters.segmentation is run.segmentation_node
    assert panel.ui.resultsTable.rowCount == 3


def test_cleanup_cancels_the_run_and_can_be_called_twice(ct: Callable[..., Any], panel: Any) -> None:
    import slicer

    run = _start(panel, ct)
    panel.cleanup()
    assert run.state == "cancelled"
    assert not panel._timer.active
    panel.cleanup()
    slicer.mrmlScene.Clear(0)
    assert panel.parameters is None


def test_deleted_segmentation_leaves_the_table(panel: Any, result_node: Callable[..., Any]) -> None:
    import slicer

    node = result_node()
    panel.parameters.segmentation = node
    slicer.mrmlScene.RemoveNode(node)
    assert panel.parameters.segmentation is None
    assert panel.ui.resultsTable.rowCount == 0


def test_parameters_come_back_with_a_scene(panel: Any, tmp_path: Path, ct: Callable[..., Any]) -> None:
    import slicer

    ct("Saved")
    panel.enter()
    panel.parameters.quality = "best"
    panel.parameters.organs = "liver,spleen"
    path = tmp_path / "scene.mrb"
    slicer.util.saveScene(str(path))
    slicer.mrmlScene.Clear(0)
    slicer.util.loadScene(str(path))
    panel.enter()
    assert panel.parameters.quality == "best"
    assert panel.ui.qualitySelector.currentText == "Best"
    assert panel.ui.organCountLabel.text == "2 of 13 organs"


def test_module_is_loaded_opened_reloaded_and_closed_by_the_application(qt_host: Any) -> None:
    import slicer

    module = qt_host.load_module("MultiOrganSeg", ROOT / "MultiOrganSeg")
    assert module.title == "MultiOrganSeg"
    assert module.categories == ["Segmentation"]
    representation = module.widgetRepresentation()
    widget = representation.self()
    widget.enter()
    assert widget.ui.applyButton.text == "A&pply"
    assert widget.logic.getParameterNode().model == "abdomen-ct"
    assert slicer.mrmlScene.GetSingletonNode("MultiOrganSeg", "vtkMRMLScriptedModuleNode")
    widget.exit()


def test_the_panel_lives_on_after_reload(qt_host: Any, ct: Callable[..., Any]) -> None:
    """By Slicer's own function, as the button Reload does: it calls `setup` and not `enter`."""
    import slicer

    module = qt_host.load_module("MultiOrganSeg", ROOT / "MultiOrganSeg")
    node = ct("Thorax")
    slicer.util.selectModule("MultiOrganSeg")
    for _ in range(2):
        slicer.util.reloadScriptedModule("MultiOrganSeg")
        panel = module.widgetRepresentation().self().panel
        assert panel.parameters is not None
        assert panel.ui.volumeSelector.currentNode() is node
        panel.ui.noOrgansButton.click()
        panel.ui.applyButton.click()
        assert "No organ is ticked" in panel.segment.message.text
        panel.ui.allOrgansButton.click()


def test_a_panel_that_is_only_made_touches_no_scene(qt_host: Any) -> None:
    import slicer

    module = qt_host.load_module("MultiOrganSeg", ROOT / "MultiOrganSeg")
    assert module.widgetRepresentation().self().panel.parameters is None
    assert slicer.mrmlScene.GetSingletonNode("MultiOrganSeg", "vtkMRMLScriptedModuleNode") is None


def test_glue_is_short() -> None:
    lines = (ROOT / "MultiOrganSeg" / "MultiOrganSeg.py").read_text(encoding="utf-8").splitlines()
    assert len(lines) < 110


OPENING = """
import sys, time
sys.path[:0] = [{host!r}, {module!r}]
import slicer_host
from pathlib import Path
host = slicer_host.start(widgets=True)
module = host.load_module("MultiOrganSeg", Path({module!r}))
widget = module.widgetRepresentation().self()
widget.enter()
heavy = {{"torch", "monai", "openvino", "SimpleITK", "highdicom", "pydicom", "matplotlib", "scipy"}}
print("HEAVY", sorted(heavy & set(sys.modules)))
print("CHILD", widget.panel._probe.running)
"""


def test_first_opening_imports_nothing_heavy_and_starts_no_process(qt_host: Any) -> None:
    host, module = ROOT / "Testing" / "host", ROOT / "MultiOrganSeg"
    code = OPENING.format(host=str(host), module=str(module))
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert "HEAVY []" in done.stdout, done.stdout + done.stderr[-2000:]
    assert "CHILD False" in done.stdout


def test_onreload_loads_the_library_anew(qt_host: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    module = qt_host.load_module("MultiOrganSeg", ROOT / "MultiOrganSeg")
    widget = module.widgetRepresentation().self()
    before = dict(sys.modules)
    base = type(widget).__mro__[1]
    monkeypatch.setattr(base, "onReload", lambda self: None, raising=False)
    try:
        widget.onReload()
        assert [name for name in sys.modules if name.startswith("MultiOrganSegLib")] == []
    finally:
        sys.modules.update(before)
