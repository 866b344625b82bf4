"""A small scripted module and a small scene to try the host on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

UI = """<?xml version="1.0" encoding="UTF-8"?>
<ui version="4.0"><class>Probe</class>
<widget class="qMRMLWidget" name="Probe"><layout class="QFormLayout" name="form">
<item row="0" column="0"><widget class="qMRMLNodeComboBox" name="volume">
  <property name="nodeTypes"><stringlist><string>vtkMRMLScalarVolumeNode</string></stringlist></property>
  <property name="noneEnabled"><bool>true</bool></property>
  <property name="SlicerParameterName" stdset="0"><string>volume</string></property></widget></item>
<item row="1" column="0"><widget class="ctkCollapsibleButton" name="more"/></item>
<item row="2" column="0"><widget class="QPushButton" name="apply">
  <property name="text"><string>Apply</string></property></widget></item>
</layout></widget>
<customwidgets>
<customwidget><class>qMRMLWidget</class><extends>QWidget</extends><header>q.h</header>
  <container>1</container></customwidget>
<customwidget><class>qMRMLNodeComboBox</class><extends>QWidget</extends><header>q.h</header></customwidget>
<customwidget><class>ctkCollapsibleButton</class><extends>QWidget</extends><header>c.h</header>
  <container>1</container></customwidget>
</customwidgets>
<connections><connection><sender>Probe</sender><signal>mrmlSceneChanged(vtkMRMLScene*)</signal>
<receiver>volume</receiver><slot>setMRMLScene(vtkMRMLScene*)</slot></connection></connections>
</ui>
"""

MODULE = """
from typing import Annotated

from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import Choice, parameterNodeWrapper
from slicer.ScriptedLoadableModule import *

import slicer
from slicer import vtkMRMLScalarVolumeNode


class Probe(ScriptedLoadableModule):
    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = _("Probe")
        slicer.app.connect("startupCompleted()", lambda: setattr(self, "started", True))


@parameterNodeWrapper
class Parameters:
    volume: vtkMRMLScalarVolumeNode
    quality: Annotated[str, Choice(["fast", "best"])] = "best"


class ProbeLogic(ScriptedLoadableModuleLogic):
    def getParameterNode(self):
        return Parameters(super().getParameterNode())


class ProbeWidget(ScriptedLoadableModuleWidget):
    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        self.calls = []
        widget = slicer.util.loadUI(self.resourcePath("UI/Probe.ui"))
        self.layout.addWidget(widget)
        self.ui = slicer.util.childWidgetVariables(widget)
        widget.setMRMLScene(slicer.mrmlScene)
        self.logic = ProbeLogic()
        self.parameters = self.logic.getParameterNode()
        self.tag = self.parameters.connectGui(self.ui)
        self.ui.apply.connect("clicked(bool)", self.onApply)

    def onApply(self):
        self.calls.append("apply")
        raise ValueError("nothing to apply")

    def enter(self):
        self.calls.append("enter")

    def exit(self):
        self.calls.append("exit")

    def cleanup(self):
        self.calls.append("cleanup")
        self.parameters.disconnectGui(self.tag)


class ProbeTest(ScriptedLoadableModuleTest):
    def runTest(self):
        self.assertEqual(slicer.modules.probe.title, "Probe")
"""


@pytest.fixture
def probe_folder(tmp_path: Path) -> Path:
    """A folder with the scripted module `Probe`."""
    folder = tmp_path / "probe-module"
    (folder / "Resources" / "UI").mkdir(parents=True)
    (folder / "Resources" / "UI" / "Probe.ui").write_text(UI, encoding="utf-8")
    (folder / "Probe.py").write_text(MODULE, encoding="utf-8")
    return folder


@pytest.fixture
def probe(widget_host: Any, probe_folder: Path) -> Iterator[Any]:
    """The module `Probe`, loaded into the host with widgets."""
    yield widget_host.load_module("Probe", probe_folder)
    widget_host.unload_module("Probe")


@pytest.fixture
def make_scene() -> Callable[[], tuple[Any, Any, np.ndarray]]:
    """Makes a volume with a ball, its segmentation (segments "shell" and "core") and the labels."""
    return _make_scene


def _make_scene() -> tuple[Any, Any, np.ndarray]:
    import slicer

    k, j, i = np.indices((24, 40, 44))
    distance = np.sqrt((2 * (k - 12)) ** 2 + (j - 20) ** 2 + (i - 22) ** 2)
    labels = (distance < 16).astype(np.uint8) + (distance < 7)
    volume = slicer.util.addVolumeFromArray((60 * labels - 100).astype(np.int16), name="CT")
    volume.CreateDefaultDisplayNodes()
    volume.SetSpacing(2.0, 2.0, 4.0)
    volume.SetOrigin(10.0, -20.0, 30.0)
    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Organs")
    segmentation.CreateDefaultDisplayNodes()
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    for value, name, color in ((1, "shell", (1.0, 0.0, 0.0)), (2, "core", (0.0, 1.0, 0.0))):
        segmentation.GetSegmentation().AddEmptySegment(name, name, color)
        mask = (labels == value).astype(np.uint8)
        slicer.util.updateSegmentBinaryLabelmapFromArray(mask, segmentation, name, volume)
    return volume, segmentation, labels
