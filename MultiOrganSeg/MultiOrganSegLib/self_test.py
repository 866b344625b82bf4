"""The self-test: needs no data and no network connection, and runs unchanged in Slicer."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import slicer
import vtk

from multiorganseg.errors import Cancelled, MultiOrganSegError, VolumeError
from MultiOrganSegLib.logic import Logic
from MultiOrganSegLib.result import organ_rows
from MultiOrganSegLib.sample_data import load_phantom

_LARGE_ORGANS = ("liver", "spleen")
_PATIENCE_SECONDS = 120.0

Error = TypeVar("Error", bound=MultiOrganSegError)


def run_self_test(logic: Logic) -> None:
    """Clear the scene and check everything that needs no window.

    Raises:
        AssertionError: Something is not as it should be.
        MultiOrganSegError: The phantom cannot be segmented.
    """
    for check in (check_bad_inputs, check_cancel, check_removed_volume, check_process_and_undo):
        slicer.mrmlScene.Clear(0)
        check(logic)
    slicer.mrmlScene.Clear(0)


def check_bad_inputs(logic: Logic) -> None:
    """What cannot be segmented is refused with a next step, and nothing is left in the scene."""
    empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")
    colour = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "colour")
    slicer.util.updateVolumeFromArray(colour, np.zeros((4, 4, 4, 3), np.uint8))
    before = _node_ids()
    for node in (None, empty, colour):
        error = _raised(VolumeError, logic.start, node)
        assert error.problem, node
        assert error.next_step, node
    assert _node_ids() == before


def check_cancel(logic: Logic) -> None:
    """A cancelled run leaves the scene as it was, in the middle of its work too."""
    volume = load_phantom()
    before = _node_ids()
    run = logic.start(volume, quality="fast", device="cpu")
    _wait_until(lambda: run.stage != "" or run.state != "running", run.poll)
    assert run.state == "running", run.error
    run.cancel()
    assert run.state == "cancelled"
    assert _node_ids() == before
    _raised(Cancelled, run.wait)


def check_removed_volume(logic: Logic) -> None:
    """A run ends by itself when its volume is removed."""
    volume = load_phantom()
    run = logic.start(volume, quality="fast", device="cpu")
    slicer.mrmlScene.RemoveNode(volume)
    before = _node_ids()
    _raised(Cancelled, run.wait)
    assert run.messages
    assert _node_ids() == before


def check_process_and_undo(logic: Logic) -> None:
    """The bundled network finds the organs; the result replaces a segmentation, and undo gives that back."""
    volume = load_phantom()
    target = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "mine")
    target.CreateDefaultDisplayNodes()
    target.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    previous = np.zeros(slicer.util.arrayFromVolume(volume).shape, np.uint8)
    previous[2:5, 3:9, 4:11] = 1
    target.GetSegmentation().AddEmptySegment("previous", "previous")
    slicer.util.updateSegmentBinaryLabelmapFromArray(previous, target, "previous", volume)
    before = _node_ids()

    node = logic.process(volume, target, quality="fast", device="cpu")
    assert node is target
    assert _node_ids() == before
    rows = {row.segment_id: row for row in organ_rows(node)}
    assert set(rows) == set(node.GetSegmentation().GetSegmentIDs())
    for organ in _LARGE_ORGANS:
        labels = slicer.util.arrayFromSegmentBinaryLabelmap(node, organ, volume)
        assert labels.shape == previous.shape
        voxel_ml = abs(np.linalg.det(_ijk_to_ras(volume)[:3, :3])) / 1000
        assert abs(np.count_nonzero(labels) * voxel_ml - rows[organ].volume_ml) < 0.01 + voxel_ml
        assert rows[organ].volume_ml > 0, organ

    assert logic.canUndo(node)
    before = _node_ids()
    logic.undo(node)
    assert _node_ids() == before
    assert not logic.canUndo(node)
    assert list(node.GetSegmentation().GetSegmentIDs()) == ["previous"]
    restored = slicer.util.arrayFromSegmentBinaryLabelmap(node, "previous", volume)
    assert np.array_equal(restored, previous)


def _node_ids() -> list[str]:
    scene = slicer.mrmlScene
    return [scene.GetNthNode(number).GetID() for number in range(scene.GetNumberOfNodes())]


def _ijk_to_ras(node: slicer.vtkMRMLVolumeNode) -> np.ndarray:
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def _raised(kind: type[Error], call: Callable[..., object], *arguments: object) -> Error:
    try:
        call(*arguments)
    except kind as error:
        return error
    message = f"{kind.__name__} was not raised"
    raise AssertionError(message)


def _wait_until(done: Callable[[], bool], poll: Callable[[], None]) -> None:
    end = time.monotonic() + _PATIENCE_SECONDS
    while not done() and time.monotonic() < end:
        poll()
        slicer.app.processEvents()
        time.sleep(0.05)
