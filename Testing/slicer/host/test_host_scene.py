"""The scene, its reading and writing, and the application object of the stand-in host."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest


def test_second_start_gives_the_same_host(host: Any) -> None:
    import slicer
    import slicer_host

    assert slicer_host.start() is host
    assert slicer.app.mrmlScene() is slicer.mrmlScene is host.scene


def test_volume_survives_file_with_its_geometry(
    host: Any, make_scene: Callable[..., Any], tmp_path: Path
) -> None:
    import slicer

    volume, _, _ = make_scene()
    assert slicer.util.saveNode(volume, str(tmp_path / "ct.nrrd"))

    loaded = slicer.util.loadVolume(str(tmp_path / "ct.nrrd"), {"name": "again"})

    assert loaded.GetName() == "again"
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(loaded), slicer.util.arrayFromVolume(volume))
    assert loaded.GetSpacing() == volume.GetSpacing()
    assert loaded.GetOrigin() == pytest.approx(volume.GetOrigin())


@pytest.mark.parametrize("name", ["organs.seg.nrrd", "scene.mrb"])
def test_segmentation_survives_file(
    host: Any, make_scene: Callable[..., Any], tmp_path: Path, name: str
) -> None:
    import slicer

    volume, segmentation, labels = make_scene()
    if name.endswith(".mrb"):
        assert slicer.util.saveScene(str(tmp_path / name))
        host.reset()
        slicer.util.loadScene(str(tmp_path / name))
        volume, loaded = slicer.util.getNode("CT"), slicer.util.getNode("Organs")
    else:
        slicer.util.saveNode(segmentation, str(tmp_path / name))
        loaded = slicer.util.loadSegmentation(str(tmp_path / name))

    assert loaded.GetSegmentation().GetSegmentIDs() == ("shell", "core")
    core = slicer.util.arrayFromSegmentBinaryLabelmap(loaded, "core", volume)
    np.testing.assert_array_equal(core, labels == 2)
    assert loaded.GetSegmentation().GetSegment("core").GetColor() == (0.0, 1.0, 0.0)


def test_missing_file_and_wrong_format_are_refused(
    host: Any, make_scene: Callable[..., Any], tmp_path: Path
) -> None:
    import slicer

    with pytest.raises(RuntimeError, match="does not exist"):
        slicer.util.loadVolume(str(tmp_path / "none.nrrd"))
    _, segmentation, _ = make_scene()
    assert not slicer.util.saveNode(segmentation, str(tmp_path / "organs.jpg"))


def test_unknown_names_are_refused(host: Any) -> None:
    import slicer

    with pytest.raises(AttributeError):
        slicer.app.noSuchMethod()
    with pytest.raises(AttributeError):
        slicer.modules.nosuchmodule.logic()
    with pytest.raises(ValueError, match="no signal"):
        slicer.app.connect("noSuchSignal()", print)
    with pytest.raises(RuntimeError, match="nosuchmodule"):
        slicer.util.getModule("nosuchmodule")


def test_unknown_node_class_is_reported(host: Any) -> None:
    import slicer

    assert slicer.mrmlScene.AddNewNodeByClass("vtkMRMLNoSuchNode") is None
    assert "vtkMRMLNoSuchNode" in host.vtk_errors[-1]


def test_reset_gives_the_scene_of_the_start(host: Any, make_scene: Callable[..., Any]) -> None:
    import slicer

    before = host.scene.GetNumberOfNodes()
    make_scene()
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScriptedModuleNode")
    node.SetSingletonTag("Probe")
    slicer.app.settings().setValue("Probe/key", 1)
    assert host.scene.GetNumberOfNodes() > before

    host.reset()

    assert host.scene.GetNumberOfNodes() == before
    assert not slicer.app.settings().contains("Probe/key")


def test_child_process_gets_the_environment_and_is_read(host: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import slicer

    monkeypatch.setenv("PROBE_VALUE", "17")
    assert slicer.util.startupEnvironment()["PROBE_VALUE"] == "17"
    lines: list[str] = []
    process = slicer.util.launchConsoleProcess(
        [sys.executable, "-c", "import os; print(os.environ['PROBE_VALUE'] + os.environ['MORE'])"],
        updateEnvironment={"MORE": "!"},
    )
    slicer.util.logProcessOutput(process, lines.append)
    assert lines == ["17!"]


def test_slices_jump_to_a_point(host: Any, make_scene: Callable[..., Any]) -> None:
    import slicer

    make_scene()
    slicer.modules.markups.logic().JumpSlicesToLocation(5.0, 6.0, 7.0, False)
    red = slicer.mrmlScene.GetNodeByID("vtkMRMLSliceNodeRed")
    assert red.GetSliceOffset() == pytest.approx(7.0)


def test_exception_in_observer_is_kept(host: Any) -> None:
    import slicer
    import vtk

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTextNode")

    def fail(caller: Any, event: str) -> None:
        raise ZeroDivisionError

    node.AddObserver(vtk.vtkCommand.ModifiedEvent, fail)
    node.Modified()
    assert [type(error) for error in host.errors] == [ZeroDivisionError]
    host.forget_errors()


def test_dicom_files_are_found_by_instance(host: Any, tmp_path: Path) -> None:
    pydicom = pytest.importorskip("pydicom")
    import slicer
    from pydicom.dataset import FileDataset, FileMetaDataset

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset = FileDataset(str(tmp_path / "a.dcm"), {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPInstanceUID, dataset.SeriesInstanceUID, dataset.Modality = "1.2.3", "1.2", "CT"
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", "1.2.3"
    dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    slicer.dicomDatabase.insert(tmp_path / "a.dcm")

    assert slicer.dicomDatabase.fileForInstance("1.2.3") == str(tmp_path / "a.dcm")
    assert slicer.dicomDatabase.filesForSeries("1.2") == [str(tmp_path / "a.dcm")]
    assert slicer.dicomDatabase.instanceValue("1.2.3", "0008,0060") == "CT"
    assert slicer.dicomDatabase.fileForInstance("9") == ""
