"""The manners of PythonQt on PySide6, and the stand-in widgets."""

from __future__ import annotations

from typing import Any

import pytest


def test_properties_are_attributes(widget_host: Any) -> None:
    import qt

    button = qt.QPushButton("Apply")
    button.enabled = False
    button.toolTip = "tip"
    button.name = "applyButton"
    assert (button.text, button.enabled, button.toolTip) == ("Apply", False, "tip")
    assert button.objectName == "applyButton"
    assert button.className() == "QPushButton"


def test_unknown_attributes_signals_and_classes_are_refused(widget_host: Any) -> None:
    import ctk
    import qt
    import slicer

    button = qt.QPushButton()
    with pytest.raises(AttributeError):
        button.txt = "Apply"
    with pytest.raises(ValueError, match="no signal"):
        button.connect("pushed()", print)
    with pytest.raises(ValueError, match="no signal"):
        button.connect("clicked(QString)", print)
    with pytest.raises(TypeError):
        button.connect("clicked()", None)
    with pytest.raises(AttributeError):
        ctk.ctkCollapsibleButton().tick = 3
    with pytest.raises(AttributeError):
        ctk.ctkNoSuchWidget()
    with pytest.raises(AttributeError):
        slicer.qMRMLNoSuchWidget()


def test_slot_gets_no_more_arguments_than_it_takes(widget_host: Any) -> None:
    import qt

    seen: list[Any] = []
    box = qt.QCheckBox()
    box.connect("toggled(bool)", lambda: seen.append("none"))
    box.connect("toggled(bool)", seen.append)
    box.connect("toggled(bool)", lambda *all_: seen.append(all_))

    def named(checked: bool) -> None:
        seen.append(("named", checked))

    box.connect("toggled(bool)", named)
    box.click()
    assert ("none" in seen, (True,) in seen, ("named", True) in seen) == (True, True, True)
    assert box.disconnect("toggled(bool)", named)
    assert not box.disconnect("toggled(bool)", named)
    seen.clear()
    box.click()
    assert ("named", False) not in seen


def test_instance_checks_and_children_follow_qt(widget_host: Any) -> None:
    import qt

    class Panel(qt.QWidget):
        def __init__(self) -> None:
            super().__init__()
            self.anything = 1

    panel = Panel()
    layout = qt.QVBoxLayout(panel)
    button = qt.QPushButton("x")
    layout.addWidget(button)
    assert isinstance(button, qt.QWidget)
    assert isinstance(button, qt.QAbstractButton)
    assert not isinstance(button, qt.QLabel)
    assert type(button) is qt.QPushButton
    assert button in panel.findChildren(qt.QWidget)
    assert panel.findChild(qt.QLabel) is None


def test_deleted_widget_raises_and_does_not_crash(widget_host: Any) -> None:
    import qt

    parent = qt.QWidget()
    box = qt.QSpinBox(parent)
    parent.deleteLater()
    del parent
    widget_host.process_events()
    with pytest.raises(RuntimeError, match="deleted"):
        box.setValue(3)
    with pytest.raises(RuntimeError, match="deleted"):
        box.value = 3


def test_node_selector_lists_and_follows_the_scene(widget_host: Any) -> None:
    import slicer

    box = slicer.qMRMLNodeComboBox()
    seen: list[Any] = []
    box.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    box.connect("currentNodeChanged(vtkMRMLNode*)", seen.append)
    box.setMRMLScene(slicer.mrmlScene)
    assert box.currentNode() is None

    first = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "first")
    second = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "second")
    labelmap = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode")
    assert box.currentNode() is first
    assert labelmap in box.nodes()
    box.showChildNodeTypes = False
    assert box.nodes() == [first, second]

    box.setCurrentNode(second)
    slicer.mrmlScene.RemoveNode(second)
    assert box.currentNode() is first
    box.noneEnabled = True
    slicer.mrmlScene.RemoveNode(first)
    assert box.currentNode() is None
    assert seen == [first, second, first, None]


def test_settings_are_kept_and_forgotten_at_reset(widget_host: Any) -> None:
    import qt
    import slicer

    qt.QSettings().setValue("Probe/folder", "a")
    assert slicer.util.settingsValue("Probe/folder", "b") == "a"
    widget_host.reset()
    assert slicer.util.settingsValue("Probe/folder", "b") == "b"


def test_timer_runs_while_events_are_processed(widget_host: Any) -> None:
    import qt

    ticks: list[int] = []
    timer = qt.QTimer()
    timer.interval = 5
    timer.connect("timeout()", lambda: ticks.append(1))
    timer.start()
    widget_host.process_events(until=lambda: len(ticks) >= 3, timeout=10)
    timer.stop()
    with pytest.raises(TimeoutError):
        widget_host.process_events(until=lambda: False, timeout=0.05)


def test_folded_panel_hides_what_is_in_it(widget_host: Any) -> None:
    import ctk
    import qt

    panel = ctk.ctkCollapsibleButton("Advanced")
    layout = qt.QVBoxLayout(panel)
    label = qt.QLabel("inside")
    layout.addWidget(label)
    panel.show()
    assert label.visible
    panel.collapsed = True
    assert not label.visible
    panel.click()
    assert not panel.collapsed
