"""The effect "Correct organ", driven by mouse and keys on stand-in Qt: real editing logic, real process."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from correction_scene import add_scene, labels_of, scene_labels

SECONDS = 120.0
MIDDLE_K = 7


@pytest.fixture
def editor(qt_host: Any) -> Iterator[Any]:
    """The module Segment Editor with the effect in hand, on liver and spleen, over the volume."""
    import slicer

    from MultiOrganSegEffects.CorrectOrganEffect import NAME, register
    from MultiOrganSegLib.engine import shared_engine

    register()
    register()
    kept = shared_engine()
    volume, node = add_scene()
    slicer.util.setSliceViewerLayers(background=volume, fit=True)
    slicer.util.selectModule("SegmentEditor")
    widget = slicer.modules.segmenteditor.widgetRepresentation().self().editor
    widget.setSegmentationNode(node)
    widget.setSourceVolumeNode(volume)
    widget.setCurrentSegmentID("liver")
    widget.setActiveEffectByName(NAME)
    widget.activeEffect().self().work._choose_model("none")
    yield widget
    widget.setActiveEffect(None)
    kept.poll()


class Hand:
    """Mouse over one slice view."""

    def __init__(self, editor: Any, host: Any, view: str = "Red") -> None:
        import slicer
        import vtk

        self.editor, self.host = editor, host
        self.view = slicer.app.layoutManager().sliceWidget(view)
        self.interactor = vtk.vtkGenericRenderWindowInteractor()
        self.commands = vtk.vtkCommand

    @property
    def work(self) -> Any:
        return self.editor.activeEffect().self().work

    def at(self, k: float, j: float, i: float) -> tuple[int, int]:
        """Position of a voxel in the view, whose slice is moved there."""
        import slicer

        volume = self.editor.sourceVolumeNode()
        matrix = slicer.util.arrayFromVTKMatrix(_matrix(volume.GetIJKToRASMatrix))
        ras = matrix @ (i, j, k, 1.0)
        node = self.view.mrmlSliceNode()
        node.JumpSliceByOffsetting(*ras[:3])
        inverse = np.linalg.inv(slicer.util.arrayFromVTKMatrix(node.GetXYToRAS()))
        x, y = np.rint((inverse @ ras)[:2]).astype(int)
        return int(x), int(y)

    def event(self, name: str, where: tuple[int, int], ctrl: bool = False, shift: bool = False) -> bool:
        self.interactor.SetEventInformation(*where, int(ctrl), int(shift))
        effect = self.editor.activeEffect().self()
        event = getattr(self.commands, f"{name}Event")
        return bool(effect.processInteractionEvents(self.interactor, event, self.view))

    def stroke(self, *voxels: tuple[float, float, float], button: str = "Left", ctrl: bool = False) -> None:
        places = [self.at(*voxel) for voxel in voxels]
        assert self.event(f"{button}ButtonPress", places[0], ctrl)
        for place in places[1:]:
            assert self.event("MouseMove", place, ctrl)
        assert self.event(f"{button}ButtonRelease", places[-1], ctrl)

    def wait(self) -> None:
        correction = self.work.correction
        self.host.process_events(lambda: correction is None or not correction.busy, SECONDS)

    def labels(self) -> np.ndarray:
        return labels_of(self.editor.segmentationNode(), self.editor.sourceVolumeNode())


def _matrix(fill: Any) -> Any:
    import vtk

    matrix = vtk.vtkMatrix4x4()
    fill(matrix)
    return matrix


@pytest.fixture
def hand(editor: Any, qt_host: Any) -> Hand:
    return Hand(editor, qt_host)


@pytest.mark.parametrize("view", ["Red", "Yellow", "Green"])
def test_a_left_click_adds_in_each_view_and_undo_takes_it_back(editor: Any, qt_host: Any, view: str) -> None:
    hand = Hand(editor, qt_host, view)
    before = hand.labels()
    assert before[MIDDLE_K, 20, 8] == 0
    hand.stroke((MIDDLE_K, 20, 8))
    hand.wait()
    after = hand.labels()
    assert hand.work.correction.error is None
    assert after[MIDDLE_K, 20, 8] == 1
    truth = scene_labels()[0] > 85
    assert np.count_nonzero((after == 1) & truth) > 1.5 * np.count_nonzero(before == 1)
    editor.undo()
    np.testing.assert_array_equal(hand.labels(), before)
    editor.redo()
    np.testing.assert_array_equal(hand.labels(), after)


@pytest.mark.parametrize("how", [{"ctrl": True}, {"button": "Right"}])
def test_control_click_and_right_click_remove(hand: Hand, how: dict[str, Any]) -> None:
    hand.stroke((MIDDLE_K, 20, 18), **how)
    hand.wait()
    assert hand.labels()[MIDDLE_K, 20, 18] != 1


def test_a_drag_scribbles_and_the_line_is_shown_while_it_lasts(hand: Hand, editor: Any) -> None:
    effect = editor.activeEffect()
    start, end = hand.at(MIDDLE_K, 14, 8), hand.at(MIDDLE_K, 25, 10)
    hand.event("LeftButtonPress", start)
    assert len(effect.actors) == 1
    hand.event("MouseMove", end)
    hand.event("LeftButtonRelease", end)
    assert effect.actors == []
    hand.wait()
    labels = hand.labels()
    assert labels[MIDDLE_K, 14, 8] == labels[MIDDLE_K, 25, 10] == labels[MIDDLE_K, 20, 9] == 1


def test_the_key_l_makes_a_stroke_a_lasso(hand: Hand) -> None:
    hand.work._pointer.switch()
    corners = [(MIDDLE_K, 16, 5), (MIDDLE_K, 24, 5), (MIDDLE_K, 24, 11), (MIDDLE_K, 16, 11)]
    hand.stroke(*corners)
    hand.wait()
    assert (hand.labels()[MIDDLE_K, 17:24, 6:11] == 1).all()


def test_what_is_not_meant_for_corrections_is_left_to_the_view(hand: Hand, editor: Any) -> None:
    import slicer

    place = hand.at(MIDDLE_K, 20, 8)
    assert not hand.event("MouseWheelForward", place)
    assert not hand.event("LeftButtonPress", place, shift=True)
    assert not hand.event("MouseMove", place)
    assert hand.event("LeftButtonDoubleClick", place)
    hand.view = slicer.app.layoutManager().threeDWidget(0).threeDView()
    assert not hand.event("LeftButtonPress", place)
    assert editor.activeEffect().actors == []
    assert hand.work.correction is None


def test_the_cursor_tells_whether_a_click_removes(hand: Hand, editor: Any) -> None:
    place = hand.at(MIDDLE_K, 20, 8)
    seen = editor.activeEffect().cursors
    hand.event("MouseMove", place)
    assert seen == []
    hand.event("MouseMove", place, ctrl=True)
    hand.event("MouseMove", place, ctrl=True)
    assert len(seen) == 1
    hand.event("MouseMove", place)
    hand.work._pointer.switch()
    pictures = [cursor.pixmap().toImage() for cursor in seen]
    assert len(pictures) == 3
    assert all(pictures[a] != pictures[b] for a, b in ((0, 1), (1, 2), (0, 2)))


def test_a_click_outside_the_volume_is_told(hand: Hand) -> None:
    before = hand.labels()
    hand.stroke((MIDDLE_K, 20, 80))
    hand.wait()
    assert "outside the volume" in hand.work.pane.status.text
    np.testing.assert_array_equal(hand.labels(), before)
    hand.stroke((MIDDLE_K, 20, 8))
    hand.wait()
    assert "outside" not in hand.work.pane.status.text


def test_surfaces_follow_when_the_mouse_rests(hand: Hand, editor: Any, qt_host: Any) -> None:
    from MultiOrganSegLib.correct.segments import STALE
    from MultiOrganSegLib.tags import tag

    segmentation = editor.segmentationNode().GetSegmentation()
    segmentation.CreateRepresentation("Closed surface")
    liver = segmentation.GetSegment("liver")
    points = liver.GetRepresentation("Closed surface").GetNumberOfPoints()
    hand.stroke((MIDDLE_K, 20, 8))
    hand.wait()
    assert tag(liver, STALE) == "1"
    qt_host.process_events(lambda: not tag(liver, STALE), SECONDS)
    assert liver.GetRepresentation("Closed surface").GetNumberOfPoints() > points


def test_laying_the_effect_aside_drops_what_is_awaited(hand: Hand, editor: Any, qt_host: Any) -> None:
    before = hand.labels()
    work, effect = hand.work, editor.activeEffect()
    place = hand.at(MIDDLE_K, 20, 8)
    hand.stroke((MIDDLE_K, 20, 8))
    hand.event("LeftButtonPress", place)
    editor.setActiveEffect(None)
    assert effect.actors == []
    assert not work.correction.busy
    qt_host.process_events()
    np.testing.assert_array_equal(hand.labels(), before)
    editor.setActiveEffectByName("Correct organ")
    hand.stroke((MIDDLE_K, 20, 8))
    hand.wait()
    assert hand.labels()[MIDDLE_K, 20, 8] == 1


def test_closing_the_scene_while_an_answer_is_awaited_loses_nothing_else(hand: Hand, qt_host: Any) -> None:
    import slicer

    work = hand.work
    hand.stroke((MIDDLE_K, 20, 8))
    slicer.mrmlScene.Clear(0)
    qt_host.process_events(lambda: not work.correction.busy, SECONDS)
    assert "was removed from the scene" in work.pane.status.text


def test_locks_stand_in_the_options_and_hold(hand: Hand, editor: Any) -> None:
    work, node = hand.work, editor.segmentationNode()
    before = hand.labels()
    work.pane.lock_others.checked = True
    hand.stroke((MIDDLE_K, 20, 24))
    hand.wait()
    np.testing.assert_array_equal(hand.labels() == 2, before == 2)
    assert not work.pane.lock_this.checked
    work.pane.lock_others.checked = False
    editor.setCurrentSegmentID("spleen")
    work.pane.lock_this.checked = True
    editor.setCurrentSegmentID("liver")
    assert not work.pane.lock_this.checked
    hand.stroke((MIDDLE_K, 20, 27))
    hand.wait()
    assert "locked" in work.pane.status.text
    np.testing.assert_array_equal(hand.labels() == 2, before == 2)
    editor.setCurrentSegmentID("spleen")
    assert work.pane.lock_this.checked
    assert node.GetSegmentation().GetSegment("spleen").HasTag("MultiOrganSeg.Locked")


def test_next_organ_goes_round_and_options_are_explained(hand: Hand, editor: Any) -> None:
    pane = hand.work.pane
    pane.next_button.click()
    assert editor.currentSegmentID() == "spleen"
    pane.next_button.click()
    assert editor.currentSegmentID() == "liver"
    for word in ("Ctrl", "right", "scribble", "L"):
        assert word in pane.hint.text
    assert "Ctrl+Z" in pane.widget.toolTip


def test_nothing_chosen_is_told(hand: Hand, editor: Any) -> None:
    editor.setSourceVolumeNode(None)
    hand.work.say(object())
    assert "nothing to correct" in hand.work.pane.status.text


def test_correct_in_the_results_opens_the_effect_on_the_organ_and_the_way_back(
    panel: Any, result_node: Any, qt_host: Any
) -> None:
    import slicer

    from MultiOrganSegEffects.CorrectOrganEffect import NAME, register

    register()
    panel.parameters.segmentation = result_node()
    panel.ui.resultsTable.setCurrentCell(1, 0)
    chosen = panel.results._rows[1].segment_id
    panel.ui.correctButton.click()
    editor = slicer.modules.segmenteditor.widgetRepresentation().self().editor
    assert slicer.util.moduleSelector().selectedModule == "SegmentEditor"
    assert (editor.activeEffectName(), editor.currentSegmentID()) == (NAME, chosen)
    role = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
    assert editor.sourceVolumeNode() is panel.parameters.segmentation.GetNodeReference(role)
    work = editor.activeEffect().self().work
    assert work._model == "abdomen-ct"
