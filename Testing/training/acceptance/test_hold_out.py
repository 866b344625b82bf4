from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multiorganseg.organs.labels import LabelTable
from multiorganseg.projects.matrix import LabelStatus, LabelStatusMatrix
from multiorganseg.projects.project import Project, ProjectCase
from multiorganseg_training.acceptance.check import hold_out

A, X, U, P = LabelStatus.ANNOTATED, LabelStatus.ABSENT, LabelStatus.UNKNOWN, LabelStatus.PSEUDO
ORGANS = ("liver", "spleen", "gallbladder")


def made(**rows: tuple[LabelStatus, LabelStatus, LabelStatus]) -> Project:
    """Make a project; each row gives the status of liver, spleen and gallbladder."""
    matrix = LabelStatusMatrix(
        ORGANS, {name: dict(zip(ORGANS, row, strict=True)) for name, row in rows.items()}
    )
    cases = {name: ProjectCase(name, f"images/{name}.nii", f"labels/{name}.nii") for name in rows}
    return Project(Path("p"), "p", LabelTable.numbered(ORGANS), cases, matrix)


def test_a_quarter_is_held_out_where_old_organs_are_annotated_too():
    rows = {f"c{n}": (U, U, A) for n in range(6)} | {"full": (A, A, A), "half": (A, U, A), "other": (A, A, U)}
    split = hold_out(made(**rows), ["gallbladder"])
    assert split.how == "hold-out"
    assert set(split.held_out) == {"full", "half"}
    assert "other" in split.training
    assert set(split.training) | set(split.held_out) == set(rows)


def test_the_choice_is_repeatable_and_follows_the_seed():
    project = made(**{f"c{n}": (U, U, A) for n in range(12)})
    splits = [hold_out(project, ["gallbladder"], seed) for seed in range(6)]
    assert hold_out(project, ["gallbladder"], 0) == splits[0]
    assert len({split.held_out for split in splits}) > 1
    assert {len(split.held_out) for split in splits} == {3}


@pytest.mark.parametrize(("cases", "held_out"), [(4, 1), (8, 2), (40, 10), (100, 10)])
def test_how_many(cases, held_out):
    split = hold_out(made(**{f"c{n:03}": (U, U, A) for n in range(cases)}), ["gallbladder"])
    assert len(split.held_out) == held_out


def test_few_cases_are_cross_validated():
    split = hold_out(made(a=(U, U, A), b=(A, U, A), c=(A, A, A), d=(A, A, U)), ["gallbladder"])
    assert split.how == "cross-validation"
    assert split.training == ("a", "b", "c", "d"), "the final network learns from all"
    assert [fold.held_out for fold in split.folds] == [("a",), ("b",), ("c",)]
    assert split.folds[0].training == ("b", "c", "d")


def test_one_case_is_never_held_out():
    assert hold_out(made(a=(A, A, A), b=(A, A, U)), ["gallbladder"]).how == "none"
    assert hold_out(made(a=(A, A, U), b=(A, A, P)), ["gallbladder"]).how == "none"
    assert hold_out(made(), ["gallbladder"]).how == "none"


def test_cases_where_it_is_absent_do_not_take_the_place_of_the_only_annotated_one():
    split = hold_out(made(a=(A, A, A), b=(A, A, X), c=(A, A, X), d=(A, A, X)), ["gallbladder"])
    assert split.how == "none"


def test_an_absent_case_is_among_three():
    rows = {f"c{n:02}": (A, A, A) for n in range(11)} | {"empty": (U, U, X)}
    split = hold_out(made(**rows), ["gallbladder"])
    assert len(split.held_out) == 3
    assert "empty" in split.held_out


def test_several_organs_must_all_be_known():
    rows = {f"c{n}": (A, A, A) for n in range(4)} | {f"d{n}": (A, U, A) for n in range(4)}
    split = hold_out(made(**rows), ["spleen", "gallbladder"])
    assert len(split.held_out) == 1
    assert split.held_out[0].startswith("c")


def test_cases_of_one_patient_stay_together():
    project = made(**{f"c{n}": (A, A, A) for n in range(8)})
    patients = {f"c{n}": f"P{n // 2}" for n in range(8)}
    for case, patient in patients.items():
        project = project.with_patient([case], patient)
    split = hold_out(project, ["gallbladder"])
    assert len({patients[case] for case in split.held_out}) == 1
    assert len(split.held_out) == 2
    few = hold_out(made(a=(A, A, A), b=(A, A, A)).with_patient(["a", "b"], "x"), ["gallbladder"])
    assert few.how == "none"


@given(
    st.lists(st.tuples(*[st.sampled_from([A, X, U, P])] * 3), max_size=14),
    st.integers(0, 5),
    st.sampled_from([["gallbladder"], ["spleen", "gallbladder"]]),
)
def test_nothing_leaks_and_something_is_left_to_learn(rows, seed, organs):
    project = made(**{f"c{n}": row for n, row in enumerate(rows)})
    split = hold_out(project, organs, seed)
    for part in split.folds or ((split,) if split.how == "hold-out" else ()):
        assert not set(part.training) & set(part.held_out)
        assert set(part.training) | set(part.held_out) == set(project.cases)
        for case in part.held_out:
            assert set(organs) <= project.matrix.known(case)
        for organ in organs:
            assert any(project.matrix.status(case, organ) is A for case in part.training)
    if split.how == "none":
        assert not split.held_out
        assert not split.folds
