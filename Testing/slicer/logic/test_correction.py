"""Corrections of segments by a real resident process, written by Slicer's real editing logic."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from correction_scene import IDS, MATRIX, SHAPE, add_scene, draw, labels_of, scene_labels

from multiorganseg.errors import MultiOrganSegError, OptionError, OrganError, VolumeError
from multiorganseg.organs.labels import LabelTable
from multiorganseg.refine import Prompt, Session
from multiorganseg.volumes import Volume

ADD, REMOVE = Prompt.click((7, 20, 8)), Prompt.click((7, 20, 20), positive=False)
NEIGHBOUR = Prompt.click((7, 20, 24))
TABLE = LabelTable.numbered(IDS)


def core(labels: np.ndarray) -> Session:
    return Session(Volume(scene_labels()[0], np.diag([1.5, 1.5, 3.0, 1.0])), labels, TABLE)


def said(*prompts: Prompt) -> dict[str, Any]:
    """What a session has been told of the liver."""
    return {"version": 1, "steps": [{"organ": "liver", "prompts": [each.to_json()]} for each in prompts]}


class Case:
    """A volume and a segmentation of it in the scene, and their correction."""

    def __init__(
        self,
        engine: Any,
        matrix: np.ndarray = MATRIX,
        ids: tuple[str, ...] = IDS,
        shared: bool = True,
    ) -> None:
        from MultiOrganSegLib.correct.correction import Correction
        from MultiOrganSegLib.correct.editors import ScriptEditor

        self.volume, self.node = add_scene(matrix, ids, shared)
        self.editor = ScriptEditor(self.node, self.volume)
        self.engine = engine
        self.correction = Correction(engine, self.node, self.volume, self.editor)

    def draw(self, identity: str, mask: np.ndarray) -> None:
        draw(self.node, self.volume, identity, mask)

    def labels(self) -> np.ndarray:
        return labels_of(self.node, self.volume)

    def say(self, *prompts: Prompt, segment: str = "liver") -> None:
        for prompt in prompts:
            self.correction.say(segment, prompt)
        self.correction.wait()


@pytest.fixture(scope="module")
def engine() -> Iterator[Any]:
    """One process for all tests of this file."""
    pytest.importorskip("slicer", reason="needs slicer-core: pip install -e .[slicer-test]")
    import slicer_host

    slicer_host.start()
    from MultiOrganSegLib.engine import Engine

    made = Engine()
    yield made
    made.end()


@pytest.fixture
def make(host: Any, engine: Any) -> Iterator[Callable[..., Case]]:
    made: list[Case] = []

    def build(**changes: Any) -> Case:
        made.append(Case(engine, **changes))
        return made[-1]

    yield build
    for case in made:
        case.correction.close()
        case.editor.close()


@pytest.fixture
def case(make: Callable[..., Case]) -> Case:
    return make()


@pytest.mark.parametrize("shared", [True, False])
def test_answers_are_those_of_the_core_and_undo_gives_all_segments_back(make: Any, shared: bool) -> None:
    case = make(shared=shared)
    layers = case.node.GetSegmentation().GetNumberOfLayers()
    assert layers == (1 if shared else 2)
    before = case.labels()
    session = core(before)
    states = [before]
    for prompt in (ADD, REMOVE, NEIGHBOUR):
        session.correct("liver", [prompt])
        case.say(prompt)
        np.testing.assert_array_equal(case.labels(), session.labels)
        states.append(session.labels.copy())
    assert (states[3] == 2).sum() < (states[2] == 2).sum(), "the neighbour lost voxels too"
    assert case.node.GetSegmentation().GetNumberOfLayers() == layers
    for state in states[2::-1]:
        case.editor.undo()
        np.testing.assert_array_equal(case.labels(), state)
    for state in states[1:]:
        case.editor.redo()
        np.testing.assert_array_equal(case.labels(), state)


def test_undone_prompts_are_unsaid_and_the_next_answer_starts_from_what_is_seen(case: Case) -> None:
    before = case.labels()
    case.say(ADD, NEIGHBOUR)
    case.editor.undo()
    case.editor.undo()
    np.testing.assert_array_equal(case.labels(), before)
    session = core(before)
    session.correct("liver", [REMOVE])
    case.say(REMOVE)
    np.testing.assert_array_equal(case.labels(), session.labels)


def test_what_people_paint_between_prompts_stays(case: Case) -> None:
    case.say(ADD)
    painted = case.labels()
    painted[1:3, 2:6, 30:36] = 1
    case.draw("liver", painted == 1)
    session = core(painted)
    session.remember(said(ADD))
    session.correct("liver", [REMOVE])
    case.say(REMOVE)
    np.testing.assert_array_equal(case.labels(), session.labels)
    assert (case.labels()[1:3, 2:6, 30:36] == 1).all()
    assert {path.name.split("-")[0] for path in case.engine.folder.iterdir()} == {"volume"}


def test_redo_survives_the_timers_after_an_undo(case: Case) -> None:
    from MultiOrganSegLib.correct.segments import make_surfaces
    from MultiOrganSegLib.corrections import recount

    case.node.GetSegmentation().CreateRepresentation("Closed surface")
    case.say(ADD)
    recount(case.node)
    assert make_surfaces(case.node)
    case.editor.undo()
    recount(case.node)
    make_surfaces(case.node)
    assert case.editor.logic.CanRedo()


def test_surfaces_are_put_aside_and_made_anew_when_idle(case: Case) -> None:
    from MultiOrganSegLib.correct.segments import make_surfaces

    segmentation = case.node.GetSegmentation()
    segmentation.CreateRepresentation("Closed surface")
    spleen = segmentation.GetSegment("spleen").GetRepresentation("Closed surface")
    old = segmentation.GetSegment("liver").GetRepresentation("Closed surface")
    volume = old.GetNumberOfPoints()
    case.say(ADD)
    assert segmentation.GetSegment("liver").GetRepresentation("Closed surface") is old
    assert make_surfaces(case.node)
    assert segmentation.GetSegment("liver").GetRepresentation("Closed surface").GetNumberOfPoints() > volume
    assert segmentation.GetSegment("spleen").GetRepresentation("Closed surface") is spleen
    assert not make_surfaces(case.node)


def test_masks_of_the_editor_hold(case: Case) -> None:
    import slicer

    kind, parameters = slicer.vtkMRMLSegmentationNode, case.editor.parameters
    before = case.labels()
    parameters.SetMaskMode(kind.EditAllowedOutsideAllSegments)
    case.say(NEIGHBOUR)
    after = case.labels()
    np.testing.assert_array_equal(after[before > 0], before[before > 0])
    assert (parameters.GetMaskMode(), parameters.GetOverwriteMode()) == (
        kind.EditAllowedOutsideAllSegments,
        0,
    )
    parameters.SetMaskMode(kind.EditAllowedEverywhere)
    parameters.SetSourceVolumeIntensityMask(True)
    parameters.SetSourceVolumeIntensityMaskRange(100.0, 140.0)
    case.say(ADD)
    gained = (case.labels() == 1) & (after != 1)
    voxels = slicer.util.arrayFromVolume(case.volume)
    assert gained.any()
    assert voxels[gained].min() >= 100
    assert voxels[gained].max() <= 140
    assert parameters.GetSourceVolumeIntensityMask()


@pytest.mark.parametrize("how", ["lock", "overwrite none", "hidden"])
def test_locked_and_hidden_neighbours_keep_every_voxel(case: Case, how: str) -> None:
    from MultiOrganSegLib.correct.segments import set_locked

    parameters = case.editor.parameters
    if how == "lock":
        set_locked(case.node, "spleen", True)
    elif how == "hidden":
        case.node.GetDisplayNode().SetSegmentVisibility("spleen", False)
        parameters.SetOverwriteMode(parameters.OverwriteVisibleSegments)
    else:
        parameters.SetOverwriteMode(parameters.OverwriteNone)
    before = case.labels()
    with pytest.raises(OrganError, match="locked"):
        case.say(Prompt.click((7, 20, 30)))
    case.say(NEIGHBOUR)
    after = case.labels()
    np.testing.assert_array_equal(after == 2, before == 2)
    assert (after == 1).sum() > (before == 1).sum()
    if how == "lock":
        with pytest.raises(OrganError, match="locked"):
            case.say(ADD, segment="spleen")


def test_a_grid_that_is_turned_and_a_volume_under_a_transform_are_met_to_the_voxel(make: Any) -> None:
    import slicer

    turn = MATRIX.copy()
    angle = np.deg2rad(20)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turn[:2, :2] = rotation @ turn[:2, :2]
    turn[2, 2] = -3.0
    case = make(matrix=turn)
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = slicer.util.vtkMatrixFromArray(
        np.array([[0.0, 1, 0, 9], [-1, 0, 0, 5], [0, 0, 1, 2], [0, 0, 0, 1]])
    )
    transform.SetMatrixTransformToParent(matrix)
    for node in (case.volume, case.node):
        node.SetAndObserveTransformNodeID(transform.GetID())
    before = case.labels()
    case.say(ADD)
    after = case.labels()
    assert after[7, 20, 8] == 1
    assert np.count_nonzero((after == 1) & (scene_labels()[0] > 80)) > 1.5 * np.count_nonzero(before == 1)
    assert case.node.GetSegmentation().GetNumberOfLayers() == 1


def test_an_organ_is_drawn_from_nothing_and_one_voxel_is_enough_to_start(make: Any) -> None:
    case = make(ids=())
    case.node.GetSegmentation().AddEmptySegment("pancreas", "Pancreas")
    case.say(Prompt.click((7, 20, 14)), segment="pancreas")
    found = case.labels() == 1
    truth = scene_labels()[0] > 80
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.8
    case.node.GetSegmentation().AddEmptySegment("spleen", "Spleen")
    one = np.zeros(SHAPE, bool)
    one[7, 20, 33] = True
    case.draw("spleen", one)
    case.say(Prompt.click((7, 21, 31)), segment="spleen")
    grown = case.labels() == 2
    assert grown.sum() > 60
    assert (scene_labels()[1][grown] == 2).mean() > 0.9
    case.say(Prompt.click((7, 21, 31), positive=False), segment="spleen")
    assert case.labels()[7, 21, 31] != 2


def test_prompts_of_a_saved_scene_go_on(case: Case, make: Any, tmp_path: Any) -> None:
    import slicer

    from MultiOrganSegLib.correct.segments import PROMPTS
    from MultiOrganSegLib.tags import tag

    case.say(ADD, REMOVE)
    labels = case.labels()
    path = tmp_path / "kept.seg.nrrd"
    slicer.util.saveNode(case.node, str(path))
    again = make()
    loaded = slicer.util.loadSegmentation(str(path))
    again.editor.close()
    again.__init__(again.engine)  # type: ignore[misc]
    again.node.GetSegmentation().DeepCopy(loaded.GetSegmentation())
    text = tag(again.node.GetSegmentation().GetSegment("liver"), PROMPTS)
    assert text == tag(case.node.GetSegmentation().GetSegment("liver"), PROMPTS)
    session = core(labels)
    session.remember(
        {"version": 1, "steps": [{"organ": "liver", "prompts": [p.to_json()]} for p in (ADD, REMOVE)]}
    )
    session.correct("liver", [NEIGHBOUR])
    again.say(NEIGHBOUR)
    np.testing.assert_array_equal(again.labels(), session.labels)


@pytest.mark.parametrize("damage", ["###", "bm8=", "W3sibiI6IDF9XQ=="])
def test_damaged_prompts_count_as_nothing_said(case: Case, damage: str) -> None:
    from MultiOrganSegLib.correct.segments import PROMPTS, prompts_of

    case.node.GetSegmentation().GetSegment("liver").SetTag(PROMPTS, damage)
    assert prompts_of(case.node, "liver") == []
    case.say(ADD)
    assert len(prompts_of(case.node, "liver")) == 1


def test_a_click_outside_and_a_segment_that_is_gone_are_told_and_change_nothing(case: Case) -> None:
    before = case.labels()
    for prompt, segment, kind in (
        (Prompt.click((7, 20, 60)), "liver", VolumeError),
        (Prompt.click((-1, 20, 6)), "liver", VolumeError),
        (ADD, "gallbladder", OptionError),
    ):
        with pytest.raises(kind) as caught:
            case.say(prompt, segment=segment)
        assert caught.value.next_step
    np.testing.assert_array_equal(case.labels(), before)
    assert not case.editor.logic.CanUndo()
    case.say(ADD)
    assert case.correction.answered == 1


def test_a_segmentation_of_another_grid_is_refused_before_anything_is_written(case: Case) -> None:
    import slicer

    before = case.labels()
    other = slicer.util.addVolumeFromArray(
        scene_labels()[0][::2, 1:], np.diag([-1.5, -1.5, 6.1, 1.0]), "other"
    )
    case.correction.volume = other
    with pytest.raises(VolumeError, match="does not lie on the grid"):
        case.say(ADD)
    case.correction.volume = case.volume
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    case.volume.SetAndObserveTransformNodeID(transform.GetID())
    with pytest.raises(VolumeError, match="different transforms"):
        case.say(ADD)
    case.volume.SetAndObserveTransformNodeID(None)
    np.testing.assert_array_equal(case.labels(), before)


def test_a_transform_that_is_hardened_meanwhile_opens_the_session_anew(case: Case) -> None:
    import slicer

    case.say(ADD)
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    shift = np.eye(4)
    shift[:3, 3] = (30.0, 0.0, -9.0)
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(shift))
    for node in (case.volume, case.node):
        node.SetAndObserveTransformNodeID(transform.GetID())
        node.HardenTransform()
    before = case.labels()
    session = core(before)
    session.remember(said(ADD))
    session.correct("liver", [REMOVE])
    case.say(REMOVE)
    np.testing.assert_array_equal(case.labels(), session.labels)


@pytest.mark.parametrize("what", ["volume", "segmentation", "scene"])
def test_what_is_removed_while_an_answer_is_awaited_is_told_and_nothing_is_written(
    make: Any, what: str
) -> None:
    import slicer

    case = make()
    case.correction.say("liver", ADD)
    if what == "scene":
        slicer.mrmlScene.Clear(0)
    else:
        slicer.mrmlScene.RemoveNode(case.volume if what == "volume" else case.node)
    with pytest.raises(VolumeError, match="was removed from the scene"):
        case.correction.wait()
    assert case.correction.answered == 0


def test_an_answer_to_what_was_undone_meanwhile_is_dropped(case: Case) -> None:
    before = case.labels()
    case.say(ADD)
    case.correction.say("liver", NEIGHBOUR)
    case.editor.undo()
    case.correction.wait()
    assert "dropped" in case.correction.note
    np.testing.assert_array_equal(case.labels(), before)
    session = core(before)
    session.correct("liver", [REMOVE])
    case.say(REMOVE)
    np.testing.assert_array_equal(case.labels(), session.labels)


def test_two_hundred_clicks_in_a_second_are_all_answered(case: Case, slowness: float) -> None:
    generator = np.random.default_rng(4)
    began = time.monotonic()
    clicks = [
        Prompt.click((7, int(j), int(i)), positive=bool(n % 3))
        for n, (j, i) in enumerate(
            zip(generator.integers(10, 30, 200), generator.integers(5, 40, 200), strict=True)
        )
    ]
    for click in clicks:
        case.correction.say("liver", click)
    assert time.monotonic() - began < 2 * slowness
    assert case.correction.error is None
    case.correction.wait()
    assert case.correction.answered == 200
    last = {click.points[0]: click.positive for click in clicks}
    labels = case.labels()
    assert all((labels[voxel] == 1) == positive for voxel, positive in last.items())


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is of POSIX")
def test_a_crash_costs_a_restart_only_and_says_so(case: Case) -> None:
    case.say(ADD)
    labels = case.labels()
    os.kill(case.engine.pid, signal.SIGKILL)
    session = core(labels)
    session.remember(said(ADD))
    session.correct("liver", [NEIGHBOUR])
    notes = []
    case.correction.say("liver", NEIGHBOUR)
    while case.correction.busy:
        notes.append(case.correction.note)
        case.correction.poll()
        time.sleep(0.02)
    assert case.correction.error is None
    np.testing.assert_array_equal(case.labels(), session.labels)
    case.correction.say("liver", REMOVE)
    os.kill(case.engine.pid, signal.SIGKILL)
    while case.correction.busy:
        notes.append(case.correction.note)
        case.correction.poll()
        time.sleep(0.02)
    assert any("started again" in note for note in notes)
    assert case.correction.answered == 3


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is of POSIX")
def test_a_crash_right_after_a_look_at_the_process_costs_a_restart_only(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    case.say(ADD)
    session = core(case.labels())
    session.remember(said(ADD))
    session.correct("liver", [NEIGHBOUR])
    os.kill(case.engine.pid, signal.SIGKILL)
    while case.engine._job.running:
        time.sleep(0.02)
    monkeypatch.setattr(case.engine, "is_open", lambda name: name in case.engine._sessions)
    case.say(NEIGHBOUR)
    np.testing.assert_array_equal(case.labels(), session.labels)


def test_a_process_about_to_end_for_lack_of_requests_is_replaced_in_time(make: Any) -> None:
    from MultiOrganSegLib.child import IDLE_SECONDS
    from MultiOrganSegLib.engine import Engine

    case = make()
    case.correction._engine = case.engine = Engine()
    case.say(ADD)
    session = core(case.labels())
    session.remember(said(ADD))
    session.correct("liver", [NEIGHBOUR])
    first = case.engine.pid
    case.engine._used = time.monotonic() - IDLE_SECONDS + 10
    case.say(NEIGHBOUR)
    assert case.engine.pid != first
    np.testing.assert_array_equal(case.labels(), session.labels)
    case.correction.say("liver", REMOVE)
    case.engine.end()
    case.correction.wait()
    assert (case.correction.error, case.engine.pid) == (None, None)
    np.testing.assert_array_equal(case.labels(), session.labels)


def test_a_process_that_cannot_be_started_is_told(
    host: Any, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from MultiOrganSegLib.engine import Engine

    case = make()
    case.correction._engine = Engine()
    monkeypatch.setattr("MultiOrganSegLib.child.python_executable", lambda: "/no/such/python")
    with pytest.raises(MultiOrganSegError, match="cannot be started"):
        case.say(ADD)
    assert not case.correction.busy


def test_scripts_correct_by_points_in_ras(host: Any, engine: Any, logic: Any) -> None:
    import slicer

    volume, node = add_scene()
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    shift = np.eye(4)
    shift[:3, 3] = (10.0, -4.0, 6.0)
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(shift))
    for each in (volume, node):
        each.SetAndObserveTransformNodeID(transform.GetID())
    session = core(labels_of(node, volume))
    session.correct("liver", [ADD], ["spleen"])
    session.correct("liver", [REMOVE], ["spleen"])
    points = [(shift @ MATRIX @ (*p.points[0][::-1], 1.0))[:3] for p in (ADD, REMOVE)]
    nodes = len(slicer.util.getNodesByClass("vtkMRMLSegmentEditorNode"))
    logic.correct(node, "liver", add=points[:1], remove=points[1:], lockOthers=True, model="none")
    np.testing.assert_array_equal(labels_of(node, volume), session.labels)
    assert len(slicer.util.getNodesByClass("vtkMRMLSegmentEditorNode")) == nodes
    with pytest.raises(OptionError, match="is gone"):
        logic.correct(node, "tail", add=points[:1], model="none")
    with pytest.raises(VolumeError, match="outside"):
        logic.correct(node, "liver", add=[(900.0, 0.0, 0.0)], model="none")
