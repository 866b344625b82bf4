"""What every answer keeps to, whatever is said of whatever labels."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from multiorganseg.errors import OrganError
from multiorganseg.organs.labels import LabelTable
from multiorganseg.refine import Prompt, Session
from multiorganseg.volumes import Volume

SHAPE = (14, 40, 44)

voxels = st.tuples(*(st.integers(0, size - 1) for size in SHAPE))
clicks = st.builds(lambda v, p: Prompt.click(v, positive=p), voxels, st.booleans())
scribbles = st.builds(
    lambda v, p: Prompt.scribble(v, positive=p), st.lists(voxels, min_size=1, max_size=3), st.booleans()
)


@st.composite
def lassos(draw: st.DrawFn) -> Prompt:
    axis = draw(st.integers(0, 2))
    plane = draw(st.integers(0, SHAPE[axis] - 1))
    points = [list(voxel) for voxel in draw(st.lists(voxels, min_size=3, max_size=5))]
    for point in points:
        point[axis] = plane
    return Prompt.lasso(points, positive=draw(st.booleans()))


prompts = st.one_of(clicks, scribbles, lassos())
organs = st.sampled_from(["liver", "spleen", "mass"])


spoilings = st.tuples(
    st.sampled_from(["whole", "cut", "leak", "empty", "speckled"]),
    st.integers(5, 30),
    st.sampled_from([3, 7]),
)


def _spoiled(truth: np.ndarray, spoiling: tuple[str, int, int]) -> np.ndarray:
    """Labels that lack a slab, have a block too much, are nothing at all, or random."""
    kind, where, value = spoiling
    labels = truth.copy()
    if kind == "cut":
        labels[:, :, where:] = 0
    elif kind == "leak":
        labels[4:10, 10:30, where : where + 10] = value
    elif kind == "empty":
        labels[:] = 0
    elif kind == "speckled":
        labels = np.random.default_rng(where).choice([0, 3, 7], SHAPE).astype(np.uint8)
    return labels


def _session(volume: Volume, labels: np.ndarray, table: LabelTable) -> Session:
    session = Session(volume, labels, table)
    session.add_organ("mass")
    return session


@settings(max_examples=30)
@given(spoilings, organs, prompts, st.lists(st.sampled_from(["liver", "spleen"]), unique=True))
def test_a_prompt_moves_its_organ_its_way_and_nothing_locked(
    case, table, spoiling, organ, prompt, locked
) -> None:
    volume, truth = case
    labels = _spoiled(truth, spoiling)
    session, keep = _session(volume, labels, table), [key for key in locked if key != organ]
    value, fixed = session.table.value(organ), [session.table.value(key) for key in keep]
    spots = tuple(prompt.voxels().T)
    try:
        change = session.correct(organ, [prompt], keep)
    except OrganError:
        assert prompt.positive
        assert np.isin(labels[spots], fixed).all()
        assert np.array_equal(session.labels, labels)
        assert session.steps == []
        return
    before, after = labels == value, session.labels == value
    if prompt.positive:
        assert (after | ~before).all()
        assert (after[spots] | np.isin(labels[spots], fixed)).all()
        assert np.isin(session.labels[session.labels != labels], [value]).all()
    else:
        assert (before | ~after).all()
        assert not after[spots].any()
        assert (labels[session.labels != labels] == value).all()
    for other in fixed:
        assert np.array_equal(labels == other, session.labels == other)
    outside = np.ones(SHAPE, bool)
    outside[change.box] = False
    assert np.array_equal(labels[outside], session.labels[outside])
    assert np.array_equal(change.labels, session.labels[change.box])
    assert np.array_equal(change.before, labels[change.box])
    assert change.voxels == np.count_nonzero(labels != session.labels)


@settings(max_examples=8)
@given(spoilings, st.lists(st.tuples(organs, prompts), min_size=2, max_size=4))
def test_the_last_word_on_a_voxel_holds_and_undo_goes_all_the_way(case, table, spoiling, said) -> None:
    volume, truth = case
    labels = _spoiled(truth, spoiling)
    session, states = _session(volume, labels, table), [labels.copy()]
    for organ, prompt in said:
        session.correct(organ, [prompt])
        states.append(session.labels.copy())
        reported: dict[tuple[int, ...], int] = {}
        for earlier, previous in said[: len(states) - 1]:
            value = session.table.value(earlier)
            for voxel in map(tuple, previous.voxels().tolist()):
                if previous.positive:
                    reported[voxel] = value
                elif reported.get(voxel, value) == value:
                    reported[voxel] = -value
        for voxel, value in reported.items():
            assert (session.labels[voxel] == value) if value > 0 else (session.labels[voxel] != -value)
    again = _session(volume, labels, table)
    again.replay(session.to_json())
    assert np.array_equal(again.labels, session.labels)
    for state in reversed(states[:-1]):
        session.undo()
        assert np.array_equal(session.labels, state)
    assert session.steps == []
