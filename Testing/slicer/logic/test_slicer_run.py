"""Runs with an engine that only pretends: the scene before, during and after, whatever happens."""

from __future__ import annotations

import errno
import gc
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest

from multiorganseg.errors import (
    BundleError,
    Cancelled,
    DependencyError,
    MultiOrganSegError,
    OptionError,
    ResourceError,
    VolumeError,
)

Make = Callable[..., Any]


def child_of(logic: Any) -> int:
    return logic.engine.pid


def test_the_result_stands_beside_the_volume(
    host: Any, logic: Any, make_volume: Make, pretend: Make, tools: SimpleNamespace
) -> None:
    import slicer

    volume = make_volume(name="Abdomen")
    tree = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    study = tree.CreateStudyItem(tree.GetSceneItemID(), "Study")
    tree.CreateItem(study, volume)
    pretend(result=tools.result_file(volume), warning="a warning")
    before = tools.snapshot()
    run = logic.start(volume)
    assert (run.state, run.volume_node, run.segmentation_node) == ("running", volume, None)
    assert tools.snapshot() == before
    node = run.wait()
    assert (run.state, run.fraction, run.error) == ("finished", 1.0, None)
    assert node is run.segmentation_node
    assert node.GetName() == "Abdomen organs"
    assert run.messages == ["Abdomen: a warning"]
    assert "a note on standard error" in run.log
    assert node.GetStorageNode() is None
    assert node.GetDisplayNode() is not None
    assert node.GetSegmentation().GetNumberOfLayers() == 1
    assert node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole()) is volume
    assert tree.GetItemParent(tree.GetItemByDataNode(node)) == study
    found = tools.segments(node, volume)
    labels = tools.labels()
    assert list(found) == ["spleen", "liver", "kidney_left"]
    for value, mask in enumerate(found.values(), start=1):
        np.testing.assert_array_equal(mask, labels == value)
    new = set(tools.snapshot()[0]) - set(before[0])
    assert {identity.rstrip("0123456789") for identity, _ in new} <= {
        "vtkMRMLSegmentationNode",
        "vtkMRMLSegmentationDisplayNode",
    }
    assert tools.results() == []
    pid = child_of(logic)
    assert psutil.pid_exists(pid)
    logic.close()
    assert tools.folders() == []
    assert not psutil.pid_exists(pid)


def test_a_second_run_takes_the_same_process_and_makes_another_name(
    logic: Any, make_volume: Make, pretend: Make, tools: SimpleNamespace
) -> None:
    volume = make_volume()
    pretend(result=tools.result_file(volume))
    first, pid = logic.process(volume), child_of(logic)
    second = logic.process(volume)
    assert child_of(logic) == pid
    assert len(list(tools.folders()[0].glob("volume-*"))) == 1
    assert first is not second
    assert first.GetName() != second.GetName()


def test_undo_of_a_new_node_leaves_the_scene_as_before(
    logic: Any, make_volume: Make, pretend: Make, tools: SimpleNamespace
) -> None:
    volume = make_volume()
    pretend(result=tools.result_file(volume))
    import slicer

    tree = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    tree.CreateItem(tree.GetSceneItemID(), volume)
    before = tools.snapshot()
    node = logic.process(volume)
    assert tree.GetItemByDataNode(node)
    assert logic.canUndo(node)
    logic.undo(node)
    assert tools.snapshot() == before
    assert not logic.canUndo(node)
    assert not logic.canUndo(None)
    with pytest.raises(OptionError, match="nothing to undo"):
        logic.undo(node)


def test_undo_of_a_replaced_segmentation_gives_all_of_it_back(
    logic: Any, make_volume: Make, pretend: Make, tools: SimpleNamespace
) -> None:
    import slicer

    other = make_volume(np.diag([-1.0, -1.0, 2.0, 1.0]), name="other")
    volume = make_volume()
    target = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "mine")
    target.CreateDefaultDisplayNodes()
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    target.SetAndObserveTransformNodeID(transform.GetID())
    target.SetReferenceImageGeometryParameterFromVolumeNode(other)
    generator = np.random.default_rng(1)
    for name in ("one", "two"):
        target.GetSegmentation().AddEmptySegment(name, name.title(), (0.2, 0.4, 0.6))
        mask = (generator.random((12, 40, 44)) < 0.2).astype(np.uint8)
        slicer.util.updateSegmentBinaryLabelmapFromArray(mask, target, name, other)
    target.GetDisplayNode().SetSegmentOpacity3D("one", 0.25)
    target.GetDisplayNode().SetSegmentVisibility("two", False)
    previous, before = tools.segments(target, other), tools.snapshot()

    pretend(result=tools.result_file(volume))
    node = logic.process(volume, target)
    assert node is target
    assert tools.snapshot() == before
    assert node.GetName() == "mine"
    assert node.GetParentTransformNode() is None
    assert list(tools.segments(node, volume)) == ["spleen", "liver", "kidney_left"]

    logic.undo(target)
    restored = tools.segments(target, other)
    assert list(restored) == ["one", "two"]
    for name, mask in previous.items():
        np.testing.assert_array_equal(restored[name], mask)
    assert target.GetSegmentation().GetSegment("one").GetName() == "One"
    assert target.GetParentTransformNode() is transform
    assert target.GetNodeReference(target.GetReferenceImageGeometryReferenceRole()) is other
    assert target.GetDisplayNode().GetSegmentOpacity3D("one") == 0.25
    assert not target.GetDisplayNode().GetSegmentVisibility("two")
    assert tools.snapshot() == before


def test_apply_undo_apply_into_an_empty_segmentation_keeps_its_display(
    logic: Any, make_volume: Make, pretend: Make, tools: SimpleNamespace
) -> None:
    import slicer

    volume = make_volume()
    pretend(result=tools.result_file(volume))
    target = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "mine")
    assert target.GetDisplayNode() is None
    for _ in range(2):
        logic.process(volume, target)
        display = target.GetDisplayNode()
        logic.undo(target)
        assert target.GetSegmentation().GetNumberOfSegments() == 0
        assert target.GetDisplayNode() is display


def draw(node: Any, volume: Any, segment: str) -> None:
    import slicer

    mask = np.zeros((12, 40, 44), np.uint8)
    mask[3:5, 12:15, 9:14] = 1
    if node.GetSegmentation().GetSegment(segment) is None:
        node.GetSegmentation().AddEmptySegment(segment, segment.title())
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, segment, volume)


@pytest.mark.parametrize("segment", ["spleen", "mine"])
@pytest.mark.parametrize("replaced", [False, True])
def test_undo_does_not_delete_work_by_hand_unless_reported(
    logic: Any, make_volume: Make, pretend: Make, tools: SimpleNamespace, segment: str, replaced: bool
) -> None:
    import slicer

    volume = make_volume()
    pretend(result=tools.result_file(volume))
    target = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "old") if replaced else None
    node = logic.process(volume, target)
    draw(node, volume, segment)
    before = tools.segments(node, volume)
    with pytest.raises(OptionError, match=segment.title()):
        logic.undo(node)
    np.testing.assert_equal(tools.segments(node, volume), before)
    assert logic.canUndo(node)
    logic.undo(node, discardCorrections=True)
    assert bool(slicer.mrmlScene.IsNodePresent(node)) == replaced


def test_undo_is_forgotten_with_the_scene(
    logic: Any, make_volume: Make, pretend: Make, tools: SimpleNamespace
) -> None:
    import slicer

    volume = make_volume()
    pretend(result=tools.result_file(volume))
    node = logic.process(volume)
    identity = node.GetID()
    slicer.mrmlScene.Clear(0)
    assert not logic.canUndo(node)
    volume = make_volume()
    stranger = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    assert stranger.GetID() == identity
    assert not logic.canUndo(stranger)


def test_progress_rises_and_tells_the_engines_stages(
    logic: Any, make_volume: Make, pretend: Make, tools: SimpleNamespace
) -> None:
    volume = make_volume()
    pretend(result=tools.result_file(volume), sleep=0.3)
    run = logic.start(volume)
    assert (run.stage, run.fraction, run.eta_seconds) == ("", 0.0, None)
    seen: list[tuple[str, float]] = []
    tools.wait_for(run, lambda: seen.append((run.stage, run.fraction)) or run.state != "running")
    assert {stage for stage, _ in seen} <= {"", "reading", "segmenting"}
    fractions = [fraction for _, fraction in seen]
    assert fractions == sorted(fractions)
    assert 0.5 < fractions[-2] < 1
    assert fractions[-1] == 1


def test_cancel_leaves_scene_and_disk_as_before(
    logic: Any, make_volume: Make, pretend: Make, tools: SimpleNamespace
) -> None:
    volume = make_volume()
    pretend(sleep=600, grandchild=True, result=tools.result_file(volume))
    before = tools.snapshot()
    run = logic.start(volume)
    assert len(tools.folders()) == 1
    tools.wait_for(run, lambda: run.stage == "segmenting")
    pid = child_of(logic)
    family = psutil.Process(pid).children(recursive=True)
    assert family
    run.cancel()
    assert run.state == "cancelled"
    assert tools.snapshot() == before
    assert tools.folders() == []
    assert not psutil.pid_exists(pid)
    assert not [member for member in family if member.is_running() and member.status() != "zombie"]
    run.cancel()
    run.poll()
    assert (run.state, run.error, run.eta_seconds) == ("cancelled", None, None)
    with pytest.raises(Cancelled):
        run.wait()


@pytest.mark.parametrize("what", ["volume", "segmentation", "scene"])
def test_a_run_ends_when_what_it_needs_is_removed(
    logic: Any, make_volume: Make, pretend: Make, tools: SimpleNamespace, what: str
) -> None:
    import slicer

    volume = make_volume()
    target = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    pretend(sleep=600)
    run = logic.start(volume, target)
    tools.wait_for(run, lambda: run.stage == "segmenting")
    pid = child_of(logic)
    if what == "scene":
        slicer.mrmlScene.Clear(0)
        make_volume()
    else:
        slicer.mrmlScene.RemoveNode(volume if what == "volume" else target)
    before = tools.snapshot()
    run.poll()
    assert run.state == "cancelled"
    assert run.messages
    assert tools.folders() == []
    assert not psutil.pid_exists(pid)
    assert tools.snapshot() == before


def test_a_result_that_is_ready_is_not_placed_into_a_cleared_scene(
    logic: Any, make_volume: Make, pretend: Make, tools: SimpleNamespace
) -> None:
    import slicer

    volume = make_volume()
    pretend(result=tools.result_file(volume))
    run = logic.start(volume)
    end = time.monotonic() + 60
    while not (tools.results() and logic.engine._job._events.qsize() >= 5):
        assert time.monotonic() < end
        time.sleep(0.05)
    slicer.mrmlScene.Clear(0)
    before = tools.snapshot()
    run.poll()
    assert run.state == "cancelled"
    assert tools.snapshot() == before


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")
def test_a_killed_child_tells_cause_and_next_step(
    logic: Any, make_volume: Make, pretend: Make, tools: SimpleNamespace
) -> None:
    volume = make_volume()
    pretend(kill=9)
    before = tools.snapshot()
    run = logic.start(volume)
    with pytest.raises(ResourceError) as caught:
        run.wait()
    assert run.state == "failed"
    assert caught.value is run.error
    assert caught.value.cause == "The process was ended (signal 9), often for lack of memory."
    assert caught.value.next_step
    assert tools.snapshot() == before
    assert tools.folders() == []
    assert "a note on standard error" in run.log


@pytest.mark.parametrize(
    ("reported", "said", "kind"),
    [
        (("No model.", "VOLUME", "Choose."), "BundleError", BundleError),
        (("ModuleNotFoundError", "No module named 'torch'", ""), "DependencyError", DependencyError),
        (("MemoryError", "", ""), "ResourceError", ResourceError),
        (("KeyError", "'x'", ""), "MultiOrganSegError", MultiOrganSegError),
        (("Odd.", "", ""), "dict", MultiOrganSegError),
    ],
)
def test_what_the_engine_tells_arrives_as_a_typed_error(
    logic: Any,
    make_volume: Make,
    pretend: Make,
    tools: SimpleNamespace,
    reported: tuple,
    said: str,
    kind: type,
) -> None:
    volume = make_volume(name="Abdomen")
    failed = dict(zip(("problem", "cause", "next_step"), reported, strict=True))
    pretend(failed={**failed, "kind": said})
    before = tools.snapshot()
    with pytest.raises(MultiOrganSegError) as caught:
        logic.process(volume)
    assert type(caught.value) is kind
    assert ".nrrd" not in str(caught.value)
    assert caught.value.next_step
    assert tools.snapshot() == before
    assert tools.results() == []


def test_a_silent_end_and_a_damaged_result_are_reported(
    logic: Any, make_volume: Make, pretend: Make, tools: SimpleNamespace, tmp_path: Path
) -> None:
    volume = make_volume()
    before = tools.snapshot()
    pretend(exit=3)
    with pytest.raises(MultiOrganSegError, match="a note on standard error"):
        logic.process(volume)
    (tmp_path / "damaged.seg.nrrd").write_bytes(tools.result_file(volume).read_bytes()[:-200])
    for content in (tmp_path / "damaged.seg.nrrd", Path(__file__)):
        pretend(result=content)
        with pytest.raises(VolumeError, match="cannot be read"):
            logic.process(volume)
        assert tools.snapshot() == before
    assert tools.results() == []


def test_a_crash_after_the_result_was_told_does_not_lose_it(
    logic: Any, make_volume: Make, pretend: Make, tools: SimpleNamespace
) -> None:
    volume = make_volume()
    pretend(result=tools.result_file(volume), exit=134)
    for _ in range(2):
        assert logic.process(volume).GetSegmentation().GetNumberOfSegments() == 3


def test_a_failure_while_placing_is_rolled_back(
    logic: Any, make_volume: Make, pretend: Make, tools: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    import slicer

    volume = make_volume()
    pretend(result=tools.result_file(volume))
    target = logic.process(volume)
    target.GetSegmentation().RemoveSegment("liver")
    previous, before = tools.segments(target, volume), tools.snapshot()

    def fail(*_: object) -> None:
        msg = "none left"
        raise MemoryError(msg)

    monkeypatch.setattr("MultiOrganSegLib.placing._put_beside", fail)
    for given in (target, None):
        run = logic.start(volume, given)
        with pytest.raises(MultiOrganSegError, match="none left"):
            run.wait()
        assert tools.snapshot() == before
    np.testing.assert_equal(tools.segments(target, volume), previous)
    assert slicer.mrmlScene.IsNodePresent(target)


def test_a_full_disk_is_told_and_nothing_is_left(
    host: Any, logic: Any, make_volume: Make, tools: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = make_volume()
    before = tools.snapshot()

    def full(path: Path, *_: object, **__: object) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("multiorganseg.volumes.write.write_nrrd", full)
        with pytest.raises(ResourceError, match="No space left") as caught:
            logic.start(volume)
    assert "temporary folder" in caught.value.next_step
    assert tools.folders() == []
    with monkeypatch.context() as patch:
        usage = SimpleNamespace(free=1000)
        patch.setattr("MultiOrganSegLib.engine.shutil.disk_usage", lambda _: usage)
        with pytest.raises(ResourceError, match="0 MB are free"):
            logic.start(volume)
    assert tools.folders() == []
    assert tools.snapshot() == before


def test_a_program_that_is_not_there_is_reported(
    logic: Any, make_volume: Make, tools: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("MultiOrganSegLib.child.python_executable", lambda: "/no/such/python")
    with pytest.raises(ResourceError, match="cannot be started"):
        logic.start(make_volume())
    assert tools.folders() == []


def test_a_moved_volume_takes_its_labels_along_and_a_changed_one_is_refused(
    logic: Any, make_volume: Make, pretend: Make, tools: SimpleNamespace
) -> None:
    import slicer

    volume = make_volume()
    pretend(result=tools.result_file(volume))
    run = logic.start(volume)
    volume.SetOrigin(1, 2, 3)
    found = tools.segments(run.wait(), volume)
    np.testing.assert_array_equal(found["liver"], tools.labels() == 2)
    run = logic.start(volume)
    slicer.util.updateVolumeFromArray(volume, np.zeros((12, 40, 45), np.int16))
    with pytest.raises(VolumeError, match="changed while"):
        run.wait()


def test_closing_the_logic_ends_its_runs(
    logic: Any, make_volume: Make, pretend: Make, tools: SimpleNamespace
) -> None:
    pretend(sleep=600)
    runs = [logic.start(make_volume()) for _ in range(2)]
    logic.close()
    assert {run.state for run in runs} == {"cancelled"}
    assert tools.folders() == []


def test_a_forgotten_logic_ends_its_runs(
    host: Any, make_volume: Make, pretend: Make, tools: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from MultiOrganSegLib.logic import Logic

    monkeypatch.setattr("MultiOrganSegLib.engine._shared", None)  # nobody else holds its engine
    forgotten = Logic()
    pretend(sleep=600)
    forgotten.start(make_volume())
    pid = child_of(forgotten)
    del forgotten
    gc.collect()
    assert not psutil.pid_exists(pid)
    assert tools.folders() == []


def test_missing_packages_are_named_before_anything_starts(
    logic: Any, make_volume: Make, tools: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("MultiOrganSegLib.logic.missing_packages", lambda _entry: ["torch", "monai"])
    with pytest.raises(DependencyError, match="torch, monai"):
        logic.start(make_volume())
    assert tools.folders() == []


def test_a_segmentation_outside_the_scene_is_refused(
    logic: Any, make_volume: Make, tools: SimpleNamespace
) -> None:
    import slicer

    with pytest.raises(OptionError, match="not in the scene"):
        logic.start(make_volume(), slicer.vtkMRMLSegmentationNode())
    assert tools.folders() == []
