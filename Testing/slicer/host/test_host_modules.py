"""Scripted modules on the host: loading, widget with its .ui file, life cycle; Qt is a stand-in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


def test_module_is_known_as_in_the_application(probe: Any) -> None:
    import slicer

    assert slicer.modules.probe is probe
    assert slicer.util.modulePath("Probe") == probe.path
    assert probe.title == "Probe"
    assert probe.instance.started
    assert probe.logic().GetClassName() == "vtkSlicerScriptedLoadableModuleLogic"
    assert "Probe" in slicer.util.moduleNames()


def test_module_without_its_class_is_refused(host: Any, tmp_path: Path) -> None:
    import sys

    (tmp_path / "Nothing.py").write_text("x = 1\n", encoding="utf-8")
    with pytest.raises(AttributeError, match="Nothing"):
        host.load_module("Nothing", tmp_path)
    with pytest.raises(FileNotFoundError):
        host.load_module("Missing", tmp_path)
    assert "Nothing" not in sys.modules


def test_parameters_and_widgets_follow_each_other(probe: Any) -> None:
    import slicer

    slicer.util.selectModule("Probe")
    widget = slicer.modules.ProbeWidget
    ui, parameters = widget.ui, widget.parameters
    first, second = (slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name) for name in "ab")
    assert ui.volume.currentNode() is None
    ui.volume.setCurrentNode(first)
    assert parameters.volume is first

    parameters.volume = second
    assert ui.volume.currentNode() is second
    slicer.mrmlScene.RemoveNode(second)
    assert ui.volume.currentNode() is None
    assert parameters.volume is None

    parameters.disconnectGui(widget.tag)
    ui.volume.setCurrentNode(first)
    assert parameters.volume is None


def test_widget_is_entered_left_and_cleaned_up(widget_host: Any, probe: Any) -> None:
    import slicer
    from shiboken6 import isValid

    slicer.util.selectModule("Probe")
    widget = slicer.modules.ProbeWidget
    assert widget.parent.isEntered
    assert slicer.util.getModuleLogic("Probe") is widget.logic
    parent = widget.parent

    widget_host.reset()

    assert widget.calls == ["enter", "cleanup", "exit"]
    assert not hasattr(slicer.modules, "ProbeWidget")
    assert not isValid(parent)


def test_exception_in_slot_is_kept(widget_host: Any, probe: Any) -> None:
    import slicer

    slicer.util.selectModule("Probe")
    slicer.modules.ProbeWidget.ui.apply.click()
    assert [str(error) for error in widget_host.errors] == ["nothing to apply"]
    widget_host.forget_errors()


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("ctkCollapsibleButton", "ctkCollapsableButton"),
        ('"noneEnabled"', '"noneAllowed"'),
        ("mrmlSceneChanged(", "mrmlSceneReplaced("),
        ("<slot>setMRMLScene(", "<slot>setScene("),
        ("<receiver>volume", "<receiver>volumes"),
    ],
)
def test_wrong_names_in_the_ui_file_are_refused(
    widget_host: Any, probe_folder: Path, right: str, wrong: str
) -> None:
    import slicer

    path = probe_folder / "Resources" / "UI" / "Probe.ui"
    slicer.util.loadUI(str(path))
    path.write_text(path.read_text(encoding="utf-8").replace(right, wrong), encoding="utf-8")
    with pytest.raises(RuntimeError):
        slicer.util.loadUI(str(path))


@pytest.mark.parametrize(
    ("name", "error"), [("quality", "Unable to create GUI connector"), ("nothing", "Cannot find a param")]
)
def test_parameter_bound_to_unfit_widget_is_refused(probe: Any, name: str, error: str) -> None:
    from types import SimpleNamespace

    import slicer

    selector = slicer.qMRMLNodeComboBox()
    selector.setProperty("SlicerParameterName", name)
    with pytest.raises((RuntimeError, ValueError), match=error):
        probe.python.ProbeLogic().getParameterNode().connectGui(SimpleNamespace(selector=selector))
