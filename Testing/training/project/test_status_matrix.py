from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multiorganseg.errors import OrganError, TrainingError
from multiorganseg.organs.catalogue import load_catalogue
from multiorganseg.projects.file import matrix_from_json, matrix_to_json
from multiorganseg.projects.matrix import united
from multiorganseg_training.cli.progress import LEGEND, cases_table, counts_table
from multiorganseg_training.project import LabelStatus, LabelStatusMatrix, load_matrix, save_matrix

ANNOTATED, ABSENT, UNKNOWN, PSEUDO = LabelStatus


@pytest.fixture
def matrix() -> LabelStatusMatrix:
    return LabelStatusMatrix(
        ("liver", "spleen", "pancreas"),
        {"a": {"liver": ANNOTATED, "spleen": ABSENT}, "b": {"pancreas": PSEUDO, "liver": UNKNOWN}},
    )


def test_what_is_not_said_is_unknown(matrix):
    assert matrix.status("a", "pancreas") is UNKNOWN
    assert matrix.rows["b"] == {"liver": UNKNOWN, "spleen": UNKNOWN, "pancreas": PSEUDO}


def test_known_organs_are_annotated_or_absent(matrix):
    assert matrix.known("a") == {"liver", "spleen"}
    assert matrix.known("b") == frozenset()
    assert matrix.organs_with("b", PSEUDO) == {"pancreas"}
    assert matrix.count("liver", ANNOTATED) == 1


def test_a_change_leaves_the_original_alone(matrix):
    changed = matrix.with_status("b", "liver", ANNOTATED)
    assert changed.known("b") == {"liver"}
    assert matrix.known("b") == frozenset()
    everywhere = matrix.with_statuses(matrix.cases, ["spleen", "liver"], ABSENT)
    assert everywhere.known("a") == everywhere.known("b") == {"liver", "spleen"}


def test_a_matrix_may_have_no_cases():
    empty = LabelStatusMatrix(("liver",))
    assert empty.cases == ()
    assert empty.count("liver", ANNOTATED) == 0
    assert empty.with_case("a").status("a", "liver") is UNKNOWN


def test_rows_and_columns_come_and_go(matrix):
    grown = matrix.with_case("c", {"liver": ABSENT}).with_organ("aorta", PSEUDO)
    assert grown.cases == ("a", "b", "c")
    assert grown.status("c", "aorta") is PSEUDO
    assert grown.without_case("c").without_organ("aorta") == matrix


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda matrix: matrix.with_status("a", "heart", ABSENT), "no organ 'heart'"),
        (lambda matrix: matrix.with_status("z", "liver", ABSENT), "no case 'z'"),
        (lambda matrix: matrix.with_case("a"), "a case 'a' already"),
        (lambda matrix: matrix.with_case("c", {"heart": ABSENT}), "case 'c' speaks of it"),
        (lambda matrix: matrix.with_organ("liver"), "liver more than once"),
        (lambda matrix: matrix.without_organ("heart"), "no organ 'heart'"),
        (lambda matrix: matrix.without_case("z"), "no case 'z'"),
        (lambda matrix: matrix.known("z"), "no case 'z'"),
        (lambda matrix: matrix.status("a", "heart"), "no organ 'heart'"),
        (lambda matrix: matrix.count("heart", ABSENT), "no organ 'heart'"),
        (lambda matrix: matrix.counts("heart"), "no organ 'heart'"),
    ],
)
def test_changes_that_cannot_be(matrix, change, text):
    with pytest.raises(TrainingError, match=text) as caught:
        change(matrix)
    assert caught.value.next_step


def test_organs_are_checked_against_the_catalogue(matrix):
    matrix.check_organs(load_catalogue())
    with pytest.raises(OrganError, match="liver"):
        matrix.with_organ("livr").check_organs(load_catalogue())


statuses = st.sampled_from(list(LabelStatus))
organ_keys = st.lists(st.sampled_from(["liver", "spleen", "aorta", "colon"]), unique=True, max_size=4)


@st.composite
def matrices(draw) -> LabelStatusMatrix:
    organs = draw(organ_keys)
    row = st.fixed_dictionaries({}, optional=dict.fromkeys(organs, statuses))
    return LabelStatusMatrix(tuple(organs), draw(st.dictionaries(st.text(max_size=5), row, max_size=4)))


@given(matrices())
def test_json_round_trip(matrix):
    text = json.dumps(matrix_to_json(matrix))
    assert matrix_from_json(json.loads(text)) == matrix
    assert matrix_from_json(json.loads(text)).cases == matrix.cases


def test_file_round_trip(matrix, tmp_path):
    path = tmp_path / "Matrix ä.json"
    save_matrix(matrix, path)
    assert load_matrix(path) == matrix
    assert json.loads(path.read_text(encoding="utf-8"))["cases"]["a"] == {
        "annotated": ["liver"],
        "absent": ["spleen"],
    }
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"schema_version": 1, "organs": ["liver"], "cases": {"a": {"seen": ["liver"]}}}', "seen"),
        (
            '{"schema_version": 1, "organs": ["liver"], "cases":'
            ' {"a": {"absent": ["liver"], "annotated": ["liver"]}}}',
            "two statuses",
        ),
        ('{"schema_version": 1, "organs": ["liver"], "cases": {"a": {"absent": ["aorta"]}}}', "no organ"),
        ('{"schema_version": 1, "organs": ["liver"], "cases": {"a": {"absent": "liver"}}}', "must be a list"),
        ('{"schema_version": 1, "organs": ["liver"], "cases": {"a": {}, "a": {}}}', "stands twice"),
        ('{"schema_version": 1, "organs": "liver", "cases": {}}', "must be a list"),
        ('{"schema_version": 1, "organs": [1], "cases": {}}', "must be text"),
        ('{"schema_version": 1, "organs": []}', "cases"),
        ('{"schema_version": 2, "organs": [], "cases": {}}', "schema version 2"),
        ("[]", "not a JSON object"),
    ],
)
def test_damaged_files(tmp_path, text, problem):
    path = tmp_path / "matrix.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(TrainingError, match=problem) as caught:
        load_matrix(path)
    assert caught.value.next_step


def test_a_missing_file(tmp_path):
    with pytest.raises(TrainingError, match="Cannot read"):
        load_matrix(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("parts", "whole"),
    [
        ([ANNOTATED, ANNOTATED], ANNOTATED),
        ([ANNOTATED, ABSENT], ANNOTATED),
        ([ABSENT, ABSENT], ABSENT),
        ([ANNOTATED, UNKNOWN], UNKNOWN),
        ([ABSENT, UNKNOWN], UNKNOWN),
        ([PSEUDO, UNKNOWN], UNKNOWN),
        ([PSEUDO, ABSENT], PSEUDO),
        ([ANNOTATED, PSEUDO], PSEUDO),
    ],
)
def test_a_union_is_known_only_when_every_part_is(parts, whole):
    assert united(parts) is whole


def test_tables(matrix):
    counts = counts_table(matrix)
    assert [list(column.cells) for column in counts.columns] == [
        ["liver", "spleen", "pancreas"],
        ["1", "", ""],
        ["", "1", ""],
        ["1", "1", "1"],
        ["", "", "1"],
    ]
    cases = cases_table(matrix)
    assert [str(cell) for cell in cases.columns[2].cells] == ["–", "?"]
    assert LEGEND == "● annotated, – absent, ? unknown, ~ pseudo"
