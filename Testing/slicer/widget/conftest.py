"""The module's panel on the host; Qt and the MRML widgets are stand-ins, the scene is real."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
MODULE = REPOSITORY / "MultiOrganSeg"
UI = MODULE / "Resources" / "UI" / "MultiOrganSeg.ui"


class FakeRun:
    """A `SegmentRun` that walks through given steps, one a poll."""

    def __init__(self, volume: Any, steps: Sequence[dict[str, Any]]) -> None:
        self.volume_node = volume
        self.segmentation_node: Any = None
        self.state = "running"
        self.stage = ""
        self.fraction = 0.0
        self.eta_seconds: float | None = None
        self.error: Any = None
        self.log = ""
        self.messages: list[str] = []
        self.polls = 0
        self._steps = list(steps)

    def poll(self) -> None:
        self.polls += 1
        if self.state == "running" and self._steps:
            step = self._steps.pop(0)
            if callable(step):
                step = step()
            vars(self).update(step)

    def cancel(self) -> None:
        if self.state == "running":
            self.state = "cancelled"


class FakeLogic:
    """The logic's contract without an engine; `steps` is what the next run goes through."""

    def __init__(self) -> None:
        self.steps: list[Any] = []
        self.started: list[dict[str, Any]] = []
        self.error: Exception | None = None
        self.undoable: set[str] = set()
        self.run: FakeRun | None = None

    def getParameterNode(self) -> Any:
        import slicer

        from MultiOrganSegLib.parameters import Parameters

        node = slicer.mrmlScene.GetSingletonNode("MultiOrganSeg", "vtkMRMLScriptedModuleNode")
        if node is None:
            node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLScriptedModuleNode")
            node.UnRegister(None)
            node.SetSingletonTag("MultiOrganSeg")
            node = slicer.mrmlScene.AddNode(node)
        return Parameters(node)

    def start(self, volumeNode: Any, segmentationNode: Any = None, **options: Any) -> FakeRun:
        if self.error:
            raise self.error
        self.started.append({"volume": volumeNode, "segmentation": segmentationNode, **options})
        self.run = FakeRun(volumeNode, self.steps)
        return self.run

    def close(self) -> None:
        if self.run:
            self.run.cancel()

    def canUndo(self, node: Any) -> bool:
        return node.GetID() in self.undoable

    def undo(self, node: Any, *, discardCorrections: bool = False) -> None:
        self.undoable.discard(node.GetID())


@pytest.fixture
def qt_host(
    widget_host: Any, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Any:
    """The host with widgets, an empty folder for the user's models, and all packages there."""
    monkeypatch.setenv("MULTIORGANSEG_MODELS", str(tmp_path_factory.mktemp("models")))
    from MultiOrganSegLib import dependencies
    from MultiOrganSegLib.panels.device import DeviceProbe

    monkeypatch.setattr(dependencies, "missing_packages", lambda _entry=None: [])
    monkeypatch.setattr(DeviceProbe, "start", lambda self: None)
    return widget_host


@pytest.fixture
def logic() -> FakeLogic:
    return FakeLogic()


@pytest.fixture
def panel(qt_host: Any, logic: FakeLogic) -> Any:
    """The panel, shown, with a fake logic."""
    import qt
    import slicer

    from MultiOrganSegLib.widget import Widget

    parent = slicer.qMRMLWidget()
    parent.setLayout(qt.QVBoxLayout())
    widget = Widget(parent.layout(), UI, logic)
    widget.keep_alive = parent
    widget.enter()
    yield widget
    widget.cleanup()


@pytest.fixture
def screen(panel: Any, qt_host: Any) -> Callable[..., Any]:
    """Puts the panel into a scroll area as the application does; gives a function that tells what is seen."""
    import qt

    area = qt.QScrollArea()
    area.setWidgetResizable(True)
    area.setWidget(panel.keep_alive)

    def show(width: int, height: int) -> Callable[[Any], bool]:
        area.resize(width, height)
        area.show()
        qt_host.process_events()

        def is_seen(widget: Any) -> bool:
            for _ in range(5):
                qt_host.process_events()
            top = widget.mapTo(area.viewport(), qt.QPoint(0, 0)).y()
            return bool(widget.isVisible() and top >= 0 and top + widget.height <= area.viewport().height)

        return is_seen

    yield show
    area.takeWidget()


@pytest.fixture
def ct(qt_host: Any) -> Callable[..., Any]:
    """Makes a small scalar volume with 24 × 20 × 16 voxels."""

    def make(name: str = "CT") -> Any:
        import slicer

        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
        node.SetSpacing(2.0, 2.0, 3.0)
        slicer.util.updateVolumeFromArray(node, np.zeros((16, 20, 24), np.int16))
        node.CreateDefaultDisplayNodes()
        return node

    return make


@pytest.fixture
def result_node(ct: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """Makes a segmentation as the engine writes it: spleen (fine), liver (cut), pancreas (not found)."""

    def make(volume: Any = None, name: str = "CT organs") -> Any:
        import slicer

        from multiorganseg.organs.catalogue import load_catalogue
        from multiorganseg.organs.labels import LabelTable
        from multiorganseg.quality.statistics import OrganStatistics
        from multiorganseg.results.seg_nrrd import write_seg_nrrd
        from multiorganseg.results.segmentation import Segmentation

        volume = volume or ct()
        labels = np.zeros((16, 20, 24), np.uint8)
        labels[2:5, 3:6, 4:7] = 1
        labels[10:14, 12:18, 14:20] = 2
        statistics = (
            OrganStatistics("spleen", 27, 180.25, 112.4, 0.97, ()),
            OrganStatistics("liver", 144, 950.0, 101.0, 0.91, ("cut_by_field_of_view",)),
            OrganStatistics("pancreas", 0, 0.0, float("nan"), float("nan"), ("not_found",)),
        )
        affine = np.diag([-2.0, -2.0, 3.0, 1.0])
        table = LabelTable.numbered(["spleen", "liver", "pancreas"])
        provenance = {"bundle": {"name": "abdomen-ct", "version": "1.0.0"}, "modality": "CT"}
        path = tmp_path / "made.seg.nrrd"
        write_seg_nrrd(Segmentation(labels, affine, table, statistics, provenance), path, load_catalogue())
        node = slicer.util.loadSegmentation(str(path))
        node.SetName(name)
        node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
        return node

    return make


@pytest.fixture
def train_for(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let the panel's trainings take so many iterations, whatever time is chosen."""

    def shorten(iterations: int) -> None:
        from MultiOrganSegLib.add_organ import commands

        train = commands.train

        def short(*arguments: Any, **options: Any) -> list[str]:
            command = train(*arguments, **options)
            place = command.index("--time")
            return [*command[:place], "--iterations", str(iterations), *command[place + 2 :]]

        monkeypatch.setattr(commands, "train", short)

    return shorten
